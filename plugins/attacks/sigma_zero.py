"""sigma-zero: few features by descent on a smooth stand-in for l0. Cina et al., ICLR 2025, arXiv:2402.01879."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Attack, ConfigError, Norm, SampleRandom, Supports, Target, Threat, hookimpl, rows_norm

from ._base.steps import at_least, positive
from ._base.vectors import adam, annealed, columns
from ._minimal.minimal import Asked, Nearest, Rows, descend, lead_over, patient

LAST_STEP = 0.1
"""The last step as a share of the first."""
RATE = 0.01
"""How fast the threshold moves, times the step size."""


@dataclass(frozen=True)
class SigmaZero(Attack):
    """Adam on the margin plus the mean of delta^2 / (delta^2 + sigma); changes below a threshold are set to zero.

    The threshold rises while the example succeeds, which makes the change sparser, and falls while it does not.

    Differences from the paper: it can be targeted; up to the first success an untargeted attack makes for the class
    whose linearised boundary is nearest, not for the one with the highest score (`candidates`; 1 is the paper's); an
    example that has settled is left (`patience`; 1 is the paper's).

    steps: iterations. step_size: of the first, falling to a tenth along a cosine. sigma: how sharp the stand-in is.
    threshold: the first one, in units of the [0, 1] input range.
    candidates: how many classes are considered at the start: the present one and those with the next highest scores.
    patience: an example is left whose nearest success has not come nearer by a hundredth in that share of the steps; 1
    leaves none.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.l0}), targeted=True, minimal=True)

    steps: int = 1000
    step_size: float = 1.0
    sigma: float = 1e-3
    threshold: float = 0.3
    candidates: int = 10
    patience: float = 0.3

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps, candidates=self.candidates)
        patient(self.patience)
        positive(step_size=self.step_size, sigma=self.sigma)
        if not 0 <= self.threshold <= 1:
            raise ConfigError(f"attack.threshold is {self.threshold}; expected 0 to 1, such as 0.3")

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """The success with the fewest changes found, however many; the clean input where there is none.

        Cost per example: at most `steps` forward and backward passes, and `candidates` - 2 more backward.
        """
        nearest = Nearest(threat.unbounded().around(x, rng), y, targeted=threat.targeted)
        sigma_zero(
            target,
            nearest,
            steps=self.steps,
            step_size=self.step_size,
            sigma=self.sigma,
            threshold=self.threshold,
            candidates=self.candidates,
            patience=self.patience,
        )
        return nearest.x_adv


@dataclass
class _Sparse(Rows):
    """first, second: (b, *S), Adam's moments. threshold: (b,)."""

    first: Tensor
    second: Tensor
    threshold: Tensor


def sigma_zero(
    target: Target,
    nearest: Nearest,
    *,
    steps: int,
    step_size: float,
    sigma: float,
    threshold: float,
    candidates: int,
    patience: float,
) -> None:
    """See :class:`SigmaZero`; what is found goes to `nearest`."""

    def move(rows: _Sparse, asked: Asked, step: int) -> _Sparse:
        length = annealed(step_size, LAST_STEP * step_size, step, steps)
        delta = asked.delta
        sparsity = 2.0 * sigma / delta[0].numel() * delta / (delta.square() + sigma).square()
        slope = sparsity - torch.where(columns(asked.won, delta), 0.0, asked.gradient)
        peak = columns(rows_norm(slope, Norm.linf), delta)
        change, first, second = adam(slope / torch.where(peak > 0, peak, 1.0), rows.first, rows.second, step)
        delta = asked.ball.project(rows.x_adv - length * change) - asked.ball.x
        sign = torch.where(asked.won, 1.0, -1.0)
        limit = (rows.threshold + RATE * length * sign).clamp(0.0, 1.0)
        kept = delta.abs() >= columns(limit, delta)
        return _Sparse(rows.index, torch.where(kept, asked.ball.x + delta, asked.ball.x), first, second, limit)

    x = nearest.ball.x
    zero = torch.zeros_like(x)
    rows = _Sparse(torch.arange(len(x), device=x.device), x, zero, zero, torch.full_like(nearest.size, threshold))
    loss = partial(lead_over, targeted=nearest.targeted)
    descend(
        target, rows, nearest, steps=steps, candidates=candidates, patience=patience, loss=lambda _: loss, move=move
    )


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return SigmaZero
