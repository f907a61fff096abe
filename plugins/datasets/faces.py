"""Faces: 200 grey patches of 25x25 pixels, bundled with scikit-image. Huang, Jain & Learned-Miller, NIPS 2012.

The first 100 are faces from Labeled Faces in the Wild, the others come from the backgrounds of its photographs. As in
MTCNN's input (`model=rnet`), each is resized to 24x24 pixels (bilinear, antialiased) and shown as three equal
channels. Even rows are the test split, rows 1, 11, 21, ... are select, the other odd rows train; the id of an example
is its row. Mean and deviation are those of the train split.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmark.api import DataError, Dataset, DataSpec, Examples, MissingPackage, Splits, hookimpl

SHA256 = "ce1ab433bd0a896d88a87e40efdf37d9e1ce98bbd3317b498da9f0a7b8e125d5"
"""sha256 of the patches (200, 25, 25) as little-endian doubles."""

FACES = 100
"""Number of faces, which are the first rows."""

SPEC = DataSpec((3, 24, 24), 2, (0.3652,) * 3, (0.2583,) * 3, ("other", "face"))


@dataclass(frozen=True)
class Faces(Dataset):
    """The whole dataset, in memory, from scikit-image's own files; nothing is read from the data folder."""

    def revision(self, root: Path) -> str:
        """The pinned checksum."""
        return SHA256

    def load(self, root: Path, *, offline: bool) -> Splits:
        """Splits of 80, 20 and 100 images (3, 24, 24), with equal numbers of faces and non-faces.

        Raises:
            MissingPackage: without scikit-image. DataError: if its patches have another content.
        """
        try:
            from skimage.data import lfw_subset
        except ImportError as error:
            raise MissingPackage(
                "dataset.faces needs scikit-image, which is not installed: pip install 'adversarial-benchmark[faces]'"
            ) from error

        patches: Any = lfw_subset()  # type: ignore[no-untyped-call]
        found = hashlib.sha256(patches.astype("<f8").tobytes()).hexdigest()
        if found != SHA256:
            raise DataError(f"scikit-image's lfw_subset has sha256 {found}, expected {SHA256}; reinstall it")
        grey = torch.from_numpy(patches).float()[:, None]
        small = F.interpolate(grey, SPEC.shape[1:], mode="bilinear", align_corners=False, antialias=True)
        rows = torch.arange(len(grey))
        every = Examples.of(rows, small.clamp(0.0, 1.0).expand(-1, 3, -1, -1), (rows < FACES).long())
        test, select = rows % 2 == 0, rows % 10 == 1
        return Splits(every.take(rows[~(test | select)]), every.take(rows[select]), every.take(rows[test]), SPEC)


@hookimpl
def benchmark_component() -> type[Dataset]:
    """Register the plugin."""
    return Faces
