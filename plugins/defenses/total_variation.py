"""Total-variation minimisation. Guo, Rana, Cisse & van der Maaten, ICLR 2018, arXiv:1711.00117, section 4.

Rudin, Osher & Fatemi, Physica D 60, 1992, solved by the primal-dual method of Chambolle & Pock, Journal of Mathematical
Imaging and Vision 40, 2011, algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from benchmark import sampling
from benchmark.api import ConfigError, DataSpec, Defense, clipped, hookimpl, straight_through

from ._transforms.behind import Behind, refuse_other_than_images

STEP = 8.0**-0.5
"""Primal and dual step size: the squared norm of the difference operator is at most 8."""


@dataclass(frozen=True)
class TotalVariation(Defense):
    """Minimise 1/2 sum of squares over the kept pixels + weight * sum of absolute differences of neighbours.

    weight: lambda of the paper; 0 for no smoothing. drop: probability of dropping a pixel, drawn in each pass; dropped
    pixels are filled in. steps: of the solver. votes: number of draws in the majority vote.
    The surrogate for gradients is the identity (BPDA, Athalye et al., ICML 2018, section 5.4).
    Difference from the paper: differences are anisotropic, not grouped by rows and columns.
    """

    optimizes = True
    neutral: ClassVar = {"weight": 0.0, "drop": 0.0}

    weight: float = 0.03
    drop: float = 0.5
    steps: int = 100
    votes: int = 9

    def __post_init__(self) -> None:
        if not self.weight >= 0.0 or not 0.0 <= self.drop < 1.0:
            raise ConfigError(
                f"total_variation.weight is {self.weight} and total_variation.drop is {self.drop}; expected a weight "
                "of at least 0 and a probability in [0, 1)"
            )
        if self.steps < 1 or self.votes < 1:
            raise ConfigError(
                f"total_variation.steps is {self.steps} and total_variation.votes is {self.votes}; expected at least 1"
            )

    @property
    def randomized(self) -> bool:  # type: ignore[override]  # it depends on the setting
        """True if pixels are dropped."""
        return self.drop > 0.0

    def check(self, spec: DataSpec) -> None:
        """Refuse data other than images."""
        refuse_other_than_images(spec, "defense.total_variation")

    def protect(self, model: nn.Module) -> nn.Module:
        """Put the minimisation before the model."""
        return Behind(model, partial(_minimised, weight=self.weight, drop=self.drop, steps=self.steps))


def _minimised(x: Tensor, weight: float, drop: float, steps: int) -> Tensor:
    kept = torch.ones_like(x[:, :1])
    if drop > 0.0:
        drawn = sampling.ambient().uniform(1, *x.shape[2:], stream="total_variation")
        kept = (drawn >= drop).to(x.dtype)
    with torch.no_grad():
        smooth = least_variation(x.detach(), kept, weight=weight, steps=steps)
    return straight_through(smooth, x)


def least_variation(x: Tensor, kept: Tensor, *, weight: float, steps: int) -> Tensor:
    """Minimiser z of 1/2 ||kept (z - x)||^2 + weight TV(z), per channel, (B, C, H, W).

    kept: (B, 1, H, W), 1 or 0. With weight 0 the dropped pixels are unchanged.
    """
    if weight == 0.0:
        return x
    z, ahead = x, x
    down, right = torch.zeros_like(x[:, :, 1:]), torch.zeros_like(x[:, :, :, 1:])
    for _ in range(steps):
        down = clipped(down + STEP * (ahead[:, :, 1:] - ahead[:, :, :-1]), -weight, weight)
        right = clipped(right + STEP * (ahead[:, :, :, 1:] - ahead[:, :, :, :-1]), -weight, weight)
        before = z
        z = (z + STEP * (_divergence(down, right) + kept * x)) / (1.0 + STEP * kept)
        ahead = 2.0 * z - before
    return z


def _divergence(down: Tensor, right: Tensor) -> Tensor:
    """Negative adjoint of the differences (B, C, H - 1, W) and (B, C, H, W - 1), of shape (B, C, H, W)."""
    tall = nn.functional.pad(down, (0, 0, 0, 1)) - nn.functional.pad(down, (0, 0, 1, 0))
    return tall + nn.functional.pad(right, (0, 1)) - nn.functional.pad(right, (1, 0))


@hookimpl
def benchmark_component() -> type[TotalVariation]:
    """Register the plugin."""
    return TotalVariation
