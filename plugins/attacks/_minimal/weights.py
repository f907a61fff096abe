"""The search for the weight of the scores in distance + weight * objective, for each example by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from .._base.active import State
from .._base.vectors import TINY
from .nearest import SETTLED

__all__ = ["STALLED", "Tried", "bounded", "least"]

STALLED = 0.995
"""Share of its last checked value above which an objective counts as stalled; its row goes on to the next weight."""

FIRST = (1e-9, 1e5)
"""Bounds of a first weight derived from the slope, for scores of spread 1: a flat objective says little at first."""


@dataclass
class Tried(State):
    """Search of each row, (b,) in each field but the first.

    x_adv: (b, *S). c: the weight. last: the objective when it was last checked, infinite before. lower, upper: the
    greatest weight that failed and the least that succeeded. count, left: int64, steps with this weight and weights
    that are left. size: distance of the nearest success when this weight began. missed: int64, weights in a row that
    brought none nearer.
    """

    x_adv: Tensor
    c: Tensor
    last: Tensor
    lower: Tensor
    upper: Tensor
    count: Tensor
    left: Tensor
    size: Tensor
    missed: Tensor

    @classmethod
    def start(cls, x: Tensor, searches: int, **own: Tensor) -> Self:
        """State at the clean inputs `x` (b, *S), with an unknown weight. own: fields of the subclass."""
        zero, none, unknown = x.new_zeros(len(x)), x.new_zeros(len(x)).long(), x.new_full((len(x),), torch.inf)
        return cls(x, zero, unknown, zero, unknown, none, none + searches, unknown, none, **own)

    def succeed(self, won: Tensor) -> None:
        """Note that the weight of the rows `won` (b,) bool suffices."""
        self.upper = torch.where(won, torch.minimum(self.upper, self.c), self.upper)

    def stalled(self, total: Tensor, last: Tensor) -> Tensor:
        """Rows whose objective `total` (b,) has stopped falling, or whose `last` (b,) step with this weight it is."""
        done = ~(total <= STALLED * self.last) | last
        self.last = total
        return done

    def next_weight(self, those: Tensor, size: Tensor) -> None:
        """Take the next weight where `those` (b,) bool is true: tenfold up to the first success, then bisection.

        size: (b,), distance of the nearest success.
        """
        failed = those & (self.c < self.upper)
        self.lower = torch.where(failed, torch.maximum(self.lower, self.c), self.lower)
        other = torch.where(torch.isfinite(self.upper), (self.lower + self.upper) / 2.0, 10.0 * self.c)
        self.c = torch.where(those, other, self.c)
        self.last = torch.where(those, torch.inf, self.last)
        self.count = torch.where(those, 0, self.count)
        self.left = self.left - those.long()
        nearer = size <= (1.0 - SETTLED) * self.size
        self.missed = torch.where(those, torch.where(nearer, 0, self.missed + 1), self.missed)
        self.size = torch.where(those, size, self.size)


def bounded(c: Tensor, logits: Tensor) -> Tensor:
    """First weights `c` (b,) within :data:`FIRST`, in the unit of the scores: their spread in `logits` (b, K)."""
    spread = (logits.double().amax(1) - logits.double().amin(1)).nan_to_num(nan=1.0, posinf=1.0).clamp_min(TINY)
    return ((c.double() * spread).nan_to_num(nan=1.0).clamp(*FIRST) / spread).to(logits.dtype)


def least(gradient: Tensor, value: Tensor, logits: Tensor) -> Tensor:
    """The c at which ||delta||^2 + c * objective is least where the objective is 0, if that is linear, (b,).

    gradient: (b, *S) of the objective at the clean inputs. value: (b,), the objective there; logits: (b, K).
    """
    steep = gradient.flatten(1).double().square().sum(1).clamp_min(TINY**2)
    return bounded(2.0 * value.double().abs() / steep, logits)
