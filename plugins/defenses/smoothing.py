"""Randomised smoothing in deployment. Cohen, Rosenfeld & Kolter, ICML 2019, arXiv:1902.02918, section 3.

The prediction is the majority class under Gaussian noise. The noise is not clipped to the box, since certificates hold
for unclipped noise. Train the base on noisy inputs: `defense=[gaussian_augmentation,smoothing]`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from torch import Tensor, nn

from benchmark import sampling
from benchmark.api import ConfigError, Defense, hookimpl

from ._transforms.behind import Behind


@dataclass(frozen=True)
class Smoothing(Defense):
    """Add new Gaussian noise to each input in each pass.

    sigma: standard deviation of the noise, in units of the [0, 1] input range. votes: number of draws in the majority
    vote, n of the paper's PREDICT; ties go to the larger mean probability, and the system never abstains.
    """

    randomized = True
    neutral: ClassVar = {"sigma": 0.0}

    sigma: float = 0.25
    votes: int = 100

    def __post_init__(self) -> None:
        if not self.sigma >= 0.0 or self.votes < 1:
            raise ConfigError(
                f"smoothing.sigma is {self.sigma} and smoothing.votes is {self.votes}; expected a standard deviation "
                "of at least 0 and at least 1 vote"
            )

    def protect(self, model: nn.Module) -> nn.Module:
        """Put the noise before the model."""
        return Behind(model, partial(_noisy, sigma=self.sigma))

    def smoother(self) -> tuple[Defense, ...]:
        """Half the noise."""
        return (replace(self, sigma=self.sigma / 2),) if self.sigma > 0.0 else ()


def _noisy(x: Tensor, sigma: float) -> Tensor:
    return x + sigma * sampling.ambient().normal(*x.shape[1:], stream="smoothing").to(x.dtype) if sigma > 0.0 else x


@hookimpl
def benchmark_component() -> type[Smoothing]:
    """Register the plugin."""
    return Smoothing
