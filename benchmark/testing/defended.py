"""Networks and short trainings for the rules for defenses."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark import sampling
from benchmark.api import Defense, Loss
from benchmark.data import Batch, DataSpec, Examples
from benchmark.errors import Refused
from benchmark.sampling import SampleRandom
from benchmark.stages.fit import built
from benchmark.system import System
from benchmark.testing.worlds import SHAPE, Net, examples, seeded

__all__ = [
    "Rectified",
    "architecture",
    "batch_of",
    "defended_loss",
    "fit_once",
    "network_of",
    "random_of",
    "system_of",
    "trained_with",
]


class Rectified(nn.Module):
    """Network with batch normalisation and a ReLU, which some defenses need or alter; the world's `Net` has neither."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(1)
        self.norm = nn.BatchNorm1d(math.prod(spec.shape))
        self.first = nn.Parameter(torch.randn(math.prod(spec.shape), 8, generator=draw) / 4)
        self.active = nn.ReLU()
        self.second = nn.Parameter(torch.randn(8, spec.classes, generator=draw))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K)."""
        logits: Tensor = self.active(self.norm(x.flatten(1)) @ self.first) @ self.second
        return logits


def _layers(spec: DataSpec) -> nn.Module:
    """A convolution and a linear layer; two linear layers for examples that are not images."""
    if not spec.image:
        return nn.Sequential(nn.Linear(math.prod(spec.shape), 8), nn.ReLU(), nn.Linear(8, spec.classes))
    channels, height, width = spec.shape
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * height * width, spec.classes)
    )


NETWORKS: tuple[Callable[[DataSpec], nn.Module], ...] = (Net, Rectified, _layers)
"""Networks to defend, of which the first that the defense does not refuse is used."""


def network_of(defense: Defense, spec: DataSpec) -> Callable[[DataSpec], nn.Module]:
    """Network that the defense accepts through all stages of training."""
    for network in NETWORKS[:-1]:
        try:
            _put_through(defense, built(network(spec), spec, (defense,)), spec.shape)
        except Refused:
            continue
        return network
    return NETWORKS[-1]


def architecture(defense: Defense, spec: DataSpec) -> nn.Module:
    """A classifier that the defense accepts, after its changes to it."""
    return built(network_of(defense, spec)(spec), spec, (defense,))


def _cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch.x), batch.y if batch.soft is None else batch.soft)


def batch_of(train: Examples, count: int = 8) -> Batch:
    """First examples as a batch."""
    at = torch.arange(min(count, len(train)))
    return Batch(train.ids[at], train.x(at), train.y[at], None if train.soft is None else train.soft[at])


def random_of(ids: Tensor) -> SampleRandom:
    """Randomness of the seed 0 for these ids."""
    return SampleRandom(0, ids.clone())


def fit_once(model: nn.Module, train: Examples, loss: Loss) -> None:
    """Take two steps of gradient descent, enough to see if training works."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    batch = batch_of(train)
    for _ in range(2):
        with sampling.using(random_of(batch.ids)):
            gradients = torch.autograd.grad(loss(model, batch), trainable, allow_unused=True)
        with torch.no_grad():
            for parameter, gradient in zip(trainable, gradients, strict=True):
                if gradient is not None:
                    parameter.sub_(0.01 * gradient)


def trained(defense: Defense, shape: tuple[int, ...] = SHAPE) -> nn.Module:
    """Classifier for inputs of `shape` after all stages of training with the defense."""
    return trained_with(defense, shape=shape)[0]


def trained_with(
    defense: Defense, model: nn.Module | None = None, shape: tuple[int, ...] = SHAPE
) -> tuple[nn.Module, Examples]:
    """Classifier after all stages of training with a defense, and the examples that it was trained on."""
    spec = examples(shape=shape)[1]
    with seeded(0):
        model = architecture(defense, spec) if model is None else built(model, spec, (defense,))
    return _put_through(defense, model, shape)


def _put_through(defense: Defense, model: nn.Module, shape: tuple[int, ...]) -> tuple[nn.Module, Examples]:
    train, spec = examples(shape=shape)
    with seeded(0):
        prepared = defense.prepare(train, spec, random_of(train.ids))
        now = defense.start(model, prepared, spec, fit_once).at_epoch(1, 2)
        model.train()
        fit_once(model, prepared, partial(defended_loss, now))
        with torch.no_grad():
            now.after_step(model)
        defense.finish(model, prepared, fit_once)
        defense.repair(model, prepared, fit_once)
    return model.eval(), prepared


def defended_loss(defense: Defense, model: nn.Module, batch: Batch) -> Tensor:
    """Training loss of a defense on top of cross-entropy, a scalar."""
    return defense.loss(model, batch, _cross_entropy, random_of(batch.ids))


def system_of(defense: Defense) -> System:
    """A trained system with this defense alone."""
    return System(trained(defense), examples()[1], (defense,))
