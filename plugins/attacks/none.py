"""No attack: the clean input. The baseline that every robust accuracy is read against; it has no paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from benchmark import hookimpl
from benchmark.api import Attack, Supports
from benchmark.sampling import SampleRandom
from benchmark.target import Target
from benchmark.threat import Access, Threat


@dataclass(frozen=True)
class NoAttack(Attack):
    """Proposes the clean input, under any threat and at no cost."""

    supports: ClassVar[Supports] = Supports(access=Access.labels, targeted=True)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """`x` itself."""
        return x


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return NoAttack
