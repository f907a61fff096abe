"""Models that each break one promise, made from a sound one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmark.api import Model
from benchmark.data import DataSpec, Examples

__all__ = ["SoundModel"]


@dataclass(frozen=True)
class SoundModel(Model):
    """A linear classifier."""

    def build(self, spec: DataSpec) -> nn.Module:
        """One linear layer."""
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(spec.classes)) if not spec.shape else _Linear(spec)


class _Linear(nn.Module):
    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.layer = nn.Linear(int(torch.tensor(spec.shape).prod()), spec.classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layer(x.flatten(1))
        return logits


@dataclass(frozen=True)
class ForgetsAClass(SoundModel):
    """Returns one logit too few."""

    def build(self, spec: DataSpec) -> nn.Module:
        """Layer with one class too few."""
        return _Linear(dataclasses.replace(spec, classes=spec.classes - 1))


class _Centred(_Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(0, keepdim=True))


@dataclass(frozen=True)
class CentresOverTheBatch(SoundModel):
    """Subtracts the mean of the batch."""

    def build(self, spec: DataSpec) -> nn.Module:
        """Layer whose logits depend on the batch."""
        return _Centred(spec)


class _Dropping(_Linear):
    def forward(self, x: Tensor) -> Tensor:
        torch.rand(1)
        return super().forward(x)


@dataclass(frozen=True)
class DropsInEvaluation(SoundModel):
    """Applies dropout in evaluation mode."""

    def build(self, spec: DataSpec) -> nn.Module:
        """Layer with a draw per pass."""
        return _Dropping(spec)


class _Unused(_Linear):
    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        self.unused = nn.Parameter(torch.zeros(3))


@dataclass(frozen=True)
class HasAnIdleWeight(SoundModel):
    """Has a weight that is never used."""

    def build(self, spec: DataSpec) -> nn.Module:
        """Layer with three unused numbers."""
        return _Unused(spec)


_builds = [0]


@dataclass(frozen=True)
class StartsAnywhere(SoundModel):
    """Draws initial weights from its own unseeded generator."""

    def build(self, spec: DataSpec) -> nn.Module:
        """Layer with other weights each time."""
        _builds[0] += 1
        module = _Linear(spec)
        with torch.no_grad():
            module.layer.bias.fill_(0.01 * _builds[0])
        return module


@dataclass(frozen=True)
class LearnsOnAndOn(SoundModel):
    """Learns another state each time."""

    def learn(self, module: nn.Module, train: Examples, spec: DataSpec, seed: int) -> None:
        """Set another bias each time."""
        _builds[0] += 1
        assert isinstance(module, _Linear)
        with torch.no_grad():
            module.layer.bias.fill_(0.01 * _builds[0])
