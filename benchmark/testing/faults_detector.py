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
    """A model, and the mean of the training examples beside it."""

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
    """Suspects uncertain answers to inputs far from the training examples."""

    detects: ClassVar[bool] = True
    shift_invariant: ClassVar[bool] = True

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        """The model, and a mean to be filled in."""
        return _Centred(model, spec)

    def finish(self, model: nn.Module, train: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """The mean of the training examples."""
        _centred(model).mean.copy_(train.x().mean(0))

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """The distance to the mean plus the uncertainty."""
        uncertainty: Tensor = -model(x).log_softmax(1).amax(1)
        return (x - _centred(model).mean).flatten(1).square().sum(1) + uncertainty


@dataclass(frozen=True)
class TrustsALargeLogit(SoundDetector):
    """Reads a logit as if it was a probability."""

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """Minus the largest logit."""
        largest: Tensor = model(x).amax(1)
        return -largest


_seen = [0]


@dataclass(frozen=True)
class GrowsSuspicious(SoundDetector):
    """Adds a little suspicion with every example after the first hundred that it has seen."""

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """More and more of it for whoever comes late."""
        _seen[0] += len(x) if len(x) > 100 else 0
        return super().suspicion(model, x) + float(_seen[0])


@dataclass(frozen=True)
class ForgetsWhatItFitted(SoundDetector):
    """Keeps the mean outside the state of the module."""

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        """A mean that is not saved."""
        centred = _Centred(model, spec)
        centred.register_buffer("mean", torch.zeros(spec.shape), persistent=False)
        return centred


@dataclass(frozen=True)
class LeavesTrainingMode(SoundDetector):
    """Leaves the classifier in training mode."""

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """Sound, apart from the mode."""
        found = super().suspicion(model, x)
        _centred(model).train()
        return found


@dataclass(frozen=True)
class RoundsItsScore(SoundDetector):
    """Counts in whole numbers, and says that there is a gradient."""

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """A staircase."""
        return (1e4 * super().suspicion(model, x)).round()


@dataclass(frozen=True)
class HidesItsTrainingAttack(SoundDetector):
    """Is fitted on attacked examples, and its card says on clean ones."""

    def finish(self, model: nn.Module, train: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """The mean of attacked examples."""
        x, y, rng = train.x(), train.y, SampleRandom(0, train.ids)
        target = Target(model, rng=rng, classes=3)
        _centred(model).mean.copy_(SoundAttack().perturb(target, x, y, threat=Threat(), rng=rng).mean(0))
