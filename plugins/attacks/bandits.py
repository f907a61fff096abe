"""Bandits: gradient estimation with time and data priors. Ilyas et al., ICLR 2019, arXiv:1807.07978."""

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
from ._blackbox.estimates import ascend_estimates, default_step, finite
from ._blackbox.queries import Oracle


@dataclass(frozen=True)
class Bandits(Attack):
    """Steps along a prior of the gradient, updated by a pair of queries per step.

    The prior is constant on tiles of pixels (data prior) and carried over between steps (time prior). It is updated by
    exponentiated gradients under linf and by plain ones under l2. Difference from the paper: the margin replaces the
    cross-entropy.

    steps: iterations. tile: side of a tile in pixels; the paper uses 6 for inputs of 299 pixels a side.
    exploration: distance of the queries' directions from the prior. difference: length of the step to a query.
    learning: learning rate of the prior. None stands for the published values: 1, 0.1 and 100 under linf; 0.01, 0.01
    and
        0.1 under l2.
    step_size: length of a step in the threat's norm; None for 5 eps / steps.
    """

    supports: ClassVar[Supports] = Supports(
        norms=frozenset({Norm.linf, Norm.l2}), access=Access.scores, targeted=True, randomized=True
    )

    steps: int = 1000
    tile: int = 1
    exploration: float | None = None
    difference: float | None = None
    learning: float | None = None
    step_size: float | None = None

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps, tile=self.tile)
        check_positive(
            exploration=self.exploration,
            difference=self.difference,
            learning=self.learning,
            step_size=self.step_size,
        )

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Three forward passes per step; an example ends at its first success."""
        published = (1.0, 0.1, 100.0) if threat.norm is Norm.linf else (0.01, 0.01, 0.1)
        return bandits(
            Oracle(target, y, threat.targeted, may_settle(target, threat)),
            Best(x),
            ball=threat.around(x, rng),
            steps=self.steps,
            step_size=default_step(self.step_size, threat, self.steps),
            tile=self.tile,
            exploration=self.exploration or published[0],
            difference=self.difference or published[1],
            learning=self.learning or published[2],
            rng=rng,
        )


def bandits(
    oracle: Oracle,
    best: Best,
    *,
    ball: Ball,
    steps: int,
    step_size: float,
    tile: int,
    exploration: float,
    difference: float,
    learning: float,
    rng: SampleRandom,
) -> Tensor:
    """Adversarial candidates (B, *S); see :class:`Bandits`."""
    shape = ball.x.shape[1:]
    small = tiled(shape, tile)
    # Under linf the prior is tanh of what is kept, which makes the exponentiated gradient step a sum.
    kept = torch.zeros(len(ball.x), *small, dtype=ball.x.dtype, device=ball.x.device)
    squash = torch.tanh if ball.norm is Norm.linf else torch.clone

    def estimate(index: Tensor, here: Ball, x_adv: Tensor, step: int) -> Tensor:
        prior = squash(kept[index])
        noise = rng.rows(index).normal(*small, stream="bandits/explore", draw=step) / small.numel() ** 0.5
        ahead = torch.stack([spread(prior + s * exploration * noise, shape, tile) for s in (1.0, -1.0)], 1)
        if here.mask is not None:
            ahead = torch.where(here.mask[:, None], ahead, 0.0)
        unit = ahead / columns(ahead.flatten(2).square().sum(2).sqrt().clamp_min(1e-12), ahead)
        values, _, answered = oracle.values(index, x_adv[:, None] + difference * unit)
        slope = torch.where(answered.all(1), finite(values[:, 0] - values[:, 1]) / difference, 0.0)
        kept[index] += learning * columns(slope, noise) * noise
        return spread(squash(kept[index]), shape, tile)

    return ascend_estimates(oracle, best, ball=ball, start=ball.x, steps=steps, step_size=step_size, estimate=estimate)


def tiled(shape: torch.Size, tile: int) -> torch.Size:
    """Shape of one value per tile: all axes but the channels are divided by `tile`, rounded up."""
    axes = shape[1:] if len(shape) > 1 else shape
    return torch.Size([*shape[: len(shape) - len(axes)], *(-(-length // tile) for length in axes)])


def spread(values: Tensor, shape: torch.Size, tile: int) -> Tensor:
    """Copy the value of each tile to all its pixels, (b, *shape)."""
    for axis in range(2 if len(shape) > 1 else 1, values.ndim):
        values = values.repeat_interleave(tile, axis).narrow(axis, 0, shape[axis - 1])
    return values


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return Bandits
