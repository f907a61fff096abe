"""Ascent along the gradient of an inverse-distance interpolation of the queries.

The interpolation is Shepard's (ACM National Conference, 1968): no model is trained, and the attack itself follows no
paper.
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
from ._base.vectors import columns
from ._blackbox.estimates import ascend_estimates, default_step
from ._blackbox.queries import Oracle, gaussian


@dataclass(frozen=True)
class SurrogateGradient(Attack):
    """Queries the margin at points around the input, and follows the gradient of their interpolation.

    The interpolation is f(x) = sum w_i f_i / sum w_i with weights w_i = ||x - x_i||^-power.

    steps: iterations. pairs: antithetic pairs of points per estimate. radius: their distance.
    power: of the inverse distance. step_size: length of a step in the threat's norm; None for 5 eps / steps.
    """

    supports: ClassVar[Supports] = Supports(
        norms=frozenset({Norm.linf, Norm.l2}), access=Access.scores, targeted=True, randomized=True
    )

    steps: int = 100
    pairs: int = 25
    radius: float = 0.05
    power: float = 1.0
    step_size: float | None = None

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps, pairs=self.pairs)
        check_positive(radius=self.radius, power=self.power, step_size=self.step_size)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """2 `pairs` + 1 forward passes per step; an example ends at its first success."""
        return surrogate_gradient(
            Oracle(target, y, threat.targeted, may_settle(target, threat)),
            Best(x),
            ball=threat.around(x, rng),
            steps=self.steps,
            step_size=default_step(self.step_size, threat, self.steps),
            pairs=self.pairs,
            radius=self.radius,
            power=self.power,
            rng=rng,
        )


def surrogate_gradient(
    oracle: Oracle,
    best: Best,
    *,
    ball: Ball,
    steps: int,
    step_size: float,
    pairs: int,
    radius: float,
    power: float,
    rng: SampleRandom,
) -> Tensor:
    """Adversarial candidates (B, *S); see :class:`SurrogateGradient`."""
    shape = ball.x.shape[1:]

    def estimate(index: Tensor, here: Ball, x_adv: Tensor, step: int) -> Tensor:
        made = gaussian(rng.rows(index), shape, pairs, stream=f"surrogate_gradient/{step}")
        if here.mask is not None:
            made = torch.where(here.mask[:, None], made, 0.0)
        made = radius * made / columns(made.flatten(2).square().sum(2).sqrt().clamp_min(1e-12), made)
        points = torch.cat([x_adv[:, None] + made, x_adv[:, None] - made], 1)
        values, _, answered = oracle.values(index, points)
        return shepard(x_adv, points, torch.where(answered, values, torch.nan), power)[1]

    return ascend_estimates(oracle, best, ball=ball, start=ball.x, steps=steps, step_size=step_size, estimate=estimate)


def shepard(x: Tensor, points: Tensor, values: Tensor, power: float) -> tuple[Tensor, Tensor]:
    """Inverse-distance interpolation and its gradient at `x` (b, *S), which must not be one of the points.

    points: (b, n, *S). values: (b, n); non-finite ones, and their points, are left out.

    Returns:
        value (b,) and gradient (b, *S): sum grad w_i (f_i - f) / sum w_i with grad w_i = -power (x - x_i) /
        ||x - x_i||^(power + 2). Both are zero if there is no point.
    """
    ahead = (x[:, None] - points).flatten(2)
    far = ahead.square().sum(2).sqrt()
    known = torch.isfinite(values) & (far > 0)
    values, far = torch.where(known, values, 0.0), torch.where(known, far, 1.0)
    weight = torch.where(known, far**-power, 0.0)
    total = weight.sum(1).clamp_min(torch.finfo(weight.dtype).tiny)
    value = (weight * values).sum(1) / total
    slope = torch.where(known, -power * far ** (-power - 2.0) * (values - value[:, None]), 0.0)
    gradient = (slope[:, :, None] * ahead).sum(1) / total[:, None]
    return value, gradient.reshape(x.shape)


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return SurrogateGradient
