"""Diffusion purification by an exact or a trained denoiser. Nie et al., ICML 2022, arXiv:2205.07460, section 3.

One step of DiffPure: noise is added and removed. The exact denoiser is optimal for the empirical distribution of the
training examples x_i: D(x; sigma) = sum_i softmax_i(-||x - x_i||^2 / (2 sigma^2)) x_i (Karras et al., NeurIPS 2022,
arXiv:2206.00364, appendix B). It needs no training, its gradient is exact, and its limits are
known: the nearest training example as sigma tends to 0, and the mean of all as sigma tends to infinity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial

import torch
from torch import Tensor, nn

from benchmark import sampling
from benchmark.api import Batch, ConfigError, DataSpec, Defense, Examples, Loss, hookimpl

from ._purifiers.denoiser import Denoiser
from ._purifiers.purifier import Accompanied, OnceFitted, Purifier
from ._transforms.behind import Behind, inside


class Denoising(Enum):
    """Source of the denoiser.

    exact: the training examples. network: a fully connected network for all noise levels, trained by the run's recipe
    together with the classifier.
    """

    exact = "exact"
    network = "network"


@dataclass(frozen=True)
class DiffusionPurification(Defense):
    """Add noise to an input and denoise it before classification.

    sigma: standard deviation of the noise, in units of the [0, 1] input range. noise: whether it is added; otherwise
    the unchanged input is denoised, deterministically. denoiser: see :class:`Denoising`. examples: maximum number for
    the exact one, evenly spaced over the training split. width: of the network's hidden layers. votes: number of draws
    in the majority vote, with noise.
    Difference from the paper: one step instead of a path of many.
    """

    sigma: float = 0.25
    noise: bool = True
    denoiser: Denoising = Denoising.exact
    examples: int = 1000
    width: int = 256
    votes: int = 20

    def __post_init__(self) -> None:
        if not self.sigma > 0.0 or self.examples < 1:
            raise ConfigError(
                f"diffusion_purification.sigma is {self.sigma} and diffusion_purification.examples is {self.examples}; "
                "expected a positive standard deviation and at least 1 example"
            )
        if self.width < 1:
            raise ConfigError(f"diffusion_purification.width is {self.width}; expected layers of at least 1 unit")
        if self.votes < 1 or (self.votes > 1 and not self.noise):
            raise ConfigError(
                f"diffusion_purification.votes is {self.votes} with diffusion_purification.noise={self.noise}; "
                "expected at least 1, and more than 1 only with noise"
            )

    @property
    def randomized(self) -> bool:  # type: ignore[override]  # it depends on the setting
        """True if noise is added."""
        return self.noise

    @property
    def _purifier(self) -> type[Denoiser] | type[Points]:
        return Denoiser if self.denoiser is Denoising.network else Points

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        """Attach buffers for the training examples, or the network, to the model."""
        network = self.denoiser is Denoising.network
        return Accompanied(model, Denoiser(spec, self.width) if network else Points(self.examples, spec))

    def finish(self, model: nn.Module, train: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """Store the examples, or train the network."""
        purifier = inside(model, self._purifier)
        with purifier.fitting():
            if isinstance(purifier, Points):
                purifier.keep(train)
            else:
                fit(purifier, train, _error)

    def protect(self, model: nn.Module) -> nn.Module:
        """Put noise and denoiser before the model."""
        purifier = inside(model, self._purifier)
        purify = partial(_purified, purifier=purifier, sigma=self.sigma, noise=self.noise)
        return Behind(model, OnceFitted(purifier, purify))

    def smoother(self) -> tuple[Defense, ...]:
        """Two and four times the sigma without noise, where the denoiser's softmax is less saturated."""
        return tuple(replace(self, sigma=factor * self.sigma, noise=False, votes=1) for factor in (2.0, 4.0))


class Points(Purifier):
    """Training examples. points: (N, D). weight: (N,), 1 for an example and 0 for an unused row."""

    points: Tensor
    weight: Tensor

    def __init__(self, count: int, spec: DataSpec) -> None:
        super().__init__()
        self.register_buffer("points", torch.zeros(count, torch.Size(spec.shape).numel()))
        self.register_buffer("weight", torch.zeros(count))

    def keep(self, train: Examples) -> None:
        """Store as many examples as there are rows."""
        count = min(len(train), len(self.points))
        at = (torch.arange(count) * len(train)).div(count, rounding_mode="floor")
        self.points[:count] = train.x(at).flatten(1).to(self.points)
        self.weight[:count] = 1.0

    def denoised(self, x: Tensor, sigma: float) -> Tensor:
        """Estimate of `x` (B, *S) before Gaussian noise of standard deviation `sigma` was added, (B, *S)."""
        return denoised(x.flatten(1), self.points, self.weight, sigma).reshape(x.shape)


def denoised(x: Tensor, points: Tensor, weight: Tensor, sigma: float) -> Tensor:
    """Posterior mean of the points (N, D) with prior `weight` (N,), given `x` (B, D) with noise of `sigma`, (B, D)."""
    # In double precision, where the softmax saturates much later. The square of x is the same for all points.
    wide = points.double()
    closeness = (x.double() @ wide.T - 0.5 * wide.square().sum(1)) / sigma**2
    return ((closeness + weight.double().log()).softmax(1) @ wide).to(x.dtype)


def _error(model: nn.Module, batch: Batch) -> Tensor:
    assert isinstance(model, Denoiser)
    return model.loss(batch)


def _purified(x: Tensor, purifier: Denoiser | Points, sigma: float, noise: bool) -> Tensor:
    if noise:
        x = x + sigma * sampling.ambient().normal(*x.shape[1:], stream="diffusion_purification").to(x.dtype)
    return purifier.denoised(x, sigma)


@hookimpl
def benchmark_component() -> type[DiffusionPurification]:
    """Register the plugin."""
    return DiffusionPurification
