"""Digits: 1 797 handwritten digits of 8x8 pixels, bundled with scikit-learn. Alpaydin & Kaynak, UCI repository, 1998.

Grey levels 0 to 16 are divided by 16. Rows 0-1096 are the train split, 1097-1296 select, 1297-1796 test, and the id of
an example is its row. Mean and standard deviation are those of all pixels of the train split.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from benchmark.api import Dataset, DataSpec, Examples, Splits, hookimpl

from ._packaged import packaged, read_table

SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
"""sha256 of the grey levels (1797, 64), then the labels (1797,), as unsigned bytes."""

SPEC = DataSpec((1, 8, 8), 10, (0.3069,), (0.3759,), tuple("0123456789"))


@dataclass(frozen=True)
class Digits(Dataset):
    """The whole dataset, in memory; nothing is read from the data folder."""

    def revision(self, root: Path) -> str:
        """The pinned checksum."""
        return SHA256

    def load(self, root: Path, *, offline: bool) -> Splits:
        """Splits of 1097, 200 and 500 images (1, 8, 8)."""
        file = packaged("sklearn", "datasets", "data", "digits.csv.gz")
        values, labels = read_table(file, "digits", sha256=SHA256, package="scikit-learn")
        x = (values / 16.0).float().reshape(-1, 1, 8, 8)
        rows = torch.arange(len(x))
        every = Examples.of(rows, x, labels)
        return Splits(every.take(rows[:1097]), every.take(rows[1097:1297]), every.take(rows[1297:]), SPEC)


@hookimpl
def benchmark_component() -> type[Dataset]:
    """Register the plugin."""
    return Digits
