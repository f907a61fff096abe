"""MS-COCO, detection: a box and a category for each object. Lin et al., ECCV 2014, arXiv:1405.0312, section 5.

In the published layout, from local files: `annotations/instances_train2017.json`, `annotations/instances_val2017.json`
and the folders of images `train2017` and `val2017`, unpacked. A detector that is not trained needs no training images.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Dataset, Detection, Splits, hookimpl

from ._coco import Annotation, InstancesFolder, Marked
from .scenes_boxes import STRIDE


@dataclass(frozen=True)
class Coco(InstancesFolder):
    """Squares of `size` pixels with a grid of cells of 4 pixels, see :class:`Detection`. Class 0 is the background.

    An object belongs to the cell of its centre, or to the nearest free one if a larger object has that cell. Crowds are
    no objects: the cells in their boxes do not count, and a detection in a crowd is not false, as in COCO's evaluation.

    path: the folder with `annotations`; relative to the data folder. train, test: names of the folders of images.
    size: side of the square. images: at most as many of each, those with the smallest hashes of their ids.
    """

    tasks: ClassVar[frozenset[str]] = frozenset({Detection.name})

    def load(self, root: Path, *, offline: bool) -> Splits:
        """Splits of images (3, size, size), labels (N, (size / 4)^2, 5).

        Raises:
            DataError: if a file is missing, or not in COCO's layout.
        """

        def task(categories: int) -> Detection:
            return Detection(height=self.size, width=self.size, stride=STRIDE, objects=categories)

        return self.splits(root, task, boxes)


def boxes(one: Marked) -> Tensor:
    """Labels of the cells of an image, (S, 5) int64: class and corners; -1 - class in the box of a crowd."""
    across = one.box.size // STRIDE
    cells = torch.zeros(across * across, 5, dtype=torch.int64)
    grid = (torch.arange(across) + 0.5) * STRIDE
    centre = torch.stack([grid.repeat(across), grid.repeat_interleave(across)], 1)
    for crowd in (1, 0):
        marks = [mark for mark in one.annotations if mark.iscrowd == crowd]
        for mark in sorted(marks, key=lambda mark: -mark.bbox[2] * mark.bbox[3]):
            corners = torch.tensor(_corners(mark, one))
            label = one.label[mark.category_id]
            if crowd:
                inside = ((centre >= corners[:2]) & (centre < corners[2:])).all(1)
                cells[inside] = torch.cat([torch.tensor([-1 - label]), corners])
                continue
            middle = (corners[:2] + corners[2:]) / 2.0 + 0.25  # one between two cells is in the latter
            far = (centre - middle).square().sum(1)
            far = far.masked_fill(cells[:, 0] > 0, torch.inf)
            if bool(far.isfinite().any()):  # else there are more objects than cells, and the smallest are left out
                cells[far.argmin()] = torch.cat([torch.tensor([label]), corners])
    return cells


def _corners(mark: Annotation, one: Marked) -> tuple[int, int, int, int]:
    """Corners in whole pixels of the square, at least a pixel apart."""
    x, y, width, height = mark.bbox
    x0, y0, x1, y1 = (round(v) for v in one.box.points([x, y, x + width, y + height]))
    x0, y0 = (min(max(low, 0), one.box.size - 1) for low in (x0, y0))
    x1, y1 = (min(max(high, low + 1), one.box.size) for high, low in ((x1, x0), (y1, y0)))
    return x0, y0, x1, y1


@hookimpl
def benchmark_component() -> type[Dataset]:
    """Register the plugin."""
    return Coco
