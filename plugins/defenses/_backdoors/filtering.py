"""Filters of training rows by the features of a network trained on all rows. Tran et al., NeurIPS 2018."""

from __future__ import annotations

from torch import Tensor

from benchmark.api import DataSpec, Examples, Model, SampleRandom, derive_seed, features_of, train_network

__all__ = ["suspected_features", "without"]


def suspected_features(model: Model, train: Examples, spec: DataSpec, epochs: int, rng: SampleRandom) -> Tensor:
    """Features of the rows, poison included, in a network trained on these rows, (N, D) float64.

    Cost: `epochs` forward and backward passes over the rows, and one further forward pass.
    """
    network = train_network(model, train, spec, epochs=epochs, seed=derive_seed(rng.seed, "network"))
    return features_of(network, train).double()


def without(train: Examples, removed: Tensor) -> Examples:
    """Examples that are not `removed` (N,) bool, in their original order."""
    return train.take((~removed).nonzero().flatten()) if bool(removed.any()) else train
