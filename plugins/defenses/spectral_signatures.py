"""Spectral signatures: poison stands out along the first singular vector. Tran, Li & Madry, NeurIPS 2018,
arXiv:1811.00636, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import ConfigError, DataSpec, Defense, Examples, Model, SampleRandom, hookimpl, inner

from ._backdoors.filtering import suspected_features, without


@dataclass(frozen=True)
class SpectralSignatures(Defense):
    """Remove the rows with the highest scores from every class before the system is trained.

    Clean classes lose as many rows as poisoned ones: the method does not know which class is poisoned.

    poisoned: assumed share of poison in a class; 1.5 times as many rows are removed. centred: score by the centred
    features, as in the paper; the authors' code projects the uncentred features.
    model, epochs: the network that provides the features, and its training on the suspected rows.
    """

    poisoned: float = 0.1
    centred: bool = True
    model: Model = inner("mlp")
    epochs: int = 20

    def __post_init__(self) -> None:
        if not 0.0 <= self.poisoned < 2 / 3:
            raise ConfigError(
                f"spectral_signatures.poisoned is {self.poisoned}; expected a share of each class in [0, 2/3), since "
                "1.5 times as many rows are removed"
            )

    def prepare(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> Examples:
        """Train the network, then remove int(1.5 * poisoned * n) of the n rows of each class."""
        features = suspected_features(self.model, train, spec, self.epochs, rng)
        return without(train, outlying(features, train.y, self.poisoned, centred=self.centred))


def spectral_scores(features: Tensor, *, centred: bool = True) -> Tensor:
    """Squared projections of `features` (n, D) on the first right singular vector of the centred features, (n,)."""
    away = features - features.mean(0)
    direction: Tensor = torch.linalg.svd(away, full_matrices=False).Vh[0]
    return ((away if centred else features) @ direction).square()


def outlying(features: Tensor, y: Tensor, poisoned: float, *, centred: bool = True) -> Tensor:
    """The int(1.5 * poisoned * n) rows with the highest scores in each class of n rows, (N,) bool."""
    removed = torch.zeros(len(y), dtype=torch.bool)
    for label in y.unique().tolist():
        rows = (y == label).nonzero().flatten()
        count = int(1.5 * poisoned * len(rows))
        scores = spectral_scores(features[rows], centred=centred)
        removed[rows[scores.argsort(descending=True, stable=True)[:count]]] = True
    return removed


@hookimpl
def benchmark_component() -> type[SpectralSignatures]:
    """Register the plugin."""
    return SpectralSignatures
