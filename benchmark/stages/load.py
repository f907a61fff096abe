"""load: the splits of a dataset, checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from benchmark import registry
from benchmark.api import Dataset
from benchmark.config.schema import StoreConfig
from benchmark.data import Examples, Splits
from benchmark.errors import DataError
from benchmark.records.record import SplitInfo

__all__ = ["Loaded", "load_data"]


@dataclass(frozen=True)
class Loaded:
    """A dataset, and what identifies it. attacked: the test examples of this run, in their fixed order."""

    splits: Splits
    attacked: Examples
    revision: str
    infos: dict[str, SplitInfo]
    disjoint: bool


def load_data(dataset: Dataset, store: StoreConfig, examples: int | None = None) -> Loaded:
    """Load a dataset and check what every later stage takes for granted.

    Args:
        store: the folder of the data, and whether it may be downloaded. examples: how many of the test split's first
            examples are attacked; None is all.

    Raises:
        DataError: if splits overlap, ids repeat, or labels lie outside the classes.
    """
    name = registry.name_of(dataset)[1]
    splits = dataset.load(Path(store.data), offline=store.offline)
    parts = {"train": splits.train, "select": splits.select, "test": splits.test}
    ids = torch.cat([part.ids for part in parts.values()])
    if len(ids.unique()) != len(ids):
        raise DataError(f"dataset.{name} gives one example id to several examples; its splits must not overlap")
    for split, part in parts.items():
        if len(part) and (int(part.y.min()) < 0 or int(part.y.max()) >= splits.spec.classes):
            raise DataError(f"dataset.{name} has labels outside 0 to {splits.spec.classes - 1} in its {split} split")
    count = len(splits.test) if examples is None else min(examples, len(splits.test))
    return Loaded(
        splits,
        splits.test if count == len(splits.test) else splits.test.take(torch.arange(count)),
        dataset.revision(Path(store.data)),
        {split: SplitInfo(count=len(part), sha256=part.digest()) for split, part in parts.items()},
        disjoint=True,
    )
