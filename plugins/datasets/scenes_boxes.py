"""Scenes of several digits with a box and a class for each, for detection. Drawn here from scikit-learn's digits."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Dataset, DataSpec, Detection, Examples, Splits, hookimpl

from ._scenes import CLASS_NAMES
from .digits import SHA256
from .scenes import DRAWING, check_scenes, drawn_splits

STRIDE = 4
"""Side of a grid cell in pixels: small enough that no cell contains the centres of two digits."""


@dataclass(frozen=True)
class ScenesBoxes(Dataset):
    """The scenes of `scenes`, with boxes: labels of a grid of cells of 4 pixels, see :class:`Detection`.

    side: of a scene, in pixels. most: most digits per scene. scenes: seed of the drawing.
    """

    tasks: ClassVar[frozenset[str]] = frozenset({Detection.name})

    side: int = 24
    most: int = 3
    scenes: int = 0

    def __post_init__(self) -> None:
        check_scenes(self.side, self.most)

    def revision(self, root: Path) -> str:
        """Checksum of the digits, and the version of the drawing."""
        return hashlib.sha256(f"{SHA256} scenes_boxes {DRAWING}".encode()).hexdigest()

    def load(self, root: Path, *, offline: bool) -> Splits:
        """Scenes (1, side, side), labels (N, (side / 4)^2, 5)."""
        found, first = [], 0
        for drawn in drawn_splits(self.side, self.most, self.scenes):
            ids = torch.arange(first, first + len(drawn.x))
            first += len(ids)
            found.append(Examples.of(ids, drawn.x, in_cells(drawn.boxes, self.side)))
        task = Detection(height=self.side, width=self.side, stride=STRIDE, objects=10)
        spec = DataSpec((1, self.side, self.side), 11, (0.1,), (0.25,), CLASS_NAMES, task)
        return Splits(found[0], found[1], found[2], spec)


def in_cells(boxes: Tensor, side: int) -> Tensor:
    """Boxes (N, most, 5) at the cells of their centres, (N, S, 5) int64; class 0 elsewhere."""
    across = side // STRIDE
    cells = torch.zeros(len(boxes), across * across, 5, dtype=torch.int64)
    scene, number = (boxes[..., 0] > 0).nonzero(as_tuple=True)
    found = boxes[scene, number]
    column, row = ((found[:, low] + found[:, low + 2]) // 2 // STRIDE for low in (1, 2))
    cells[scene, row * across + column] = found
    return cells


@hookimpl
def benchmark_component() -> type[Dataset]:
    """Register the plugin."""
    return ScenesBoxes
