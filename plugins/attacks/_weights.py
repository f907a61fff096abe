"""The search for the weight of the scores in distance + weight * objective, for each example by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from benchmark.ball import Ball
from benchmark.target import Target

from ._minimal import Nearest, Rows
from ._steps import can_ask
from ._vectors import wide

__all__ = ["STALLED", "Weighed", "ask_clean", "search_weight"]

STALLED = 0.9999
"""Of its value a tenth of the steps ago: an objective above that has stopped falling, and its row is given up."""


@dataclass
class Weighed(Rows):
    """c: (b,), the weight. last: (b,), the objective when it was last checked, infinite before."""

    c: Tensor
    last: Tensor


W = TypeVar("W", bound=Weighed)


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
    index: Tensor,
    *,
    searches: int,
    steps: int,
    initial_c: float,
    objective: Callable[[Tensor, Tensor], Tensor],
    size: Callable[[Tensor], Tensor],
    start: Callable[[Tensor, Tensor], W],
    move: Callable[[W, Ball, Tensor, int], None],
) -> None:
    """Descend ||delta||^2 + c * objective for `searches` weights c: tenfold up to the first success, then bisection.

    Args:
        target: the system. nearest: what is found. index: (b,), the examples to work on.
        steps: iterations for one c at most. initial_c: the first c.
        objective: from labels (b,) and logits (b, K) to (b,). size: of delta (b, *S), the rest of what is descended,
            (b,): it decides whether a row is still falling.
        start: the rows for examples (b,) and weights (b,). move: changes the rows in place, given the gradient of
            ||delta||^2 + c * objective, and the step.

    Cost: a forward and a backward pass per step and example.
    """
    lower, upper = torch.zeros_like(nearest.size), torch.full_like(nearest.size, torch.inf)
    c = torch.full_like(nearest.size, initial_c)
    for _ in range(searches):
        rows = start(index, c[index])
        broken = torch.zeros_like(nearest.y, dtype=torch.bool)
        for step in range(steps):
            left = can_ask(target.rows(rows.index))
            if not bool(left.all()):
                rows = rows.keep(left)
            if len(rows.index) == 0:
                break
            y, ball = nearest.y[rows.index], nearest.ball.rows(rows.index)
            gradient, value, logits = target.rows(rows.index).gradient(rows.x_adv, partial(objective, y))
            broken[rows.index] |= nearest.offer(rows.index, rows.x_adv, logits)
            delta = rows.x_adv - ball.x
            slope = 2.0 * delta + wide(rows.c, delta) * gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
            move(rows, ball, slope, step)
            if step % max(steps // 10, 1) == 0:
                total = size(delta) + rows.c * value
                falling = total <= STALLED * rows.last
                rows.last = total
                rows = rows if bool(falling.all()) else rows.keep(falling)
        upper = torch.where(broken, torch.minimum(upper, c), upper)
        lower = torch.where(broken, lower, torch.maximum(lower, c))
        c = torch.where(torch.isfinite(upper), (lower + upper) / 2.0, 10.0 * c)
