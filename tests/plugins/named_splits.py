"""Datasets built by name, and properties of their splits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmark import registry
from benchmark.api import Dataset
from benchmark.data import Examples, Splits


def make(name: str, **params: Any) -> Dataset:
    """A dataset by its name, as the harness finds it."""
    cls: Any = registry.load("dataset", name)
    dataset: Dataset = cls(**params)
    return dataset


def parts(splits: Splits) -> tuple[Examples, Examples, Examples]:
    return splits.train, splits.select, splits.test


def disjoint(splits: Splits) -> bool:
    ids = torch.cat([part.ids for part in parts(splits)])
    return len(set(ids.tolist())) == len(ids)


def in_box(x: Tensor) -> bool:
    return x.dtype == torch.float32 and float(x.min()) >= 0.0 and float(x.max()) <= 1.0


def nearest_mean_hits(train: list[Examples], test: Examples) -> int:
    """The number of test examples that lie nearest to the mean of their own class."""
    x, y = torch.cat([t.x() for t in train]).flatten(1).double(), torch.cat([t.y for t in train])
    means = torch.stack([x[y == k].mean(0) for k in range(int(y.max()) + 1)])
    return int((torch.cdist(test.x().flatten(1).double(), means).argmin(1) == test.y).sum())
