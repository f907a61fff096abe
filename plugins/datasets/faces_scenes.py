"""Scenes of faces among other patches, with a box for each face, for detection. Made here from scikit-image's patches.

The patches are those of `faces`: a scene is a mosaic of three by three, of which one to three are faces. Scenes of each
split are made of the patches of that split alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Dataset, DataSpec, Detection, Examples, SampleRandom, Splits, derive_seed, hookimpl

from .faces import DEVIATION, FACES, MEAN, SHA256, bundled_patches, resized, split_rows

PATCH, ACROSS = 24, 3
"""Side of a patch in pixels, and patches in a row of the mosaic."""

STRIDE = 8
"""Side of a grid cell in pixels."""

COUNTS = (160, 40, 100)
"""Number of scenes for training, selection and test."""

DRAWING = 1
"""Version of the drawing; it rises when the same settings give other scenes."""


@dataclass(frozen=True)
class FacesScenes(Dataset):
    """160 / 40 / 100 scenes of 72x72 pixels, three equal channels; a face fills its patch of 24x24 pixels.

    scenes: seed of the drawing.
    """

    tasks: ClassVar[frozenset[str]] = frozenset({Detection.name})

    scenes: int = 0

    def revision(self, root: Path) -> str:
        """Checksum of the patches, and the version of the drawing."""
        return hashlib.sha256(f"{SHA256} faces_scenes {DRAWING}".encode()).hexdigest()

    def load(self, root: Path, *, offline: bool) -> Splits:
        """Scenes (3, 72, 72), labels (N, 81, 5).

        Raises:
            MissingPackage: without scikit-image. DataError: if its patches have another content.
        """
        patches = resized(bundled_patches("faces_scenes"), PATCH)
        parts, first = [], 0
        for rows, count in zip(split_rows(torch.arange(len(patches))), COUNTS, strict=True):
            ids = torch.arange(first, first + count)
            first += count
            x, y = mosaics(patches, rows, SampleRandom(derive_seed("faces_scenes", self.scenes), ids))
            parts.append(Examples.of(ids, x.expand(-1, 3, -1, -1), y))
        side = PATCH * ACROSS
        task = Detection(height=side, width=side, stride=STRIDE, objects=1)
        spec = DataSpec((3, side, side), 2, (MEAN,) * 3, (DEVIATION,) * 3, ("background", "face"), task)
        return Splits(parts[0], parts[1], parts[2], spec)


def mosaics(patches: Tensor, rows: Tensor, rng: SampleRandom) -> tuple[Tensor, Tensor]:
    """Scenes (B, 1, 72, 72) of the patches with numbers `rows`, and labels (B, 81, 5) int64, by `rng` alone."""
    places = ACROSS * ACROSS
    faces, others = rows[rows < FACES], rows[rows >= FACES]
    number = 1 + rng.integers(3, 1, stream="number")
    rank = rng.permutation(places, stream="places")
    face = rank < number  # the places whose rank in a random order is below the number of faces
    chosen = torch.where(
        face,
        faces[rng.integers(len(faces), places, stream="faces")],
        others[rng.integers(len(others), places, stream="others")],
    )
    tiles = patches[chosen].reshape(-1, ACROSS, ACROSS, PATCH, PATCH)
    side, cells = PATCH * ACROSS, PATCH * ACROSS // STRIDE
    x = tiles.permute(0, 1, 3, 2, 4).reshape(-1, 1, side, side)
    y = torch.zeros(len(x), cells * cells, 5, dtype=torch.int64)
    scene, place = face.nonzero(as_tuple=True)
    top, left = place // ACROSS * PATCH, place % ACROSS * PATCH
    cell = (top + PATCH // 2) // STRIDE * cells + (left + PATCH // 2) // STRIDE
    y[scene, cell] = torch.stack([torch.ones_like(top), left, top, left + PATCH, top + PATCH], 1)
    return x, y


@hookimpl
def benchmark_component() -> type[Dataset]:
    """Register the plugin."""
    return FacesScenes
