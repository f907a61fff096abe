"""Stochastic coordinate descent with finite differences on random coordinates.

As in Nesterov, SIAM Journal on Optimization 22(2), 2012, section 2, with the finite differences of ZOO (Chen et al.,
AISec 2017, arXiv:1708.03999, equation 6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Access, Attack, Ball, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._base.active import may_settle
from ._base.best import Best
from ._base.settings import check_at_least, check_positive
from ._blackbox.estimates import ascend_estimates, finite, visited
from ._blackbox.queries import Oracle


@dataclass(frozen=True)
class RandomCoordinate(Attack):
    """Estimates the slope of the margin from x + h e_i and x - h e_i for random coordinates i, and steps along it.

    A step of `step_size` goes along the signs of the slopes (linf), or along the slopes (l2). Coordinates are visited
    in random order, each once before any a second time.

    steps: iterations. coordinates: number per step. difference: h.
    step_size: length of a step in the threat's norm; None for eps under linf, eps / 4 under l2.
    """

    supports: ClassVar[Supports] = Supports(
        norms=frozenset({Norm.linf, Norm.l2}), access=Access.scores, targeted=True, randomized=True
    )

    steps: int = 1000
    coordinates: int = 8
    difference: float = 1e-2
    step_size: float | None = None

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps, coordinates=self.coordinates)
        check_positive(difference=self.difference, step_size=self.step_size)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """2 `coordinates` + 1 forward passes per step; an example ends at its first success."""
        ball = threat.around(x, rng)
        oracle, size = Oracle(target, y, threat.targeted, may_settle(target, threat)), self.step_size
        if size is None:
            size = threat.radius if threat.norm is Norm.linf else threat.radius / 4.0

        def estimate(index: Tensor, here: Ball, x_adv: Tensor, step: int) -> Tensor:
            chosen = visited(rng.rows(index), x_adv[0].numel(), self.coordinates, step, stream="random_coordinate")
            return central_differences(oracle, index, here, x_adv, chosen, self.difference)

        best = Best(x)
        return ascend_estimates(oracle, best, ball=ball, start=x, steps=self.steps, step_size=size, estimate=estimate)


def central_differences(
    oracle: Oracle, index: Tensor, ball: Ball, x_adv: Tensor, chosen: Tensor, difference: float
) -> Tensor:
    """Central differences (f(x + h e_i) - f(x - h e_i)) / 2h at the coordinates `chosen` (b, n), else 0, (b, *S).

    0 also where the budget does not suffice for both queries, or a coordinate may not change.
    """
    count = chosen.shape[1]
    flat = x_adv.flatten(1)
    change = torch.zeros(len(flat), count, flat.shape[1], dtype=flat.dtype, device=flat.device)
    change.scatter_(2, chosen[:, :, None], difference)
    both = torch.stack([flat[:, None] + change, flat[:, None] - change], 2)
    values, _, answered = oracle.values(index, both.reshape(len(flat), 2 * count, *x_adv.shape[1:]))
    values, answered = values.reshape(-1, count, 2), answered.reshape(-1, count, 2).all(2)
    slope = torch.where(answered, finite(values[:, :, 0] - values[:, :, 1]) / (2.0 * difference), 0.0)
    gradient = torch.zeros_like(flat).scatter_(1, chosen, slope).reshape(x_adv.shape)
    return gradient if ball.mask is None else torch.where(ball.mask, gradient, 0.0)


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return RandomCoordinate
