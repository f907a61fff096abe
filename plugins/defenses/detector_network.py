"""Adversary detector network. Metzen, Genewein, Fischer & Bischoff, ICLR 2017, arXiv:1702.04267, section 3.3."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.api import Attack, Batch, ConfigError, DataSpec, Defense, Examples, Loss, Norm, hookimpl, inner

from ._detectors.attached import attached, over
from ._detectors.combined import attacked_examples, training_threat
from ._detectors.features import Hidden, Reader, features, hidden_layers

NAME = "detector_network"
GRID = 4
"""Maps are averaged over at most this many cells to a side."""


@dataclass(frozen=True)
class DetectorNetwork(Defense):
    """A small network that learns to distinguish attacked from clean training examples by hidden features.

    The classifier is frozen. Differences from the paper: a perceptron on hidden features, with maps averaged over a 4x4
    grid, instead of a convolutional branch; attacked examples are computed once, before the detector is trained (its
    static setting, without the dynamic one). Costs one pass.

    layers: maximum number of hidden layers, counted from the last. units: of the detector's hidden layer.
    attack, norm, eps: of the attacked examples; eps in units of the [0, 1] input range.
    """

    detects: ClassVar[bool] = True

    layers: int = 2
    units: int = 64
    attack: Attack = inner("pgd_10")
    norm: Norm = Norm.linf
    eps: str = "1/10"

    def __post_init__(self) -> None:
        if self.layers < 1 or self.units < 1:
            raise ConfigError(
                f"detector_network has layers {self.layers} and units {self.units}; expected at least 1 layer and 1 "
                "hidden unit"
            )
        training_threat(self.norm, self.eps)

    def fitted_on(self) -> tuple[Attack, ...]:
        """The training attack."""
        return (self.attack,)

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        """Attach an untrained detector to the classifier."""
        return Branch(model, hidden_layers(model, spec, layers=self.layers, grid=GRID), self.units)

    def finish(self, model: nn.Module, train: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """Train the detector by the run's recipe on features of clean and attacked training examples."""
        part = attached(model, Branch)
        threat = training_threat(self.norm, self.eps)
        attacked = attacked_examples(model, train, self.attack, threat, name=NAME)
        clean = over(model, train, lambda x: self._features(model, x), name=NAME)
        adversarial = over(model, attacked, lambda x: self._features(model, x), name=NAME)
        part.mean.copy_(clean.mean(0))
        part.std.copy_(clean.std(0, correction=0).clamp_min(1e-3))
        x = (torch.cat([clean, adversarial]) - part.mean) / part.std
        y = torch.cat([torch.zeros(len(clean)), torch.ones(len(adversarial))]).long()
        part.network.requires_grad_(True)
        fit(part.network, Examples.of(torch.arange(len(x)), x, y), _balanced(len(clean), len(adversarial)))
        part.network.requires_grad_(False)

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """Logit of attacked minus logit of clean, (B,) float32."""
        part = attached(model, Branch)
        logits = part.network((self._features(model, x) - part.mean) / part.std)
        difference: Tensor = logits[:, 1] - logits[:, 0]
        return difference

    def _features(self, model: nn.Module, x: Tensor) -> Tensor:
        """Input features of the detector, (B, D)."""
        return torch.cat(features(model, attached(model, Branch), x)[0], 1)


class Branch(Reader):
    """The detector's network, from standardised features (B, D) to logits (B, 2): clean, attacked."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, hidden: Hidden, units: int) -> None:
        super().__init__(model, hidden)
        size = sum(hidden.sizes)
        self.network = nn.Sequential(nn.Linear(size, units), nn.ReLU(), nn.Linear(units, 2)).requires_grad_(False)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))


def _balanced(clean: int, attacked: int) -> Loss:
    """Cross-entropy with equal total weight for both labels."""
    weight = torch.tensor([clean + attacked, clean + attacked]) / torch.tensor([2.0 * clean, 2.0 * attacked])

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return F.cross_entropy(model(batch.x), batch.y, weight=weight.to(batch.x))

    return loss


@hookimpl
def benchmark_component() -> type[Defense]:
    """Register the plugin."""
    return DetectorNetwork
