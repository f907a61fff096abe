"""SPSA: gradient estimation from simultaneous random signs, with Adam. Uesato et al., ICML 2018, arXiv:1802.05666."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Access, Attack, Ball, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._base.active import may_settle
from ._base.best import Best
from ._base.settings import check_at_least, check_positive
from ._blackbox.estimates import Directions, antithetic, finite
from ._blackbox.queries import Oracle, signs


@dataclass(frozen=True)
class SPSA(Attack):
    """Adam on the margin, with gradients estimated from queries at x + sigma v and x - sigma v with random signs v.

    Difference from the paper: the best iterate is returned.

    steps: iterations. pairs: pairs of queries per estimate (up to 4096 in the paper). sigma: length of a change per
    feature.
    step_size: Adam's, per feature.
    """

    supports: ClassVar[Supports] = Supports(
        norms=frozenset({Norm.linf}), access=Access.scores, targeted=True, top5=True, randomized=True
    )

    steps: int = 100
    pairs: int = 64
    sigma: float = 0.01
    step_size: float = 0.01

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps, pairs=self.pairs)
        check_positive(sigma=self.sigma, step_size=self.step_size)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """2 `pairs` + 1 forward passes per step; an example ends at its first success."""
        return spsa(
            Oracle(target, y, threat.targeted, may_settle(target, threat)),
            Best(x),
            ball=threat.around(x, rng),
            steps=self.steps,
            step_size=self.step_size,
            pairs=self.pairs,
            sigma=self.sigma,
            rng=rng,
        )


def spsa(
    oracle: Oracle, best: Best, *, ball: Ball, steps: int, step_size: float, pairs: int, sigma: float, rng: SampleRandom
) -> Tensor:
    """Adversarial candidates (B, *S); see :class:`SPSA`. Adam's decay rates are .9 and .999."""
    x_adv = ball.x
    first, second = torch.zeros_like(x_adv), torch.zeros_like(x_adv)
    index = torch.arange(len(x_adv), device=x_adv.device)
    for step in range(steps + 1):
        # Ask about the iterate, and keep the best.
        index = oracle.visit(best, index, x_adv)
        if step == steps or len(index) == 0:
            break
        # The mean of (f(x + sigma v) - f(x - sigma v)) / (2 sigma) v over random signs v.
        here, noise = ball.rows(index), _signs(ball.x.shape[1:], step)
        gradient = finite(antithetic(oracle, index, here, x_adv[index], rng=rng, noise=noise, pairs=pairs, sigma=sigma))
        # Adam's step, and back into the ball.
        first[index] = 0.9 * first[index] + 0.1 * gradient
        second[index] = 0.999 * second[index] + 0.001 * gradient.square()
        mean, spread = first[index] / (1.0 - 0.9 ** (step + 1)), second[index] / (1.0 - 0.999 ** (step + 1))
        moved = x_adv[index] + step_size * mean / (spread.sqrt() + 1e-8)
        x_adv = x_adv.index_copy(0, index, here.project(moved))
    return best.x_adv


def _signs(shape: torch.Size, step: int) -> Directions:
    """Random signs, different in each iteration."""

    def noise(rng: SampleRandom, count: int, first: int) -> Tensor:
        return signs(rng, shape, count, stream=f"spsa/{step}", first=first)

    return noise


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return SPSA
