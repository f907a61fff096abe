"""Activation clustering: a poisoned class has two clusters of features. Chen et al., SafeAI 2019, arXiv:1811.03728."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import ConfigError, DataSpec, Defense, Examples, Model, SampleRandom, derive_seed, hookimpl, inner

from ._backdoors.filtering import suspected_features, without

LEAST = 10
"""Classes with fewer rows are not clustered."""


@dataclass(frozen=True)
class ActivationClustering(Defense):
    """Project each class's features to their principal components, cluster them in two, and remove the smaller cluster.

    Assumes that poison is less than half of its class: of equal clusters the clean one may be removed. The card gives
    the number of removed rows per class. Difference from the paper: principal instead of independent components.

    silhouette: minimum silhouette of the clusters of a class considered poisoned; -1 for every class.
    components: principal components kept.
    model, epochs: the network that provides the features, and its training on the suspected rows.
    """

    silhouette: float = 0.35
    components: int = 10
    model: Model = inner("mlp")
    epochs: int = 20

    def __post_init__(self) -> None:
        if not -1.0 <= self.silhouette <= 1.0 or self.components < 1:
            raise ConfigError(
                f"activation_clustering has silhouette {self.silhouette} and components {self.components}; expected a "
                "silhouette between -1 and 1, and at least 1 component"
            )

    def prepare(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> Examples:
        """Train the network, cluster its features, and remove the smaller clusters."""
        features = suspected_features(self.model, train, spec, self.epochs, rng)
        removed = torch.zeros(len(train), dtype=torch.bool)
        for label in train.y.unique().tolist():
            rows = (train.y == label).nonzero().flatten()
            if len(rows) < LEAST:
                continue
            smaller, apart = split(features[rows], self.components, derive_seed(rng.seed, "clusters", label))
            if apart >= self.silhouette:
                removed[rows[smaller]] = True
        return without(train, removed)


def split(features: Tensor, components: int, seed: int) -> tuple[Tensor, float]:
    """Two clusters of `features` (n, D) by k-means on the first principal components.

    Returns:
        (n,) bool, the smaller cluster (if equal, the one without the first row); and the silhouette, in [-1, 1], -1 if
        all features are the same.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    away = features - features.mean(0)
    if not bool(away.any()):
        return torch.zeros(len(features), dtype=torch.bool), -1.0
    directions = torch.linalg.svd(away, full_matrices=False).Vh[:components]
    points = (away @ directions.T).numpy()
    cluster = KMeans(2, n_init=10, random_state=seed % 2**31).fit(points).labels_
    second = torch.from_numpy(cluster != cluster[0])
    smaller = second if int(second.sum()) * 2 <= len(second) else ~second
    return smaller, float(silhouette_score(points, cluster))


@hookimpl
def benchmark_component() -> type[ActivationClustering]:
    """Register the plugin."""
    return ActivationClustering
