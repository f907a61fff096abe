"""The search for the weight of the scores in distance + weight * objective, for each example by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from benchmark.api import Ball, Target

from .._base.steps import can_ask
from .._base.vectors import TINY, columns
from .boundary import usable
from .minimal import SETTLED, Nearest, Rows, only

__all__ = ["STALLED", "Tried", "Weighed", "ask_clean", "least", "misses", "search_weight"]

STALLED = 0.995
"""Of its value at the last check: an objective above that has stopped falling, and its row is given up."""

FIRST = (1e-10, 1e4)
"""Between these is the first weight, where it goes by the slope: an objective that is flat at first says little."""


@dataclass
class Weighed(Rows):
    """c: (b,), the weight. last: (b,), the objective when it was last checked, infinite before."""

    c: Tensor
    last: Tensor


@dataclass
class Tried(Weighed):
    """lower, upper: (b,), the greatest weight that failed and the least that succeeded. broken: (b,) bool, whether this
    one did. count, left: (b,) int64, the steps with this weight and the weights that are left. size: (b,), how far the
    nearest success was when this weight began. missed: (b,) int64, how many weights in a row brought none nearer.
    """

    lower: Tensor
    upper: Tensor
    broken: Tensor
    count: Tensor
    left: Tensor
    size: Tensor
    missed: Tensor

    @staticmethod
    def at(index: Tensor, x: Tensor, searches: int) -> dict[str, Tensor]:
        """The fields at the clean inputs `x` (b, *S); the weight is not yet known."""
        zero = x.new_zeros(len(index))
        return {
            "index": index,
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
        """Where `those` (b,) bool is true, the next weight: tenfold up to the first success, then bisection.

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


def ask_clean(target: Target, nearest: Nearest) -> Tensor:
    """(b,) int64: the examples that do not succeed as they are; one forward pass each, as far as the budget goes."""
    index = can_ask(target).nonzero().squeeze(1)
    if len(index) == 0:
        return index
    x = nearest.ball.x[index]
    return index[~nearest.offer(index, x, target.rows(index).logits(x), clean=True)]


def search_weight(
    target: Target,
    nearest: Nearest,
    rows: W,
    *,
    steps: int,
    every: int,
    misses: int,
    initial_c: float | None,
    likely_c: Callable[[Tensor, Tensor], Tensor],
    objective: Callable[[Tensor, Tensor], Tensor],
    size: Callable[[Tensor], Tensor],
    move: Callable[[W, Ball, Tensor, Tensor, int], None],
) -> None:
    """Descend ||delta||^2 + c * objective for one weight c after the other, each from where the last one ended.

    Args:
        target: the system. nearest: what is found. rows: the examples to work on, at the clean inputs.
        steps: iterations for one c at most; a row whose objective has stopped falling goes on to its next c.
        every: this is checked after so many steps.
        misses: an example is left after so many c in a row that brought the nearest success no nearer by SETTLED.
        initial_c: the first c; None takes `likely_c` of the objective's gradient (b, *S) and the objective (b,) at the
            clean inputs.
        objective: from labels (b,) and logits (b, K) to (b,). size: of delta (b, *S), the rest of what is descended,
            (b,): it decides whether a row is still falling.
        move: changes the rows in place, given the gradient of ||delta||^2 + c * objective, delta (b, *S) each, and the
            number of steps before.

    Cost: a forward and a backward pass per step and example.
    """
    part, view = nearest.rows(rows.index), target.rows(rows.index)
    step = 0
    while True:
        able = view.remaining()
        if able is not None and bool((able <= 0).any()):
            rows, view, part = only(able > 0, rows, target, nearest, part)
        if len(rows.index) == 0:
            break
        gradient, value, logits = view.gradient(rows.x_adv, partial(objective, part.y))
        gradient = usable(gradient, part.ball)
        if step == 0:
            rows.c = rows.c + (likely_c(gradient, value) if initial_c is None else initial_c)
        delta = rows.x_adv - part.ball.x
        rows.broken = rows.broken | part.see(rows.x_adv, delta, logits)
        check = step % every == 0
        if check:
            total = size(delta) + rows.c * value
            done = ~(total <= STALLED * rows.last) | (rows.count + every > steps)
            rows.last = total
        move(rows, part.ball, 2.0 * delta + columns(rows.c, delta) * gradient, delta, step)
        rows.count = rows.count + 1
        if check and bool(done.any()):
            rows.next_weight(done, part.size)
            going = (rows.left > 0) & (rows.missed < misses)
            if not bool(going.all()):
                rows, view, part = only(going, rows, target, nearest, part)
        step += 1
    nearest.put(rows.index, part)


def misses(patience: float, searches: int) -> int:
    """How many weights in a row may bring nothing nearer: that share of them, and one at least."""
    return max(round(patience * searches), 1)


def least(gradient: Tensor, value: Tensor) -> Tensor:
    """(b,): the c at which ||delta||^2 + c * objective is least where the objective is 0, if that is linear.

    gradient: (b, *S) of the objective at the clean inputs. value: (b,), the objective there.
    """
    steep = gradient.flatten(1).square().sum(1).clamp_min(TINY)
    return (2.0 * value.abs() / steep).nan_to_num(nan=1.0).clamp(*FIRST)
