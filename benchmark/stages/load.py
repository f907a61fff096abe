"""load: load and check the splits of a dataset."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmark import registry
from benchmark.api import Dataset
from benchmark.config.schema import StoreConfig
from benchmark.data import Examples, Splits
from benchmark.errors import DataError
from benchmark.records.record import Finding, SplitInfo

__all__ = ["Loaded", "leakage", "load_data"]


@dataclass(frozen=True)
class Loaded:
    """A dataset with its identity.

    attacked: the test examples of this run, in their fixed order. disjoint: True if no test input is also a training or
    select input, value for value; None if there is too much data to compare. shared: number of such test inputs.
    """

    splits: Splits
    attacked: Examples
    revision: str
    infos: dict[str, SplitInfo]
    disjoint: bool | None
    shared: int = 0


def load_data(dataset: Dataset, store: StoreConfig, examples: int | None = None) -> Loaded:
    """Load a dataset and check the assumptions of all later stages.

    Args:
        store: the folder of the data, and whether downloads are allowed. examples: number of test examples to attack,
        in
            order; None for all.

    Raises:
        DataError: if ids repeat, labels are out of range, or there is only one class.
    """
    name = registry.name_of(dataset)[1]
    with registry.calling(dataset):
        splits = dataset.load(Path(store.data), offline=store.offline)
        revision = dataset.revision(Path(store.data))
    parts = {"train": splits.train, "select": splits.select, "test": splits.test}
    ids = torch.cat([part.ids for part in parts.values()])
    if len(ids.unique()) != len(ids):
        raise DataError(f"dataset.{name} gives the same id to several examples; its splits must not overlap")
    for split, part in parts.items():
        labels = part.y[..., 0] if part.y.ndim == 3 else part.y
        least = splits.spec.task.least_label(splits.spec.classes)
        if len(part) and (int(labels.min()) < least or int(labels.max()) >= splits.spec.classes):
            raise DataError(
                f"dataset.{name} has labels outside {least} to {splits.spec.classes - 1} in its {split} split"
            )
    if splits.spec.classes < 2 or len(splits.train.y.unique()) == 1:
        raise DataError(f"dataset.{name} has training examples of only one class; expected at least two")
    shared = _shared(splits)
    count = len(splits.test) if examples is None else min(examples, len(splits.test))
    return Loaded(
        splits,
        splits.test if count == len(splits.test) else splits.test.take(torch.arange(count)),
        revision,
        {split: SplitInfo(count=len(part), sha256=part.digest()) for split, part in parts.items()},
        disjoint=None if shared is None else shared == 0,
        shared=shared or 0,
    )


def leakage(loaded: Loaded) -> list[Finding]:
    """Finding about test inputs that the system may have been trained on; empty if there are none."""
    return _leaked(loaded.shared, len(loaded.splits.test))


def leakage_of(splits: Splits) -> list[Finding]:
    """Finding of :func:`leakage` for the splits of a dataset."""
    return _leaked(_shared(splits), len(splits.test))


def _leaked(shared: int | None, total: int) -> list[Finding]:
    if not shared:
        return []
    return [
        Finding(
            name="test_in_training",
            severity="error" if shared > TWINS * total else "warning",
            evidence=f"{shared} of {total} test inputs are also inputs of the training or the "
            "select split, value for value: what the system does on them says nothing of new examples",
        )
    ]


TWINS = 0.01
"""Fraction of test inputs that may have a duplicate by chance, as in tables of few values."""

COMPARED_BYTES = 1 << 30
"""Largest size of the inputs, in bytes of single precision, for which the splits are compared."""


COMPARED_VALUES = 64
"""Number of values per input that are compared first."""


def _shared(splits: Splits) -> int | None:
    """Number of test inputs that are also inputs of another split; None if there is too much to read."""
    rows = sum(len(part) for part in (splits.train, splits.select, splits.test))
    if 4 * rows * math.prod(splits.spec.shape) > COMPARED_BYTES:
        return None
    kept = (splits.train, splits.select)
    some = torch.linspace(0, math.prod(splits.spec.shape) - 1, COMPARED_VALUES).long().unique()
    glanced = [_contents(part, some) for part in (*kept, splits.test)]
    alike = torch.isin(glanced[-1], torch.cat(glanced[:-1]))
    near = [
        part.take(torch.isin(hashes, glanced[-1][alike]).nonzero().flatten())
        for part, hashes in zip((*kept, splits.test), glanced, strict=True)
    ]
    whole = [_contents(part) for part in near]
    return int(torch.isin(whole[-1], torch.cat(whole[:-1])).sum())


def _contents(examples: Examples, places: Tensor | None = None) -> Tensor:
    """Hash of the values of each input, (N,) int64; distinct inputs practically never collide.

    Args:
        places: positions of the (flattened) values to hash; all by default.
    """
    found, weights = [torch.zeros(0, dtype=torch.int64)], torch.zeros(0, dtype=torch.int64)
    for at in torch.arange(len(examples)).split(1024):
        x = examples.x(at).flatten(1) + 0.0  # of the two zeros, one
        bits = (x if places is None else x[:, places]).contiguous().view(torch.int32).long()
        if len(weights) == 0:
            drawn = torch.Generator().manual_seed(0)
            weights = torch.randint(-(2**62), 2**62, (bits.shape[1],), generator=drawn) | 1
        mixed = bits * weights
        found.append(((mixed ^ (mixed >> 29)) * weights.flip(0)).sum(1))
    return torch.cat(found)
