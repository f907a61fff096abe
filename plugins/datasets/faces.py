"""Faces: 200 grey patches of 25x25 pixels, bundled with scikit-image. Huang, Jain & Learned-Miller, NIPS 2012.

The first 100 are faces from Labeled Faces in the Wild, the others come from the backgrounds of its photographs. As in
the input of MTCNN's networks, each is resized to 12x12 (`model=pnet`), 24x24 (`model=rnet`) or 48x48 pixels
(`model=onet`), bilinear and antialiased, and shown as three equal channels. Even rows are the test split, rows 1, 11,
21, ... are select, the other odd rows train; the id of an example is its row. Mean and deviation are those of the train
split.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.api import ConfigError, DataError, Dataset, DataSpec, Examples, MissingPackage, Splits, added, hookimpl

SHA256 = "ce1ab433bd0a896d88a87e40efdf37d9e1ce98bbd3317b498da9f0a7b8e125d5"
"""sha256 of the patches (200, 25, 25) as little-endian doubles."""

FACES = 100
"""Number of faces, which are the first rows."""

CLASS_NAMES = ("other", "face")

MEAN, DEVIATION = 0.3652, 0.2583
"""Of the train split at 24x24 pixels; other sizes differ by less than 0.02."""


@dataclass(frozen=True)
class Faces(Dataset):
    """The whole dataset, in memory, from scikit-image's own files; nothing is read from the data folder.

    size: side of a patch in pixels.
    """

    size: int = added(24)

    def __post_init__(self) -> None:
        if not 12 <= self.size <= 96:
            raise ConfigError(f"dataset.size is {self.size}; expected 12 to 96 pixels; MTCNN takes 12, 24 and 48")

    def revision(self, root: Path) -> str:
        """The pinned checksum."""
        return SHA256

    def load(self, root: Path, *, offline: bool) -> Splits:
        """Splits of 80, 20 and 100 images (3, size, size), with equal numbers of faces and non-faces.

        Raises:
            MissingPackage: without scikit-image. DataError: if its patches have another content.
        """
        small = resized(bundled_patches("faces"), self.size)
        rows = torch.arange(len(small))
        every = Examples.of(rows, small.expand(-1, 3, -1, -1), (rows < FACES).long())
        spec = DataSpec((3, self.size, self.size), 2, (MEAN,) * 3, (DEVIATION,) * 3, CLASS_NAMES)
        train, select, test = (every.take(part) for part in split_rows(rows))
        return Splits(train, select, test, spec)


def bundled_patches(dataset: str) -> Tensor:
    """scikit-image's patches, (200, 1, 25, 25) in [0, 1].

    Raises:
        MissingPackage: without scikit-image, naming the dataset. DataError: if the patches have another content.
    """
    try:
        from skimage.data import lfw_subset
    except ImportError as error:
        raise MissingPackage(
            f"dataset.{dataset} needs scikit-image, which is not installed: pip install 'adversarial-benchmark[faces]'"
        ) from error

    patches: Any = lfw_subset()  # type: ignore[no-untyped-call]
    found = hashlib.sha256(patches.astype("<f8").tobytes()).hexdigest()
    if found != SHA256:
        raise DataError(f"scikit-image's lfw_subset has sha256 {found}, expected {SHA256}; reinstall it")
    return torch.from_numpy(patches).float()[:, None]


def resized(patches: Tensor, size: int) -> Tensor:
    """Patches (N, 1, h, w) as (N, 1, size, size) in [0, 1], bilinear and antialiased."""
    small = F.interpolate(patches, (size, size), mode="bilinear", align_corners=False, antialias=True)
    return small.clamp(0.0, 1.0)


def split_rows(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of train, select and test among `rows` (N,)."""
    test, select = rows % 2 == 0, rows % 10 == 1
    return rows[~(test | select)], rows[select], rows[test]


@hookimpl
def benchmark_component() -> type[Dataset]:
    """Register the plugin."""
    return Faces
