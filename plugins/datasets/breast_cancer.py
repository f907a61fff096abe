"""Breast cancer Wisconsin: diagnoses from 30 measurements of cell nuclei. Street, Wolberg & Mangasarian, 1993.

Tabular, bundled with scikit-learn: 569 patients, 0 malignant and 1 benign. Odd rows are the test split, rows 6, 14,
22, ... are select, the other even rows train; the id of an example is its row. Each feature is scaled by the smallest
and largest value of the train split, so that nothing is learnt from test rows, and values beyond are clipped to
[0, 1] (0.7 % of the test values). Mean and standard deviation are those of the scaled train split, per feature.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from benchmark.api import Dataset, DataSpec, Examples, Splits, hookimpl

from ._packaged import packaged, read_table

SHA256 = "3a54a12ffd3db348fbe319a9056329cde28da5b2e5ecc26ff7fb9f54aa7cc9f4"
"""sha256 of the measurements (569, 30) as little-endian doubles, then the labels (569,) as unsigned bytes."""

# fmt: off
MEAN = (
    0.3163, 0.3685, 0.3173, 0.2098, 0.4051, 0.3069, 0.2292, 0.2554, 0.3723, 0.2953,
    0.1144, 0.1817, 0.1005, 0.0713, 0.2486, 0.2379, 0.0911, 0.2318, 0.1994, 0.1087,
    0.3083, 0.4220, 0.3002, 0.2222, 0.5235, 0.3065, 0.2330, 0.4042, 0.3034, 0.3478,
)
STD = (
    0.1867, 0.1787, 0.1880, 0.1684, 0.1323, 0.1866, 0.2126, 0.2123, 0.1891, 0.1503,
    0.1158, 0.1274, 0.1127, 0.1007, 0.1382, 0.1891, 0.1023, 0.1358, 0.1737, 0.1099,
    0.2144, 0.1977, 0.2103, 0.2066, 0.1790, 0.1937, 0.1790, 0.2353, 0.1413, 0.1830,
)
# fmt: on
SPEC = DataSpec((30,), 2, MEAN, STD, ("malignant", "benign"))


@dataclass(frozen=True)
class BreastCancer(Dataset):
    """The whole dataset, in memory; nothing is read from the data folder."""

    def revision(self, root: Path) -> str:
        """The pinned checksum."""
        return SHA256

    def load(self, root: Path, *, offline: bool) -> Splits:
        """Splits of 214, 71 and 284 examples with (30,) features."""
        file = packaged("sklearn", "datasets", "data", "breast_cancer.csv")
        measured, labels = read_table(file, "measurements", sha256=SHA256, package="scikit-learn", head=1)
        rows = torch.arange(len(measured))
        test, select = rows % 2 == 1, rows % 8 == 6
        train = ~(test | select)
        low, high = measured[train].amin(0), measured[train].amax(0)
        x = ((measured - low) / (high - low)).clamp(0.0, 1.0).float()
        every = Examples.of(rows, x, labels)
        return Splits(every.take(rows[train]), every.take(rows[select]), every.take(rows[test]), SPEC)


@hookimpl
def benchmark_component() -> type[Dataset]:
    """Register the plugin."""
    return BreastCancer
