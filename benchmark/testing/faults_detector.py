"""Detectors that each break one promise, made from a sound one. No paper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from benchmark.api import Defense, Loss
from benchmark.data import DataSpec, Examples
from benchmark.sampling import SampleRandom
from benchmark.system.target import Target
from benchmark.testing.faults_attack import SoundAttack
from benchmark.threat import Threat

__all__ = ["SoundDetector"]


class _Centred(nn.Module):
    """A model with a buffer for the mean of the training examples."""

    mean: Tensor

    def __init__(self, model: nn.Module, spec: DataSpec) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.zeros(spec.shape))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x)
        return logits


def _centred(model: nn.Module) -> _Centred:
    return next(module for module in model.modules() if isinstance(module, _Centred))


@dataclass(frozen=True)
class SoundDetector(Defense):
    """Suspects uncertain predictions for inputs far from the training examples."""

    detects: ClassVar[bool] = True
    shift_invariant: ClassVar[bool] = True

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        """Model with a buffer for the mean."""
        return _Centred(model, spec)

    def finish(self, model: nn.Module, train: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """Store the mean of the training examples."""
        _centred(model).mean.copy_(train.x().mean(0))

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """Distance to the mean plus the uncertainty."""
        uncertainty: Tensor = -model(x).log_softmax(1).amax(1)
        return (x - _centred(model).mean).flatten(1).square().sum(1) + uncertainty


@dataclass(frozen=True)
class TrustsALargeLogit(SoundDetector):
    """Uses a logit as if it were a probability."""

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """Minus the largest logit."""
        largest: Tensor = model(x).amax(1)
        return -largest


_seen = [0]


@dataclass(frozen=True)
class GrowsSuspicious(SoundDetector):
    """Becomes more suspicious with every example after the first hundred."""

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """Sound suspicion plus a term that grows with the number of examples seen."""
        _seen[0] += len(x) if len(x) > 100 else 0
        return super().suspicion(model, x) + float(_seen[0])


@dataclass(frozen=True)
class ForgetsWhatItFitted(SoundDetector):
    """Keeps the mean outside the state of the module."""

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        """Model with a mean that is not saved."""
        centred = _Centred(model, spec)
        centred.register_buffer("mean", torch.zeros(spec.shape), persistent=False)
        return centred


@dataclass(frozen=True)
class LeavesTrainingMode(SoundDetector):
    """Leaves the classifier in training mode."""

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """Sound suspicion, in the wrong mode afterwards."""
        found = super().suspicion(model, x)
        _centred(model).train()
        return found


@dataclass(frozen=True)
class RoundsItsScore(SoundDetector):
    """Rounds its score to whole numbers, but declares a gradient."""

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """Sound suspicion, rounded."""
        return (1e4 * super().suspicion(model, x)).round()


@dataclass(frozen=True)
class HidesItsTrainingAttack(SoundDetector):
    """Is fitted on attacked examples, but declares clean ones."""

    def finish(self, model: nn.Module, train: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """Store the mean of attacked examples."""
        x, y, rng = train.x(), train.y, SampleRandom(0, train.ids)
        target = Target(model, rng=rng, classes=3)
        _centred(model).mean.copy_(SoundAttack().perturb(target, x, y, threat=Threat(), rng=rng).mean(0))
