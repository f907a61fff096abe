"""Defenses that each break one promise, made from a sound one: label smoothing (Szegedy et al., CVPR 2016)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark import sampling
from benchmark.api import Defense, Loss
from benchmark.data import Batch, DataSpec, Examples
from benchmark.sampling import SampleRandom

__all__ = ["SoundDefense"]


@dataclass(frozen=True)
class SoundDefense(Defense):
    """Smooths labels in the loss, scales inputs at inference, and suspects bright inputs."""

    detects = True

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """Cross-entropy with label smoothing of 0.1."""
        return 0.9 * inner(model, batch) - 0.1 * F.log_softmax(model(batch.x), 1).mean()

    def protect(self, model: nn.Module) -> nn.Module:
        """Model behind a scaling of the input."""
        return _Before(model, lambda x: x * 0.9)

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """Mean brightness."""
        return x.flatten(1).mean(1)


class _Before(nn.Module):
    """A function of the input, followed by a model."""

    def __init__(self, model: nn.Module, change: object) -> None:
        super().__init__()
        self.model, self.change = model, change

    def forward(self, x: Tensor) -> Tensor:
        assert callable(self.change)
        logits: Tensor = self.model(self.change(x))
        return logits


@dataclass(frozen=True)
class RepeatsIds(SoundDefense):
    """Adds copies of the training examples under the same ids."""

    def prepare(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> Examples:
        """Every example twice."""
        return train.take(torch.arange(len(train)).repeat(2))


@dataclass(frozen=True)
class AugmentsGlobally(SoundDefense):
    """Augments with torch's global generator."""

    def prepare(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> Examples:
        """Examples with noise from the global generator."""
        x = train.x()
        return Examples.of(train.ids, (x + 0.1 * torch.rand_like(x)).clamp(0, 1), train.y)


@dataclass(frozen=True)
class LosesTheMean(SoundDefense):
    """Returns a loss per example."""

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """Loss of shape (1,) instead of a scalar."""
        return inner(model, batch)[None]


_losses = [0]


@dataclass(frozen=True)
class WarmsUp(SoundDefense):
    """Counts its calls, and weights the loss by the count."""

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """Loss that grows with every call."""
        _losses[0] += 1
        return inner(model, batch) * (1 + 0.01 * _losses[0])


@dataclass(frozen=True)
class IsNeverOff(SoundDefense):
    """Declares that it changes nothing at strength 0, but ignores its strength."""

    neutral: ClassVar[Mapping[str, Any]] = {"strength": 0.0}

    strength: float = 0.1


@dataclass(frozen=True)
class StartsOnTheModel(SoundDefense):
    """Trains the model itself in `start`, where a copy was meant."""

    def start(
        self, model: nn.Module, train: Examples, spec: DataSpec, fit: Callable[[nn.Module, Examples, Loss], None]
    ) -> Defense:
        """Train the model without a copy."""
        fit(model, train, lambda module, batch: F.cross_entropy(module(batch.x), batch.y))
        return self


@dataclass(frozen=True)
class AttacksInTrainingMode(SoundDefense):
    """Searches for adversarial examples in training mode, which changes running statistics."""

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """Sound loss, after a pass in training mode that is not part of it."""
        with torch.no_grad():
            model(1.0 - batch.x)
        return super().loss(model, batch, inner, rng)


@dataclass(frozen=True)
class WakesFrozenLayers(SoundDefense):
    """Attacks in evaluation mode, then puts every module into training mode."""

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """Sound loss, but the original modes are lost."""
        model.eval()
        model.train()
        return super().loss(model, batch, inner, rng)


@dataclass(frozen=True)
class RoundsTheGradientAway(SoundDefense):
    """Quantises the input, but declares meaningful gradients."""

    def protect(self, model: nn.Module) -> nn.Module:
        """Model behind a staircase function."""
        return _Before(model, lambda x: torch.round(x * 4) / 4)


@dataclass(frozen=True)
class StopsTheGradientOfBlackAndWhite(SoundDefense):
    """Clips the input to where it is already, as torch.clamp does from version 2.14 on."""

    def protect(self, model: nn.Module) -> nn.Module:
        """Model behind a clip whose gradient is 0 on its bounds."""
        return _Before(model, lambda x: torch.where((x > 0) & (x < 1), x, x.detach()))


@dataclass(frozen=True)
class DefenseHidesItsRandomness(SoundDefense):
    """Adds noise at inference without declaring it."""

    def protect(self, model: nn.Module) -> nn.Module:
        """Model behind noise."""
        return _Before(model, lambda x: x + 0.1 * sampling.ambient().normal(*x.shape[1:], stream="noise"))


@dataclass(frozen=True)
class LooksAtTheNeighbours(SoundDefense):
    """Divides by the largest value of the batch."""

    def protect(self, model: nn.Module) -> nn.Module:
        """Model behind a factor that depends on the batch."""
        return _Before(model, lambda x: x / x.mean())


@dataclass(frozen=True)
class SuspectsTheBatch(SoundDefense):
    """Compares an input with the mean of the batch."""

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """Distance to the mean of the batch."""
        distance: Tensor = torch.linalg.vector_norm((x - x.mean(0)).flatten(1), dim=1)
        return distance
