"""MS-COCO, segmentation: the category of every pixel. Lin et al., ECCV 2014, arXiv:1405.0312, section 5.

The files of `dataset=coco`. The outlines of the objects are drawn at the size of the network's input.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.api import DataError, Dataset, Segmentation, Splits, hookimpl

from ._coco import Annotation, InstancesFolder, Marked, Runs


@dataclass(frozen=True)
class CocoMasks(InstancesFolder):
    """Squares of `size` pixels; classes: background, then the categories.

    Void are crowds, pixels of several objects, and the grey around the image.

    path, train, test, size, images: see `coco`. share: an image counts as correct if at least this share of its pixels
    is.
    """

    tasks: ClassVar[frozenset[str]] = frozenset({Segmentation.name})

    share: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        Segmentation(share=self.share)

    def load(self, root: Path, *, offline: bool) -> Splits:
        """Splits of images (3, size, size), labels (N, size * size).

        Raises:
            DataError: if a file is missing, or not in COCO's layout.
        """
        return self.splits(root, lambda _: Segmentation(share=self.share), masks)


def masks(one: Marked) -> Tensor:
    """Classes of the pixels of an image, (size * size,) int64, -1 for void."""
    side = one.box.size
    left, top, width, height = one.box.placed
    label = np.full((side, side), -1, np.int64)
    label[top : top + height, left : left + width] = 0
    times = np.zeros((side, side), np.int64)
    for mark in one.annotations:
        inside = outline(mark, one)
        times += inside
        label[inside & (label >= 0)] = -1 if mark.iscrowd else one.label[mark.category_id]
    label[times > 1] = -1
    return torch.from_numpy(label.reshape(-1))


def outline(mark: Annotation, one: Marked) -> NDArray[np.bool_]:
    """Pixels of the square that an annotation covers, (size, size)."""
    from PIL import Image, ImageDraw

    box = one.box
    if isinstance(mark.segmentation, Runs):
        left, top, width, height = box.placed
        original = Image.fromarray(_decoded(mark.segmentation, one).astype(np.uint8) * 255)
        square = Image.new("L", (box.size, box.size))
        square.paste(original.resize((width, height), Image.Resampling.NEAREST), (left, top))
    else:
        square = Image.new("L", (box.size, box.size))
        draw = ImageDraw.Draw(square)
        for points in mark.segmentation:
            draw.polygon([value - 0.5 for value in box.points(points[: len(points) // 2 * 2])], fill=255)
    return np.asarray(square) > 0


def _decoded(runs: Runs, one: Marked) -> NDArray[np.bool_]:
    """Mask of run lengths, (height, width).

    Raises:
        DataError: if they are compressed, or of another size.
    """
    counts, box = runs.counts, one.box
    if isinstance(counts, str) or min(counts, default=0) < 0 or sum(counts) != box.width * box.height:
        raise DataError(
            f"an annotation of {one.path.name} has run lengths that are compressed or do not sum to the "
            f"{box.width}x{box.height} pixels; expected a list of counts, as in the instances files of MS-COCO"
        )
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape(box.width, box.height).T


@hookimpl
def benchmark_component() -> type[Dataset]:
    """Register the plugin."""
    return CocoMasks
