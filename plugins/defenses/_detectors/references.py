"""Features of clean training examples, kept as a fixed reference with which inputs are compared."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.api import Examples, SampleRandom, derive_seed

__all__ = ["chosen", "pairwise"]


def chosen(train: Examples, count: int, *, name: str, label: int | None = None) -> Tensor:
    """(M,) int64, ascending: positions of at most `count` training examples, drawn by their ids.

    Args:
        name: of the detector, which sets its draw apart. label: only examples of that label.
    """
    rows = torch.arange(len(train)) if label is None else (train.y == label).nonzero().squeeze(1)
    order = SampleRandom(derive_seed(name), train.ids[rows]).uniform(stream="references").argsort(stable=True)
    return rows[order[:count]].sort().values


def pairwise(x: Tensor, references: Tensor) -> Tensor:
    """(B, M): Euclidean distances of x (B, D) to references (M, D), each row by itself."""
    return torch.cdist(x, references, compute_mode="donot_use_mm_for_euclid_dist")
