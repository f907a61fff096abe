"""Ascent on the margin along gradients estimated from scores.

Differences are taken at points that may lie outside ball and box by the length of the difference, as in the papers'
programs: cut off there, they would be no differences of that length. Candidates never lie outside.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmark.api import Ball, SampleRandom, Threat

from .._base.best import Best
from .queries import Oracle, fold

__all__ = ["Directions", "Estimate", "antithetic", "ascend_estimates", "default_step", "finite", "offer_all", "visited"]

Estimate = Callable[[Tensor, Ball, Tensor, int], Tensor]
"""From the examples (b,) int64, their balls, their inputs (b, *S) and the number of the step, to a gradient (b, *S)."""

Directions = Callable[[SampleRandom, int, int], Tensor]
"""From the randomness of b examples, a number of draws n and the first one, to directions (b, n, *S)."""


def offer_all(best: Best, index: Tensor, proposals: Tensor, values: Tensor, won: Tensor) -> None:
    """Offer the best of several proposals (b, n, *S) per example; values, won: (b, n)."""
    eligible = torch.where(won.any(1, keepdim=True) & ~won, -torch.inf, values)
    row, top = torch.arange(len(index), device=index.device), eligible.argmax(1)
    best.offer(index, proposals[row, top], won[row, top], values[row, top])


def ascend_estimates(
    oracle: Oracle, best: Best, *, ball: Ball, start: Tensor, steps: int, step_size: float, estimate: Estimate
) -> Tensor:
    """Best of the iterates x <- project(x + step_size * steepest(estimated gradient at x)), (B, *S).

    Every iterate, the start included, is asked about: one query per step beside those of the estimate. An example whose
    budget ends between keeps the best iterate that was asked about.
    """
    x_adv = start
    index = torch.arange(len(start), device=start.device)
    for step in range(steps + 1):
        index = oracle.visit(best, index, x_adv)
        if step == steps or len(index) == 0:
            break
        here = ball.rows(index)
        gradient = finite(estimate(index, here, x_adv[index], step))
        x_adv = x_adv.index_copy(0, index, here.project(x_adv[index] + step_size * here.steepest(gradient)))
    return best.x_adv


def finite(gradient: Tensor) -> Tensor:
    """`gradient` with 0 in place of values that are not finite."""
    return gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def antithetic(
    oracle: Oracle,
    index: Tensor,
    ball: Ball,
    x_adv: Tensor,
    *,
    rng: SampleRandom,
    noise: Directions,
    pairs: int,
    sigma: float,
) -> Tensor:
    """Antithetic gradient (b, *S): sum over directions u of u (f(x + sigma u) - f(x - sigma u)) / (2 sigma pairs).

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
    """Coordinates of iteration `step`, (b, n) int64: `count` of them, or what is left of a sweep over all.

    Each sweep visits every coordinate once, in an order of its own for each example.
    """
    per_sweep = -(-features // count)
    order = rng.permutation(features, stream=f"{stream}/order", draw=step // per_sweep)
    return order[:, (step % per_sweep) * count :][:, :count]
