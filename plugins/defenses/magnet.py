"""MagNet: detect by reconstruction, and reform what is accepted. Meng & Chen, CCS 2017, arXiv:1705.09064, section 4."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.api import Batch, ConfigError, DataSpec, Defense, Examples, Loss, SampleRandom, derive_seed, hookimpl

from ._detectors.attached import Attached, attached, over
from ._detectors.autoencoders import autoencoder
from ._detectors.combined import Combined

NAME = "magnet"
TEMPERATURES = (10.0, 40.0)
"""Temperatures of the softmaxes compared by the divergence scores; section 5.2 of the paper, for CIFAR-10."""


@dataclass(frozen=True)
class MagNet(Defense):
    """Detect inputs that autoencoders change strongly, and classify reconstructions of the rest.

    Scores: the reconstruction errors of two autoencoders, one with a bottleneck (L2) and one without (L1), and the
    Jensen-Shannon divergences between the predictions for the input and for the first reconstruction, at temperatures
    10 and 40. The largest of the standardised scores decides; the paper has a threshold per score. Fitted to clean
    examples only. Costs 2 passes of the classifier.

    noise: standard deviation of the training noise, in units of the [0, 1] input range (paper: 0.1 for MNIST, 0.025 for
    CIFAR-10). width: maps or units of an autoencoder's layers. reform: whether the classifier gets the first
    reconstruction instead of the input.
    """

    detects: ClassVar[bool] = True
    shift_invariant: ClassVar[bool] = True

    noise: float = 0.1
    width: int = 16
    reform: bool = True

    def __post_init__(self) -> None:
        if not self.noise >= 0.0 or self.width < 1:
            raise ConfigError(
                f"magnet has noise {self.noise} and width {self.width}; expected a standard deviation of at least 0 "
                "and at least 1 map"
            )

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        """Attach two untrained autoencoders to the classifier."""
        return Autoencoders(model, spec, self.width)

    def finish(self, model: nn.Module, train: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """Train both autoencoders by the run's recipe, then standardise each score on clean examples."""
        part = attached(model, Autoencoders)
        for network in (part.narrow, part.wide):
            network.requires_grad_(True)
            fit(network, train, self._reconstruction_loss)
            network.requires_grad_(False)
        part.fitted.fill_(1.0)
        part.combined.standardise(over(model, train, lambda x: self._scores(model, x), name=NAME))

    def protect(self, model: nn.Module) -> nn.Module:
        """Put the first autoencoder before the model, once it is trained."""
        return Reformed(model) if self.reform else model

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """Largest of four standardised scores, in standard deviations of clean ones, (B,) float32."""
        part = attached(model, Autoencoders)
        scores = (self._scores(model, x) - part.combined.mean) / part.combined.std
        return scores.amax(1)

    def _reconstruction_loss(self, model: nn.Module, batch: Batch) -> Tensor:
        rng = SampleRandom(derive_seed(NAME), batch.ids)
        noisy = batch.x + self.noise * rng.normal(*batch.x.shape[1:], stream="noise").to(batch.x)
        return F.mse_loss(model(noisy.clamp(0.0, 1.0)), batch.x)

    def _scores(self, model: nn.Module, x: Tensor) -> Tensor:
        """L2 and L1 errors per feature, and divergences of the undefended classifier's predictions, (B, 4)."""
        part = attached(model, Autoencoders)
        narrow = part.narrow(x)
        plain, reformed = part.model(x), part.model(narrow)
        errors = [(x - narrow).square().flatten(1).mean(1), (x - part.wide(x)).abs().flatten(1).mean(1)]
        return torch.stack([*errors, *(divergence(plain / t, reformed / t) for t in TEMPERATURES)], 1)


class Autoencoders(Attached):
    """Both autoencoders, and whether they are trained; before that, inputs are not reformed."""

    fitted: Tensor

    def __init__(self, model: nn.Module, spec: DataSpec, width: int) -> None:
        super().__init__(model)
        self.narrow = autoencoder(spec, width, narrow=True).requires_grad_(False)
        self.wide = autoencoder(spec, width, narrow=False).requires_grad_(False)
        self.register_buffer("fitted", torch.zeros(1))
        self.combined = Combined(2 + len(TEMPERATURES))


class Reformed(nn.Module):
    """A model applied to the reconstruction of its input."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, *S) to (B, K)."""
        part = attached(self.model, Autoencoders)
        logits: Tensor = self.model(torch.where(part.fitted > 0, part.narrow(x), x))
        return logits


def divergence(one: Tensor, other: Tensor) -> Tensor:
    """Jensen-Shannon divergence of the softmaxes of two logits (B, K), in nats, from 0 to log 2, (B,)."""
    p, q = one.log_softmax(1), other.log_softmax(1)
    middle = torch.logaddexp(p, q) - torch.log(torch.tensor(2.0, dtype=p.dtype))
    return 0.5 * ((p.exp() * (p - middle)).sum(1) + (q.exp() * (q - middle)).sum(1))


@hookimpl
def benchmark_component() -> type[Defense]:
    """Register the plugin."""
    return MagNet
