"""The trigger of a backdoored system, shown at test time. Gu et al., 2017, arXiv:1708.06733, section 4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from benchmark.api import (
    Access,
    Attack,
    DataSpec,
    Refused,
    RegionKind,
    SampleRandom,
    Supports,
    Target,
    Threat,
    hookimpl,
)


@dataclass(frozen=True)
class Trigger(Attack):
    """Puts the trigger of the system's poison on each input; nothing is sought, and no norm applies.

    An example is broken if the system gives the poison's label; examples of that label are not attacked. For poisons
    that change nothing at test time the input stays as it is.
    """

    supports: ClassVar[Supports] = Supports(access=Access.labels, bounded=False, trigger=True)

    def check(self, spec: DataSpec, threat: Threat) -> None:
        """Refuse regions: a trigger lies where the poison put it."""
        if threat.region.kind is not RegionKind.full:
            raise Refused(
                f"attack.trigger shows a trigger wherever the poison put it, and threat.region is {threat.region}; "
                "choose threat.region.kind=full"
            )

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """The inputs with the trigger; no passes."""
        return target.triggered(x)


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return Trigger
