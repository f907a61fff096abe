"""Clean training examples as a fixed reference for the features of inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.api import Examples, SampleRandom, derive_seed

__all__ = ["chosen", "pairwise"]


def chosen(train: Examples, count: int, *, name: str, label: int | None = None) -> Tensor:
    """Positions of at most `count` training examples, drawn by their ids, (M,) int64, ascending.

    Args:
        name: of the detector, which has its own random stream.
        label: restrict the draw to examples of this label.
    """
    rows = torch.arange(len(train)) if label is None else (train.y == label).nonzero().squeeze(1)
    order = SampleRandom(derive_seed(name), train.ids[rows]).uniform(stream="references").argsort(stable=True)
    return rows[order[:count]].sort().values


def pairwise(x: Tensor, references: Tensor) -> Tensor:
    """Euclidean distances of x (B, D) to references (M, D), (B, M), computed per row."""
    return torch.cdist(x, references, compute_mode="donot_use_mm_for_euclid_dist")
