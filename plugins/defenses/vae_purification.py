"""Purification by a variational autoencoder (Defense-VAE). Li & Ji, ECML PKDD 2019 workshops, arXiv:1812.06570."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmark.api import Batch, ConfigError, DataSpec, Defense, Examples, Loss, hookimpl

from ._purifiers.purifier import Accompanied, OnceFitted, Purifier, noise_of
from ._purifiers.variational import Variational
from ._transforms.behind import Behind, inside


@dataclass(frozen=True)
class VAEPurification(Defense):
    """Encode each input and decode the mean of its code before classification.

    latent: size of the code. width: of the hidden layers. sigma: standard deviation of the noise on the training
    inputs, in units of the [0, 1] input range; reconstructions are compared with the clean inputs. beta: weight of the
    divergence of the codes from the standard normal distribution. It is trained by the run's recipe together with the
    classifier; its gradient is exact.
    Differences from the paper: the training inputs are noisy instead of attacked, so that no attack is assumed, and
    beta is less than 1, since with 1 the codes of small images carry little information (Higgins et al., ICLR 2017).
    """

    latent: int = 32
    width: int = 256
    sigma: float = 0.1
    beta: float = 0.1

    def __post_init__(self) -> None:
        if not self.beta >= 0.0:
            raise ConfigError(f"vae_purification.beta is {self.beta}; expected a weight of at least 0")
        if self.latent < 1 or self.width < 1 or not self.sigma >= 0.0:
            raise ConfigError(
                f"vae_purification has latent {self.latent}, width {self.width} and sigma {self.sigma}; expected "
                "layers of at least 1 unit and a standard deviation of at least 0"
            )

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        """Attach the autoencoder to the model."""
        return Accompanied(model, Manifold(torch.Size(spec.shape).numel(), self.latent, self.width))

    def finish(self, model: nn.Module, train: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """Train the autoencoder."""
        purifier = inside(model, Manifold)
        with purifier.fitting():
            fit(purifier, train, self._bound)

    def _bound(self, model: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(model, Manifold)
        noise = noise_of(batch, self.latent, stream="vae_purification/code")
        noisy = batch.x + self.sigma * noise_of(batch, *batch.x.shape[1:], stream="vae_purification/input")
        clean = batch.x.flatten(1)
        return model.network.loss(noisy.clamp(0.0, 1.0).flatten(1), clean, clean[:, :0], noise, self.beta)

    def protect(self, model: nn.Module) -> nn.Module:
        """Put the autoencoder before the model."""
        purifier = inside(model, Manifold)
        return Behind(model, OnceFitted(purifier, purifier.reconstructed))


class Manifold(Purifier):
    """Map (B, *S) to (B, *S) through the mean code."""

    def __init__(self, size: int, latent: int, width: int) -> None:
        super().__init__()
        self.network = Variational(size, latent, width)

    def reconstructed(self, x: Tensor) -> Tensor:
        """Reconstructions of `x` (B, *S), in [0, 1]."""
        flat = x.flatten(1)
        return self.network.reconstructed(flat, flat[:, :0]).reshape(x.shape)


@hookimpl
def benchmark_component() -> type[VAEPurification]:
    """Register the plugin."""
    return VAEPurification
