"""sigma-zero: gradient descent on a smooth surrogate of l0. Cina et al., ICLR 2025, arXiv:2402.01879."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Attack, ConfigError, Norm, SampleRandom, Supports, Target, Threat, hookimpl, rows_norm

from ._base.active import Active
from ._base.best import Best
from ._base.classes import margin_to_rival, next_rivals
from ._base.settings import check_at_least, check_positive, check_share
from ._base.vectors import adam, annealed, columns, usable
from ._minimal.nearest import Patience, keep_nearest
from ._minimal.nearest_class import nearest_class

_LAST_STEP = 0.1
"""Ratio of the last step size to the first."""
RATE = 0.01
"""Rate of change of the threshold, as a multiple of the step size."""


@dataclass(frozen=True)
class SigmaZero(Attack):
    """Adam on the margin plus the mean of delta^2 / (delta^2 + sigma); changes below a threshold are set to zero.

    The threshold increases while the example succeeds, which makes the perturbation sparser, and decreases while it
    fails.

    Differences from the paper: targeted threats are supported; until the first success an untargeted attack approaches
    the class with the nearest linearised boundary, not the one with the highest score (`candidates`; 1 is the paper's);
    an example that no longer improves ends early (`patience`; 1 is the paper's).

    steps: iterations. step_size: of the first, decreasing to a tenth along a cosine. sigma: sharpness of the surrogate.
    threshold: initial value, in units of the [0, 1] input range.
    candidates: number of classes considered at the start: the label and those with the next highest scores.
    patience: share of the steps without a 1 % improvement of the distance after which an example ends; 1 for never.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.l0}), targeted=True, minimal=True)

    steps: int = 1000
    step_size: float = 1.0
    sigma: float = 1e-3
    threshold: float = 0.3
    candidates: int = 10
    patience: float = 0.3

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps, candidates=self.candidates)
        check_share(patience=self.patience)
        check_positive(step_size=self.step_size, sigma=self.sigma)
        if not 0 <= self.threshold <= 1:
            raise ConfigError(f"attack.threshold is {self.threshold}; expected 0 to 1, such as 0.3")

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Success with the fewest changes, at any distance; the clean input where there is none.

        Cost per example: at most `steps` forward and backward passes, and `candidates` - 2 more backward passes.
        """
        return sigma_zero(
            Active.unbounded(target, x, y, threat, rng),
            steps=self.steps,
            step_size=self.step_size,
            sigma=self.sigma,
            threshold=self.threshold,
            candidates=self.candidates,
            patience=self.patience,
        ).x_adv


def sigma_zero(
    active: Active,
    *,
    steps: int,
    step_size: float,
    sigma: float,
    threshold: float,
    candidates: int,
    patience: float,
) -> Best:
    """Nearest successes; see :class:`SigmaZero`. tau: (b,), the threshold. first, second: Adam's moments."""
    best, x_adv = Best(active.ball.x), active.ball.x
    patient = Patience(patience, steps, best)
    first = second = torch.zeros_like(x_adv)
    tau = torch.full_like(best.value, threshold)
    for step in range(steps):
        active, x_adv, first, second, tau = active.keep(active.affordable(), x_adv, first, second, tau)
        if len(active) == 0:
            break
        if step == 0 and candidates > 2 and not active.targeted:
            active, gradient, logits = nearest_class(active, candidates)
        else:
            gradient, _, logits = active.gradient(x_adv, margin_to_rival)
        gradient = usable(gradient, active.ball)
        won = keep_nearest(best, active, x_adv, logits)
        ball, length = active.ball, annealed(step_size, _LAST_STEP * step_size, step, steps)
        delta = x_adv - ball.x
        sparsity = 2.0 * sigma / delta[0].numel() * delta / (delta.square() + sigma).square()
        slope = sparsity - torch.where(columns(won, delta), 0.0, gradient)
        peak = columns(rows_norm(slope, Norm.linf), delta)
        change, first, second = adam(slope / torch.where(peak > 0, peak, 1.0), first, second, step)
        delta = ball.project(x_adv - length * change) - ball.x
        tau = (tau + RATE * length * torch.where(won, 1.0, -1.0)).clamp(0.0, 1.0)
        x_adv = torch.where(delta.abs() >= columns(tau, delta), ball.x + delta, ball.x)
        going = patient.going(step, active, best)
        active, x_adv, first, second, tau = next_rivals(active, won, logits, gradient).keep(
            going, x_adv, first, second, tau
        )
    return best


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return SigmaZero
