"""The threat model: norm, exact radius, region, goal, access, awareness and budget.

A :class:`Threat` is configuration and holds no tensors. The set of allowed inputs around a batch is a
:class:`benchmark.threat.ball.Ball`, made by :meth:`Threat.around`: the only norms and projections in the project.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

from benchmark.errors import ConfigError
from benchmark.threat.kinds import Access, Goal, Norm, Region

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.sampling import SampleRandom
    from benchmark.threat.ball import Ball
    from benchmark.threat.region import Masks
    from benchmark.threat.table import TableRegion

__all__ = ["Threat"]


MOST_LEVELS = 65536
"""Finest grid in [0, 1] that single precision can tell from its rounding."""


@dataclass(frozen=True)
class Threat:
    """The attacker's goal, knowledge and limits.

    norm, eps: the ball, in units of the [0, 1] input range (for l0: the number of features that may change).
    goal: the wrong answers that count.
    access: the attacker's access to the system: gradients, scores, labels or a surrogate model.
    aware: True if the attacker sees the defense (adaptive), False for only the undefended model (oblivious).
    region: features that may change.
    queries: forward passes allowed per example; None for no limit.
    eot: draws that a gradient of a randomised system is averaged over (Athalye et al., ICML 2018).
    surrogate: under transfer access, the store's key of the attacker's system; those of several, whose scores are
    averaged,
        are joined by commas.
    levels: number of values per feature of a candidate, k / (levels - 1), 256 for images of 8 bits; None for real
        numbers. An unchanged feature may lie between them. The core rounds every candidate and every query of the
        attacker: see :meth:`benchmark.threat.ball.Ball.quantise`.
    masks: the region of each example, if regions differ, set by the core (:mod:`benchmark.stages.settle`); not
        configuration.
    table: the rules of the data's features, set by the core in the same way.
    """

    norm: Norm = Norm.linf
    eps: Fraction = Fraction(8, 255)
    goal: Goal = Goal.untargeted
    access: Access = Access.gradients
    aware: bool = True
    region: Region = Region()
    queries: int | None = None
    eot: int = 1
    surrogate: str = ""
    levels: int | None = None
    masks: Masks | None = field(default=None, repr=False, compare=False)
    table: TableRegion | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.queries is not None and self.queries < 1:
            raise ConfigError(f"threat.queries is {self.queries}; expected at least 1, or null for no limit")
        if self.eot < 1:
            raise ConfigError(f"threat.eot is {self.eot}; expected at least 1 draw")
        if self.levels is not None and not 2 <= self.levels <= MOST_LEVELS:
            raise ConfigError(
                f"threat.levels is {self.levels}; expected 2 to {MOST_LEVELS} values per feature (256 for 8 bits), or "
                "null for real numbers"
            )
        if self.norm is Norm.linf and self.eps > 1:
            raise ConfigError(
                f"threat.eps is {self.eps} under linf; inputs lie in [0, 1], so a radius in 0-255 units must be "
                f"divided by 255 ({self.eps}/255)"
            )
        if self.norm is Norm.l0 and self.eps.denominator != 1:
            raise ConfigError(f"threat.eps is {self.eps} under l0; expected a whole number of features")
        if (self.access is Access.transfer) != bool(self.surrogate):
            raise ConfigError(
                f"threat.access is {self.access.value} and threat.surrogate is {self.surrogate!r}; transfer access "
                "needs the key of a system in the store, other access must have none"
            )

    @property
    def surrogates(self) -> tuple[str, ...]:
        """Systems that a transfer attacker has."""
        return tuple(self.surrogate.split(",")) if self.surrogate else ()

    @property
    def targeted(self) -> bool:
        """True if success means one given label."""
        return self.goal.names_label

    @property
    def radius(self) -> float:
        """eps as a float."""
        return float(self.eps)

    def unbounded(self) -> Threat:
        """Copy without a limit on the distance, for minimal attacks."""
        return dataclasses.replace(self, eps=Fraction(10**12) if self.norm is not Norm.linf else Fraction(1))

    def around(self, x: Tensor, rng: SampleRandom) -> Ball:
        """Set of allowed inputs around `x` (B, *S); `rng` identifies the examples.

        Also draws a random region, unless it is fixed in `masks`.
        """
        from benchmark.threat.ball import Ball
        from benchmark.threat.region import region_mask

        mask = region_mask(self.region, x, rng) if self.masks is None else self.masks.at(rng.ids)
        if self.table is not None:
            movable = self.table.movable.to(x.device)
            mask = movable if mask is None else mask & movable
        return Ball(x, self.norm, self.radius, mask, self.levels, self.table)
