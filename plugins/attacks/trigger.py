"""Trigger of a backdoored system, applied at test time. Gu et al., 2017, arXiv:1708.06733, section 4."""

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
    """Applies the trigger of the system's poison to each input; there is no search, and no norm applies.

    An example is broken if the system predicts the poison's target label; examples of that label are not attacked. For
    poisons that change nothing at test time the input is unchanged.
    """

    supports: ClassVar[Supports] = Supports(access=Access.labels, bounded=False, trigger=True)

    def check(self, spec: DataSpec, threat: Threat) -> None:
        """Refuse regions: a trigger is where the poison put it."""
        if threat.region.kind is not RegionKind.full:
            raise Refused(
                f"attack.trigger applies a trigger wherever the poison put it, but threat.region is {threat.region}; "
                "choose threat.region.kind=full"
            )

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Inputs with the trigger; no passes."""
        return target.triggered(x)


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return Trigger
