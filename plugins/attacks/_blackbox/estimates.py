"""What the score-based attacks share: ascent on the margin along a gradient that is estimated from scores.

Differences are taken at points that may lie outside ball and box by the length of the difference, as in the papers'
programs: cut off there, they would be no differences of that length. Candidates never lie outside.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmark.api import Ball, SampleRandom, Target, Threat

from .._base.active import may_settle
from .queries import Oracle, fold

__all__ = ["Best", "Estimate", "Noise", "antithetic", "climb", "default_step", "finite", "visited"]

Estimate = Callable[[Tensor, Ball, Tensor, int], Tensor]
"""From the examples (b,) int64, their balls, their inputs (b, *S) and the number of the step, to a gradient (b, *S)."""

Noise = Callable[[SampleRandom, int, int], Tensor]
"""From the randomness of b examples, a number of draws n and the first one, to directions (b, n, *S)."""


class Best:
    """Per example the best candidate seen: a success before a failure, then the higher margin.

    x_adv: (B, *S). value: (B,), minus infinity before anything was seen. won: (B,) bool.
    settle: whether a success that is seen is one that counts, so that the example is done.
    """

    def __init__(self, target: Target, threat: Threat, x: Tensor) -> None:
        self.x_adv = x
        self.value = torch.full((len(x),), -torch.inf, dtype=x.dtype, device=x.device)
        self.won = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.settle = may_settle(target, threat)

    def offer(self, index: Tensor, x_adv: Tensor, value: Tensor, won: Tensor) -> Tensor:
        """Take over those of `x_adv` (b, *S), one per example, that are better; (b,) bool says which."""
        better = (won & ~self.won[index]) | ((won == self.won[index]) & (value > self.value[index]))
        rows = index[better]
        self.x_adv = self.x_adv.index_copy(0, rows, x_adv[better])
        self.value[rows], self.won[rows] = value[better].to(self.value.dtype), won[better]
        return better

    def offer_all(self, index: Tensor, proposals: Tensor, values: Tensor, won: Tensor) -> None:
        """Take over what is better of several proposals (b, n, *S) per example; values (b, n), won (b, n) bool."""
        eligible = torch.where(won.any(1, keepdim=True) & ~won, -torch.inf, values)
        row, top = torch.arange(len(index), device=index.device), eligible.argmax(1)
        self.offer(index, proposals[row, top], values[row, top], won[row, top])

    def todo(self, oracle: Oracle, index: Tensor) -> Tensor:
        """Those of the examples `index` that are worked on: within their budget and not done."""
        if self.settle:
            index = index[~self.won[index]]
        return index[oracle.can_ask(index)]


def climb(
    oracle: Oracle, best: Best, *, ball: Ball, start: Tensor, steps: int, step_size: float, estimate: Estimate
) -> Tensor:
    """(B, *S): the best of the iterates x <- project(x + step_size * steepest(estimate of the gradient at x)).

    Every iterate, the start included, is asked about: one query per step beside those of the estimate. An example whose
    budget ends between keeps the best iterate that was asked about.
    """
    x_adv = start
    index = torch.arange(len(start), device=start.device)
    for step in range(steps + 1):
        index = best.todo(oracle, index)
        if len(index) == 0:
            break
        value, won = oracle.value(index, x_adv[index])
        best.offer(index, x_adv[index], value, won)
        index = best.todo(oracle, index)
        if step == steps or len(index) == 0:
            break
        here = ball.rows(index)
        gradient = finite(estimate(index, here, x_adv[index], step))
        x_adv = x_adv.index_copy(0, index, here.project(x_adv[index] + step_size * here.steepest(gradient)))
    return best.x_adv


def finite(gradient: Tensor) -> Tensor:
    """`gradient` with zero for what is not a number."""
    return gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def antithetic(
    oracle: Oracle,
    index: Tensor,
    ball: Ball,
    x_adv: Tensor,
    *,
    rng: SampleRandom,
    noise: Noise,
    pairs: int,
    sigma: float,
) -> Tensor:
    """(b, *S): the sum over `pairs` directions u of u (f(x + sigma u) - f(x - sigma u)) / (2 sigma pairs).

    f is the margin. A pair that the budget cuts in two is left out. ball, x_adv: of the examples `index` (b,).
    """
    total = torch.zeros_like(x_adv)
    size = max(1, oracle.group(len(index), x_adv[0].numel()) // 2)
    for first in range(0, pairs, size):
        group = min(size, pairs - first)
        made = noise(rng.rows(index), group, first)
        if ball.mask is not None:
            made = torch.where(ball.mask[:, None], made, 0.0)
        here, change = x_adv[:, None], sigma * made
        both = torch.stack([here + change, here - change], 2).flatten(1, 2)
        values, _, answered = oracle.values(index, both)
        values, whole = values.reshape(len(index), group, 2), answered.reshape(len(index), group, 2).all(2)
        weight = torch.where(whole, (values[:, :, 0] - values[:, :, 1]) / (2.0 * sigma * pairs), 0.0)
        total = fold(finite(weight), made, total)
        if not bool(answered.any()):
            break
    return total


def default_step(step_size: float | None, threat: Threat, steps: int) -> float:
    """`step_size`, or where it is None, a step with which the ball is crossed in a fifth of the steps."""
    return step_size or min(5.0 / steps, 1.0) * threat.radius


def visited(rng: SampleRandom, features: int, count: int, step: int, *, stream: str) -> Tensor:
    """(b, n) int64: the coordinates of iteration `step`: `count` of them, or what is left of a sweep over all.

    Each sweep visits every coordinate once, in an order of its own for each example.
    """
    per_sweep = -(-features // count)
    order = rng.permutation(features, stream=f"{stream}/order", draw=step // per_sweep)
    return order[:, (step % per_sweep) * count :][:, :count]
