"""Deep k-NN: a row whose neighbours have another label is removed. Peri et al., ECCV-W 2020, arXiv:1909.13374."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.api import ConfigError, DataSpec, Defense, Examples, Model, SampleRandom, hookimpl, inner

from ._backdoors.filtering import suspected_features, without

ROWS = 256


@dataclass(frozen=True)
class DeepKNN(Defense):
    """Remove the rows whose label is not the plurality among their nearest neighbours in feature space.

    neighbours: number of neighbours, excluding the row itself; about twice the poison in the target class; at most N -
    1.
    model, epochs: the network that provides the features, and its training on the suspected rows.
    """

    neighbours: int = 50
    model: Model = inner("mlp")
    epochs: int = 20

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise ConfigError(f"deep_knn.neighbours is {self.neighbours}; expected at least 1")

    def prepare(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> Examples:
        """Train the network, and remove the rows that their neighbours outvote."""
        features = suspected_features(self.model, train, spec, self.epochs, rng)
        return without(train, outvoted(features, train.y, self.neighbours))


def outvoted(features: Tensor, y: Tensor, neighbours: int) -> Tensor:
    """Rows of `features` (N, D) whose label in `y` (N,) is less frequent among the neighbours than another, (N,) bool.

    Euclidean distance; of equally distant rows the earlier ones are neighbours. A label tied for the plurality is kept.
    """
    count = min(neighbours, len(y) - 1)
    removed = torch.zeros(len(y), dtype=torch.bool)
    if count < 1:
        return removed
    one_hot = F.one_hot(y)
    for at in torch.arange(len(y)).split(ROWS):
        far = torch.cdist(features[at], features, compute_mode="donot_use_mm_for_euclid_dist")
        far[torch.arange(len(at)), at] = torch.inf
        nearest = far.argsort(dim=1, stable=True)[:, :count]
        votes = one_hot[nearest].sum(1)
        own = votes.gather(1, y[at, None]).squeeze(1)
        removed[at] = own < votes.amax(1)
    return removed


@hookimpl
def benchmark_component() -> type[DeepKNN]:
    """Register the plugin."""
    return DeepKNN
