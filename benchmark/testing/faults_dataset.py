"""Datasets that each break one promise, made from a sound one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmark.api import Dataset
from benchmark.data import DataSpec, Examples, Splits
from benchmark.sampling import SampleRandom

__all__ = ["SoundDataset"]


@dataclass(frozen=True)
class SoundDataset(Dataset):
    """Sixty random inputs of two classes."""

    def revision(self, root: Path) -> str:
        """A constant."""
        return "1"

    def load(self, root: Path, *, offline: bool) -> Splits:
        """Forty examples to train, ten to select, ten to test."""
        ids = torch.arange(60)
        whole = Examples.of(ids, SampleRandom(0, ids).uniform(4, stream="x"), ids % 2)
        train, select, test = (whole.take(torch.arange(a, b)) for a, b in ((0, 40), (40, 50), (50, 60)))
        return Splits(train, select, test, DataSpec((4,), 2))


@dataclass(frozen=True)
class SharesExamples(SoundDataset):
    """Tests on training examples."""

    def load(self, root: Path, *, offline: bool) -> Splits:
        """Splits whose test split overlaps the train split."""
        splits = super().load(root, offline=offline)
        return dataclasses.replace(splits, test=splits.train.take(torch.arange(5)))


@dataclass(frozen=True)
class ForgetsToScale(SoundDataset):
    """Returns values up to 255."""

    def load(self, root: Path, *, offline: bool) -> Splits:
        """Splits with test inputs in the wrong unit."""
        splits = super().load(root, offline=offline)
        test = splits.test
        return dataclasses.replace(splits, test=dataclasses.replace(test, read=lambda at: test.read(at) * 255))


@dataclass(frozen=True)
class CountsLabelsFromOne(SoundDataset):
    """Returns labels 1 to K."""

    def load(self, root: Path, *, offline: bool) -> Splits:
        """Splits with every label one too high."""
        splits = super().load(root, offline=offline)
        return dataclasses.replace(splits, train=dataclasses.replace(splits.train, y=splits.train.y + 1))


@dataclass(frozen=True)
class ShufflesGlobally(SoundDataset):
    """Orders its examples by a global generator."""

    def load(self, root: Path, *, offline: bool) -> Splits:
        """Splits with the train split in another order each time."""
        splits = super().load(root, offline=offline)
        return dataclasses.replace(splits, train=splits.train.take(torch.randperm(40)))


_loads = [0]


@dataclass(frozen=True)
class HasAMovingRevision(SoundDataset):
    """Counts its calls in the revision."""

    def revision(self, root: Path) -> str:
        """Another revision each time."""
        _loads[0] += 1
        return str(_loads[0])
