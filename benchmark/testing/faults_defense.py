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
    """Smooths labels in the loss, scales inputs at inference, and suspects bright ones."""

    detects = True

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """The cross-entropy with a uniform share of 0.1."""
        return 0.9 * inner(model, batch) - 0.1 * F.log_softmax(model(batch.x), 1).mean()

    def protect(self, model: nn.Module) -> nn.Module:
        """The model behind a factor."""
        return _Before(model, lambda x: x * 0.9)

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """The brightness."""
        return x.flatten(1).mean(1)


class _Before(nn.Module):
    """A function of the input before a model."""

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
        """Everything twice."""
        return train.take(torch.arange(len(train)).repeat(2))


@dataclass(frozen=True)
class AugmentsGlobally(SoundDefense):
    """Augments with torch's global generator."""

    def prepare(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> Examples:
        """Noise from nowhere."""
        x = train.x()
        return Examples.of(train.ids, (x + 0.1 * torch.rand_like(x)).clamp(0, 1), train.y)


@dataclass(frozen=True)
class LosesTheMean(SoundDefense):
    """Gives a loss per example."""

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """(1,) instead of a scalar."""
        return inner(model, batch)[None]


_losses = [0]


@dataclass(frozen=True)
class WarmsUp(SoundDefense):
    """Counts its calls, and weighs the loss by the count."""

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """Grows with every call."""
        _losses[0] += 1
        return inner(model, batch) * (1 + 0.01 * _losses[0])


@dataclass(frozen=True)
class IsNeverOff(SoundDefense):
    """Says that it changes nothing at a strength of 0, and reads its strength nowhere."""

    neutral: ClassVar[Mapping[str, Any]] = {"strength": 0.0}

    strength: float = 0.1


@dataclass(frozen=True)
class StartsOnTheModel(SoundDefense):
    """Trains the model itself before the training, where it wanted a teacher."""

    def start(
        self, model: nn.Module, train: Examples, spec: DataSpec, fit: Callable[[nn.Module, Examples, Loss], None]
    ) -> Defense:
        """No copy."""
        fit(model, train, lambda module, batch: F.cross_entropy(module(batch.x), batch.y))
        return self


@dataclass(frozen=True)
class AttacksInTrainingMode(SoundDefense):
    """Looks for adversarial examples with passes that running statistics notice."""

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """A pass that nothing is learnt from, before the others."""
        with torch.no_grad():
            model(1.0 - batch.x)
        return super().loss(model, batch, inner, rng)


@dataclass(frozen=True)
class WakesFrozenLayers(SoundDefense):
    """Attacks in evaluation mode, and puts everything into training mode afterwards."""

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """The modes that it found are lost."""
        model.eval()
        model.train()
        return super().loss(model, batch, inner, rng)


@dataclass(frozen=True)
class RoundsTheGradientAway(SoundDefense):
    """Quantises the input, and says that gradients are meaningful."""

    def protect(self, model: nn.Module) -> nn.Module:
        """The model behind a staircase."""
        return _Before(model, lambda x: torch.round(x * 4) / 4)


@dataclass(frozen=True)
class DefenseHidesItsRandomness(SoundDefense):
    """Adds noise at inference, and does not say so."""

    def protect(self, model: nn.Module) -> nn.Module:
        """The model behind noise."""
        return _Before(model, lambda x: x + 0.1 * sampling.ambient().normal(*x.shape[1:], stream="noise"))


@dataclass(frozen=True)
class LooksAtTheNeighbours(SoundDefense):
    """Divides by the largest value of the batch."""

    def protect(self, model: nn.Module) -> nn.Module:
        """The model behind a factor that depends on the batch."""
        return _Before(model, lambda x: x / x.mean())


@dataclass(frozen=True)
class SuspectsTheBatch(SoundDefense):
    """Compares an input with the mean of the batch."""

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """The distance to the batch's mean."""
        distance: Tensor = torch.linalg.vector_norm((x - x.mean(0)).flatten(1), dim=1)
        return distance
