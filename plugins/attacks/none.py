"""No attack: the clean input. Baseline for every robust accuracy. No paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from benchmark.api import EVERY_TASK, Access, Attack, SampleRandom, Supports, Target, Threat, hookimpl


@dataclass(frozen=True)
class NoAttack(Attack):
    """Proposes the clean input under any threat, without passes."""

    tasks: ClassVar[frozenset[str]] = EVERY_TASK
    supports: ClassVar[Supports] = Supports(access=Access.labels, targeted=True, top5=True)

    def forwards(self, threat: Threat) -> int:
        """No pass."""
        return 0

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """The clean input `x`."""
        return x


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return NoAttack
