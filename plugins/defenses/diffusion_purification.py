"""Diffusion purification by an exact denoiser, or a trained one. Nie et al., ICML 2022, arXiv:2205.07460, section 3.

One step of DiffPure: noise is added and removed again. The exact denoiser is the best one for the distribution that has
the training examples x_i as its points, D(x; sigma) = sum_i softmax_i(-||x - x_i||^2 / (2 sigma^2)) x_i (Karras et al.,
NeurIPS 2022, arXiv:2206.00364, appendix B). So nothing has to be trained, its gradient is exact, and its limits are
known: the nearest training example as sigma goes to 0, and the mean of all as it grows.
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

    exact: the training examples themselves. network: a network of fully connected layers, trained by the run's recipe
    for all noise levels when the classifier is.
    """

    exact = "exact"
    network = "network"


@dataclass(frozen=True)
class DiffusionPurification(Defense):
    """Add noise to an input and denoise it, before it is classified.

    sigma: standard deviation of the noise, in units of the [0, 1] input range. noise: whether it is added; else the
    input is denoised as it is, and nothing is random. denoiser: see :class:`Denoising`. examples: of the exact one, at
    most, evenly spread over the training split. width: of the hidden layers of the network. votes: draws whose majority
    is the answer, with noise.
    Difference from the paper: one step in place of a path of many.
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
                "expected at least 1, and more with noise only, where draws differ"
            )

    @property
    def randomized(self) -> bool:  # type: ignore[override]  # it depends on the setting
        """True where noise is added."""
        return self.noise

    @property
    def _purifier(self) -> type[Denoiser] | type[Points]:
        return Denoiser if self.denoiser is Denoising.network else Points

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        """The model with room for the training examples, or with the network beside it."""
        network = self.denoiser is Denoising.network
        return Accompanied(model, Denoiser(spec, self.width) if network else Points(self.examples, spec))

    def finish(self, model: nn.Module, train: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """Keep the examples, or train the network."""
        purifier = inside(model, self._purifier)
        with purifier.fitting():
            if isinstance(purifier, Points):
                purifier.keep(train)
            else:
                fit(purifier, train, _error)

    def protect(self, model: nn.Module) -> nn.Module:
        """The model behind noise and denoiser."""
        purifier = inside(model, self._purifier)
        purify = partial(_purified, purifier=purifier, sigma=self.sigma, noise=self.noise)
        return Behind(model, OnceFitted(purifier, purify))

    def smoother(self) -> tuple[Defense, ...]:
        """Twice and four times the width without noise, where the softmax of the denoiser is less saturated."""
        return tuple(replace(self, sigma=factor * self.sigma, noise=False, votes=1) for factor in (2.0, 4.0))


class Points(Purifier):
    """Training examples. points: (N, D). weight: (N,), 1 for an example and 0 where there is none."""

    points: Tensor
    weight: Tensor

    def __init__(self, count: int, spec: DataSpec) -> None:
        super().__init__()
        self.register_buffer("points", torch.zeros(count, torch.Size(spec.shape).numel()))
        self.register_buffer("weight", torch.zeros(count))

    def keep(self, train: Examples) -> None:
        """Take over as many examples as there is room for."""
        count = min(len(train), len(self.points))
        at = (torch.arange(count) * len(train)).div(count, rounding_mode="floor")
        self.points[:count] = train.x(at).flatten(1).to(self.points)
        self.weight[:count] = 1.0

    def denoised(self, x: Tensor, sigma: float) -> Tensor:
        """Best guess of what `x` was before noise of standard deviation `sigma` was added, (B, *S)."""
        return denoised(x.flatten(1), self.points, self.weight, sigma).reshape(x.shape)


def denoised(x: Tensor, points: Tensor, weight: Tensor, sigma: float) -> Tensor:
    """(B, D): posterior mean of the points (N, D) of prior `weight` (N,), given `x` (B, D) with noise of `sigma`."""
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
