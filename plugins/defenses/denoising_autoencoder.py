"""Denoising autoencoder before the classifier. Gu & Rigazio, ICLR 2015 workshop, arXiv:1412.5068, section 3.

Trained to map noisy training examples to clean ones: Vincent, Larochelle, Bengio & Manzagol, ICML 2008.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmark.api import Batch, ConfigError, DataSpec, Defense, Examples, Loss, hookimpl

from ._purifiers.networks import perceptron
from ._purifiers.purifier import Accompanied, OnceFitted, Purifier, noise_of
from ._transforms.behind import Behind, inside


@dataclass(frozen=True)
class DenoisingAutoencoder(Defense):
    """Reconstruct each input by a fully connected autoencoder.

    sigma: standard deviation of the noise in training, in units of the [0, 1] input range. width: of the hidden layers.
    code: size of the bottleneck. It is trained by the run's recipe together with the classifier; its gradient is exact.
    """

    sigma: float = 0.2
    width: int = 256
    code: int = 64

    def __post_init__(self) -> None:
        if not self.sigma >= 0.0 or self.width < 1 or self.code < 1:
            raise ConfigError(
                f"denoising_autoencoder has sigma {self.sigma}, width {self.width} and code {self.code}; expected a "
                "standard deviation of at least 0 and layers of at least 1 unit"
            )

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        """Attach the autoencoder to the model."""
        return Accompanied(model, Autoencoder(torch.Size(spec.shape).numel(), self.width, self.code))

    def finish(self, model: nn.Module, train: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """Train the autoencoder."""
        purifier = inside(model, Autoencoder)
        with purifier.fitting():
            fit(purifier, train, self._error)

    def _error(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean squared error of the reconstruction of noisy inputs."""
        assert isinstance(model, Autoencoder)
        noisy = batch.x + self.sigma * noise_of(batch, *batch.x.shape[1:], stream="denoising_autoencoder")
        return (model.reconstructed(noisy.clamp(0.0, 1.0)) - batch.x).square().mean()

    def protect(self, model: nn.Module) -> nn.Module:
        """Put the autoencoder before the model."""
        purifier = inside(model, Autoencoder)
        return Behind(model, OnceFitted(purifier, purifier.reconstructed))


class Autoencoder(Purifier):
    """Map (B, *S) to (B, *S) through a bottleneck."""

    def __init__(self, size: int, width: int, code: int) -> None:
        super().__init__()
        self.network = perceptron(size, width, code, width, size)

    def reconstructed(self, x: Tensor) -> Tensor:
        """Reconstructions of `x` (B, *S), in [0, 1]."""
        values: Tensor = self.network(x.flatten(1))
        return values.sigmoid().reshape(x.shape)


@hookimpl
def benchmark_component() -> type[DenoisingAutoencoder]:
    """Register the plugin."""
    return DenoisingAutoencoder
