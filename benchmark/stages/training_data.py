"""Data that a system is trained on: the training split after poisons and defenses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmark import registry
from benchmark.config.system_spec import SystemSpec
from benchmark.data import Examples, Splits
from benchmark.errors import StoreError
from benchmark.records.card import RowsLost
from benchmark.records.poison import PoisonedRows
from benchmark.sampling import SampleRandom, derive_seed
from benchmark.stages.poison import poison

__all__ = ["TrainingData", "training_examples"]


@dataclass(frozen=True)
class TrainingData:
    """Training examples. poisoned: rows that poisons changed. lost: rows that each defense removed."""

    train: Examples
    poisoned: PoisonedRows | None
    lost: dict[str, list[RowsLost]]


def training_examples(parts: SystemSpec, splits: Splits, file: Path | None = None) -> TrainingData:
    """Training examples after poisons and defenses.

    file: where the poison is stored. The rows trained on, and counted, are those read back from it.
    """
    train, poisoned = poison(parts.poisons, splits, parts.seed)
    if poisoned is not None and file is not None:
        poisoned.save(file)
        poisoned = PoisonedRows.load(file)
        difference = poisoned.applied(splits.train).difference(train)
        if difference:
            raise StoreError(
                f"{file} does not contain the poison that was written: {difference} differ; check the disk and its "
                "free space"
            )
        train = poisoned.applied(splits.train)
    lost = {}
    for place, defense in enumerate(parts.defenses):
        rng, before = SampleRandom(derive_seed(parts.seed, "prepare", place), train.ids), train
        with registry.calling(defense, generators=False):
            train = defense.prepare(train, splits.spec, rng)
        removed = _rows_lost(before, train, poisoned, splits.spec.classes)
        if any(row.removed for row in removed):
            lost[registry.name_of(defense)[1]] = removed
    return TrainingData(train, poisoned, lost)


def _rows_lost(before: Examples, after: Examples, poisoned: PoisonedRows | None, classes: int) -> list[RowsLost]:
    """Numbers of rows per label before and removed by a defense, and how many of each were poisoned.

    Examples of several labels belong to none, so there are no numbers of them.
    """
    if before.y.ndim > 1:
        return []
    gone = ~torch.isin(before.ids, after.ids)
    bad = torch.zeros_like(gone) if poisoned is None else torch.isin(before.ids, poisoned.ids)

    def count(rows: Tensor) -> list[int]:
        numbers: list[int] = torch.bincount(before.y[rows], minlength=classes).tolist()
        return numbers

    columns = zip(count(bad | True), count(bad), count(gone), count(gone & bad), strict=True)
    return [RowsLost(rows=n, poisoned=p, removed=r, poisoned_removed=b) for n, p, r, b in columns]
