"""Defenses that each break one promise about inference, made from a sound one. No paper."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from benchmark.api import Defense, Loss
from benchmark.data import DataSpec, Examples

__all__ = ["SoundStage"]


class _Step(nn.Module):
    """A model behind a step, which gets the model and the input."""

    def __init__(self, model: nn.Module, step: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.step = model, step

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(self.step(self.model, x))
        return logits


@dataclass(frozen=True)
class SoundStage(Defense):
    """Blends the input with grey at inference."""

    neutral: ClassVar = {"grey": 0.0}

    grey: float = 0.25

    def protect(self, model: nn.Module) -> nn.Module:
        """Model behind reduced contrast."""
        return _Step(model, self.step) if self.grey > 0.0 else model

    def step(self, model: nn.Module, x: Tensor) -> Tensor:
        """Input with reduced contrast."""
        return (1.0 - self.grey) * x + self.grey * 0.5

    def smoother(self) -> tuple[Defense, ...]:
        """The same with half as much grey."""
        return (dataclasses.replace(self, grey=self.grey / 2),)


@dataclass(frozen=True)
class RoundsAtStrengthZero(SoundStage):
    """Rounds slightly at every strength."""

    def protect(self, model: nn.Module) -> nn.Module:
        """Model behind a sum that is not exactly the identity."""
        return _Step(model, lambda model, x: self.step(model, x) + 0.01)


@dataclass(frozen=True)
class ClaimsRandomness(SoundStage):
    """Declares randomness without any, so that every attack pays for identical draws."""

    randomized = True


@dataclass(frozen=True)
class VotesWithOneVoice(SoundStage):
    """Declares a vote of identical draws."""

    @property
    def votes(self) -> int:
        """Three identical votes."""
        return 3


@dataclass(frozen=True)
class ShowsAnotherForward(SoundStage):
    """Returns the surrogate's logits to attackers."""

    def step(self, model: nn.Module, x: Tensor) -> Tensor:
        """Reduced contrast, unless a gradient is requested."""
        return x if torch.is_grad_enabled() else super().step(model, x)

    def smoother(self) -> tuple[Defense, ...]:
        """No smoother settings."""
        return ()


@dataclass(frozen=True)
class KeepsWeightsToItself(SoundStage):
    """Fits the grey level to the training examples, but does not store it."""

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        """Model with a number outside its state."""
        model.level = 0.5  # type: ignore[assignment]
        return model

    def finish(self, model: nn.Module, train: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """Store the mean of the examples."""
        model.level = float(train.x().mean())  # type: ignore[assignment]

    def step(self, model: nn.Module, x: Tensor) -> Tensor:
        """Reduced contrast around the mean."""
        level: float = model.level  # type: ignore[assignment]
        return (1.0 - self.grey) * x + self.grey * level


@dataclass(frozen=True)
class DefenseNeedsThreeChannels(SoundStage):
    """Weights the colours of an image."""

    def step(self, model: nn.Module, x: Tensor) -> Tensor:
        """Reduced red channel; fails on images of one channel."""
        if x.ndim != 4:
            return x
        weights = x.new_tensor([0.5, 1.0, 1.0]).reshape(1, 3, 1, 1)
        return x * weights if x.shape[1] == 3 else x / 0.0


@dataclass(frozen=True)
class TripsOverRows(SoundStage):
    """Averages over the sides of an image, and does not refuse tabular data."""

    def step(self, model: nn.Module, x: Tensor) -> Tensor:
        """Reduced contrast within each channel."""
        return (1.0 - self.grey) * x + self.grey * x.mean((2, 3), keepdim=True)


@dataclass(frozen=True)
class HidesAMember(SoundStage):
    """Calls the model twice, but counts one pass."""

    def step(self, model: nn.Module, x: Tensor) -> Tensor:
        """Reduced contrast, by the model's confidence."""
        asked: Tensor = model(x).sum(1).reshape(-1, *[1] * (x.ndim - 1))
        return super().step(model, x) + 0.0 * asked


@dataclass(frozen=True)
class DescendsInSecret(SoundStage):
    """Descends the norm of the input with autograd, undeclared."""

    def step(self, model: nn.Module, x: Tensor) -> Tensor:
        """One step towards black, as a constant."""
        with torch.enable_grad():
            leaf = x.detach().clone().requires_grad_(True)
            (grad,) = torch.autograd.grad(leaf.square().sum(), leaf)
        darker: Tensor = super().step(model, x) - 0.01 * grad
        return darker


@dataclass(frozen=True)
class OffersAnotherNetwork(SoundStage):
    """Offers a smoother setting with one more layer."""

    layers: int = 0

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        """Model behind that many layers."""
        return nn.Sequential(model, *(nn.Linear(spec.classes, spec.classes) for _ in range(self.layers)))

    def smoother(self) -> tuple[Defense, ...]:
        """The same with one more layer."""
        return (dataclasses.replace(self, layers=1),)
