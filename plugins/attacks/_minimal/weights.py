"""The search for the weight of the scores in distance + weight * objective, for each example by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from benchmark.api import Ball

from .._base.active import Active, Loss, State
from .._base.best import Best
from .._base.losses import AttackLoss
from .._base.vectors import TINY, columns, usable
from .nearest import SETTLED, distance_to, keep_nearest
from .nearest_class import past_twins

__all__ = ["STALLED", "Tried", "ask_clean", "least", "misses", "search_weight"]

STALLED = 0.995
"""Share of its last checked value above which an objective counts as stalled; its row goes on to the next weight."""

FIRST = (1e-10, 1e4)
"""Bounds of a first weight derived from the slope: an objective that is flat at first says little."""


@dataclass
class Tried(State):
    """Search of each row, (b,) in each field but the first.

    x_adv: (b, *S). c: the weight. last: the objective when it was last checked, infinite before. lower, upper: the
    greatest weight that failed and the least that succeeded. broken: bool, success with this weight. count, left:
    int64, steps with this weight and weights that are left. size: distance of the nearest success when this weight
    began. missed: int64, weights in a row that brought none nearer.
    """

    x_adv: Tensor
    c: Tensor
    last: Tensor
    lower: Tensor
    upper: Tensor
    broken: Tensor
    count: Tensor
    left: Tensor
    size: Tensor
    missed: Tensor

    @staticmethod
    def at(x: Tensor, searches: int) -> dict[str, Tensor]:
        """The fields at the clean inputs `x` (b, *S); the weight is not yet known."""
        zero = x.new_zeros(len(x))
        return {
            "x_adv": x,
            "c": zero,
            "last": zero + torch.inf,
            "lower": zero,
            "upper": zero + torch.inf,
            "broken": zero.bool(),
            "count": zero.long(),
            "left": zero.long() + searches,
            "size": zero + torch.inf,
            "missed": zero.long(),
        }

    def next_weight(self, those: Tensor, size: Tensor) -> None:
        """Take the next weight where `those` (b,) bool is true: tenfold up to the first success, then bisection.

        size: (b,), how far the nearest success is.
        """
        self.upper = torch.where(those & self.broken, torch.minimum(self.upper, self.c), self.upper)
        self.lower = torch.where(those & ~self.broken, torch.maximum(self.lower, self.c), self.lower)
        other = torch.where(torch.isfinite(self.upper), (self.lower + self.upper) / 2.0, 10.0 * self.c)
        self.c = torch.where(those, other, self.c)
        self.last = torch.where(those, torch.inf, self.last)
        self.broken = self.broken & ~those
        self.count = torch.where(those, 0, self.count)
        self.left = self.left - those.long()
        missed = torch.where(size <= (1.0 - SETTLED) * self.size, 0, self.missed + 1)
        self.missed = torch.where(those, missed, self.missed)
        self.size = torch.where(those, size, self.size)


W = TypeVar("W", bound=Tried)


def ask_clean(active: Active, best: Best) -> Active:
    """Examples whose clean input does not succeed; one forward and backward pass each, as far as the budget goes.

    Rows whose margin is flat aim at the nearest class; see :func:`past_twins`.
    """
    (active,) = active.keep(active.affordable())
    if len(active) == 0:
        return active
    gradient, _, logits = active.gradient(active.ball.x, AttackLoss.margin)
    active, gradient = active.keep(~keep_nearest(best, active, active.ball.x, logits), gradient)
    return past_twins(active, gradient) if len(active) else active


def search_weight(
    active: Active,
    best: Best,
    rows: W,
    *,
    steps: int,
    every: int,
    misses: int,
    initial_c: float | None,
    likely_c: Callable[[Tensor, Tensor], Tensor],
    objective: Loss,
    size: Callable[[Tensor], Tensor],
    move: Callable[[W, Ball, Tensor, Tensor, int], None],
) -> None:
    """Descend ||delta||^2 + c * objective for one weight c after the other, each from where the last one ended.

    Args:
        active: the rows to work on. best: the nearest successes. rows: their state, at the clean inputs.
        steps: iterations for one c at most; a row whose objective has stopped falling goes on to its next c.
        every: steps between two checks of that.
        misses: an example ends after so many c in a row that brought the nearest success no nearer by SETTLED.
        initial_c: the first c; None takes `likely_c` of the objective's gradient (b, *S) and the objective (b,) at the
            clean inputs.
        objective: a loss to descend. size: of delta (b, *S), the rest of what is descended, (b,): it decides whether a
            row is still falling.
        move: changes the rows in place, given the ball, the gradient of ||delta||^2 + c * objective and delta (b, *S),
            and the number of steps before.

    Cost: a forward and a backward pass per step and example.
    """
    step = 0
    while True:
        active, rows = active.keep(active.affordable(), rows)
        if len(active) == 0:
            break
        gradient, value, logits = active.descent(rows.x_adv, objective)
        gradient = usable(gradient, active.ball)
        if step == 0:
            rows.c = rows.c + (likely_c(gradient, value) if initial_c is None else initial_c)
        delta = rows.x_adv - active.ball.x
        rows.broken = rows.broken | keep_nearest(best, active, rows.x_adv, logits)
        check = step % every == 0
        if check:
            total = size(delta) + rows.c * value
            done = ~(total <= STALLED * rows.last) | (rows.count + every > steps)
            rows.last = total
        move(rows, active.ball, 2.0 * delta + columns(rows.c, delta) * gradient, delta, step)
        rows.count = rows.count + 1
        if check and bool(done.any()):
            rows.next_weight(done, distance_to(best, active))
            active, rows = active.keep((rows.left > 0) & (rows.missed < misses), rows)
        step += 1


def misses(patience: float, searches: int) -> int:
    """Number of weights in a row that may bring nothing nearer: that share of them, at least one."""
    return max(round(patience * searches), 1)


def least(gradient: Tensor, value: Tensor) -> Tensor:
    """The c at which ||delta||^2 + c * objective is least where the objective is 0, if that is linear, (b,).

    gradient: (b, *S) of the objective at the clean inputs. value: (b,), the objective there.
    """
    steep = gradient.flatten(1).square().sum(1).clamp_min(TINY)
    return (2.0 * value.abs() / steep).nan_to_num(nan=1.0).clamp(*FIRST)
