"""Signs: synthetic frontal views of eight traffic signs, after the task of Eykholt et al., CVPR 2018, arXiv:1707.08945.

An example is the plane of a sign, seen from the front: 32x32 pixels, colour. Shapes and colours are those of the Vienna
convention, speed limits in two-digit numbers; each example varies in shade, size, position, rotation, wear (dirt and
fading) and background. All of it follows from the seed and the example's id. `defense=[camera]` gives views from other
directions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.api import ConfigError, Dataset, DataSpec, Examples, SampleRandom, Splits, derive_seed, hookimpl
from benchmark.records.document import content_key

SIDE, FINER = 32, 2
"""Side in pixels, and the supersampling factor of the drawing."""

AT_ONCE = 64
"""Number of signs drawn together."""

RED, WHITE, BLACK, YELLOW = (0.75, 0.08, 0.10), (0.95, 0.95, 0.93), (0.06, 0.06, 0.07), (0.97, 0.78, 0.08)

GLYPHS = {
    "0": "01110 10001 10001 10001 10001 10001 01110",
    "3": "11110 00001 00001 01110 00001 00001 11110",
    "5": "11111 10000 11110 00001 00001 10001 01110",
    "8": "01110 10001 10001 01110 10001 10001 01110",
    "S": "01111 10000 10000 01110 00001 00001 11110",
    "T": "11111 00100 00100 00100 00100 00100 00100",
    "O": "01110 10001 10001 10001 10001 10001 01110",
    "P": "11110 10001 10001 11110 10000 10000 10000",
}
"""Characters as 7 rows of 5 pixels."""

CLASSES = ("stop", "yield", "no_entry", "speed_30", "speed_50", "speed_80", "priority", "warning")

SPEC = DataSpec((3, SIDE, SIDE), len(CLASSES), (0.61, 0.45, 0.43), (0.23, 0.28, 0.27), CLASSES)

Layer = tuple[Callable[[Tensor, Tensor], Tensor], tuple[float, float, float]]
"""A shape, from coordinates (B, h, w) right and down, -1 to 1 over the sign, to bool; and its colour."""


def polygon(sides: int, size: float, turn: float = 0.0) -> Callable[[Tensor, Tensor], Tensor]:
    """Regular polygon whose sides are `size` from the centre; the first one faces right, rotated by `turn` sides."""

    def inside(u: Tensor, v: Tensor) -> Tensor:
        far = torch.full_like(u, -torch.inf)
        for k in range(sides):
            angle = torch.tensor(2.0 * torch.pi * (k + turn) / sides, dtype=torch.float64)
            far = torch.maximum(far, u * float(angle.cos()) + v * float(angle.sin()))
        return far < size

    return inside


def disc(size: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Disc of radius `size`."""
    return lambda u, v: u.square() + v.square() < size * size


def box(width: float, height: float, down: float = 0.0) -> Callable[[Tensor, Tensor], Tensor]:
    """Rectangle of half sides `width` and `height` around (0, down)."""
    return lambda u, v: (u.abs() < width) & ((v - down).abs() < height)


def text(characters: str, width: float, height: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Characters in a rectangle of half sides `width` and `height`."""
    rows = ["0".join(parts) for parts in zip(*(GLYPHS[one].split() for one in characters), strict=True)]
    dots = torch.tensor([[dot == "1" for dot in row] for row in rows])

    def inside(u: Tensor, v: Tensor) -> Tensor:
        column = ((u / width + 1.0) / 2.0 * dots.shape[1]).floor().long()
        row = ((v / height + 1.0) / 2.0 * dots.shape[0]).floor().long()
        there = (column >= 0) & (column < dots.shape[1]) & (row >= 0) & (row < dots.shape[0])
        return there & dots[row.clamp(0, dots.shape[0] - 1), column.clamp(0, dots.shape[1] - 1)]

    return inside


def _limit(number: str) -> list[Layer]:
    return [(disc(1.0), RED), (disc(0.74), WHITE), (text(number, 0.5, 0.36), BLACK)]


def _triangle(turn: float, down: float, size: float) -> Callable[[Tensor, Tensor], Tensor]:
    inside = polygon(3, size, turn)
    return lambda u, v: inside(u, v - down)


SIGNS: dict[str, list[Layer]] = {
    "stop": [(polygon(8, 0.96), WHITE), (polygon(8, 0.88), RED), (text("STOP", 0.72, 0.28), WHITE)],
    "yield": [(_triangle(-0.75, -0.3, 0.6), RED), (_triangle(-0.75, -0.3, 0.33), WHITE)],
    "no_entry": [(disc(1.0), RED), (box(0.7, 0.17), WHITE)],
    "speed_30": _limit("30"),
    "speed_50": _limit("50"),
    "speed_80": _limit("80"),
    "priority": [(polygon(4, 0.76, 0.5), WHITE), (polygon(4, 0.53, 0.5), YELLOW)],
    "warning": [(_triangle(0.75, 0.3, 0.6), RED), (_triangle(0.75, 0.3, 0.33), WHITE), (box(0.09, 0.26, 0.1), BLACK)],
}
"""Layers of each sign from the back to the front."""


def drawn(labels: Tensor, rng: SampleRandom) -> Tensor:
    """A sign for each of `labels` (B,), (B, 3, 32, 32) in [0, 1], varied by `rng` alone."""
    vary = rng.uniform(12, stream="signs", low=-1.0)
    behind = 0.45 + 0.25 * vary[:, 0:3, None, None] + 0.15 * _clouds(rng, 4, "signs/behind")
    middle = (torch.arange(SIDE * FINER) + 0.5) * (2.0 / (SIDE * FINER)) - 1.0
    turn, size = 0.09 * vary[:, 3, None, None], 0.86 + 0.07 * vary[:, 4, None, None]
    right = (middle - 0.04 * vary[:, 5, None, None]) / size
    down = (middle[:, None] - 0.04 * vary[:, 6, None, None]) / size
    u, v = right * turn.cos() + down * turn.sin(), down * turn.cos() - right * turn.sin()
    fine = F.interpolate(behind, scale_factor=FINER, mode="nearest")
    faded = 0.08 * (1.0 + vary[:, 7, None, None, None])
    for label, name in enumerate(CLASSES):
        at = (labels == label).nonzero().squeeze(1)
        for shape, colour in SIGNS[name] if len(at) else []:
            inside = shape(u[at], v[at])[:, None]
            tint = torch.tensor(colour)[:, None, None] + 0.06 * vary[at, 8:11, None, None]
            paint = tint + faded[at] * (0.6 - tint)
            fine[at] = torch.where(inside, paint, fine[at])
    light = 1.0 + 0.15 * vary[:, 11, None, None, None]
    dirt = 0.06 * _clouds(rng, 8, "signs/dirt")[:, :1]
    return ((F.avg_pool2d(fine, FINER) + dirt) * light).clamp(0.0, 1.0)


def _clouds(rng: SampleRandom, cells: int, stream: str) -> Tensor:
    """Smooth noise in [-1, 1] with `cells` cells a side, (B, 3, 32, 32)."""
    coarse = rng.uniform(3, cells, cells, stream=stream, low=-1.0)
    return F.interpolate(coarse, (SIDE, SIDE), mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class Signs(Dataset):
    """train, select, test: examples per split, with labels in turn. seed: of the drawing."""

    train: int = 480
    select: int = 80
    test: int = 240
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.train, self.select, self.test) < 1:
            raise ConfigError(
                f"dataset has {self.train}, {self.select} and {self.test} examples; expected at least 1 per split"
            )

    def revision(self, root: Path) -> str:
        """Hash of the settings."""
        return content_key(["signs", 1, self.train, self.select, self.test, self.seed])

    def load(self, root: Path, *, offline: bool) -> Splits:
        """Splits of images (3, 32, 32); nothing is read from the data folder."""
        ids = torch.arange(self.train + self.select + self.test)
        y, rng = ids % len(CLASSES), SampleRandom(derive_seed("signs", self.seed), ids)
        x = torch.cat([drawn(y[at], rng.rows(at)) for at in ids.split(AT_ONCE)])
        every = Examples.of(ids, x, y)
        train, select, test = (every.take(at) for at in ids.split([self.train, self.select, self.test]))
        return Splits(train, select, test, SPEC)


@hookimpl
def benchmark_component() -> type[Dataset]:
    """Register the plugin."""
    return Signs
