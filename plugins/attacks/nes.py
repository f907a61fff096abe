"""NES: gradient estimation from antithetic Gaussian queries. Ilyas et al., ICML 2018, arXiv:1804.08598."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from benchmark.api import Access, Attack, Ball, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._base.active import may_settle
from ._base.best import Best
from ._base.settings import check_at_least, check_positive
from ._blackbox.estimates import antithetic, ascend_estimates, default_step
from ._blackbox.queries import Oracle, gaussian


@dataclass(frozen=True)
class NES(Attack):
    """PGD with the gradient of the margin estimated by natural evolution strategies.

    Differences from the paper: the margin replaces the cross-entropy, and the best iterate is returned.

    steps: iterations. pairs: antithetic pairs of queries per estimate. sigma: standard deviation of the noise.
    step_size: length of a step in the threat's norm; None for 5 eps / steps.
    """

    supports: ClassVar[Supports] = Supports(
        norms=frozenset({Norm.linf, Norm.l2}), access=Access.scores, targeted=True, top5=True, randomized=True
    )

    steps: int = 100
    pairs: int = 25
    sigma: float = 1e-3
    step_size: float | None = None

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps, pairs=self.pairs)
        check_positive(sigma=self.sigma, step_size=self.step_size)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """2 `pairs` + 1 forward passes per step; an example ends at its first success."""
        return nes(
            Oracle(target, y, threat.targeted, may_settle(target, threat)),
            Best(x),
            ball=threat.around(x, rng),
            steps=self.steps,
            step_size=default_step(self.step_size, threat, self.steps),
            pairs=self.pairs,
            sigma=self.sigma,
            rng=rng,
        )


def nes(
    oracle: Oracle, best: Best, *, ball: Ball, steps: int, step_size: float, pairs: int, sigma: float, rng: SampleRandom
) -> Tensor:
    """Adversarial candidates (B, *S); see :class:`NES`."""
    shape = ball.x.shape[1:]

    def estimate(index: Tensor, here: Ball, x_adv: Tensor, step: int) -> Tensor:
        def noise(mine: SampleRandom, count: int, first: int) -> Tensor:
            return gaussian(mine, shape, count, stream=f"nes/{step}", first=first)

        return antithetic(oracle, index, here, x_adv, rng=rng, noise=noise, pairs=pairs, sigma=sigma)

    return ascend_estimates(oracle, best, ball=ball, start=ball.x, steps=steps, step_size=step_size, estimate=estimate)


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return NES
