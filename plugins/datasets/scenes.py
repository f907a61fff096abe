"""Scenes of several digits with the class of every pixel, for segmentation. Drawn here from scikit-learn's digits."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from benchmark.api import ConfigError, Dataset, DataSpec, Examples, Segmentation, Splits, hookimpl

from ._scenes import CLASS_NAMES, COUNTS, SIZES, Drawn, draw_scenes
from .digits import SHA256, Digits

DRAWING = 1
"""Version of the drawing; it rises when the same settings give other scenes."""


@dataclass(frozen=True)
class Scenes(Dataset):
    """2000 / 200 / 300 grey scenes of 1 to `most` digits; classes: background, then 0 to 9. Ambiguous pixels are void.

    side: of a scene, in pixels. share: a scene counts as correct if at least this share of its pixels is.
    scenes: seed of the drawing.
    """

    tasks: ClassVar[frozenset[str]] = frozenset({Segmentation.name})

    side: int = 24
    most: int = 3
    share: float = 0.95
    scenes: int = 0

    def __post_init__(self) -> None:
        check_scenes(self.side, self.most)
        Segmentation(share=self.share)

    def revision(self, root: Path) -> str:
        """Checksum of the digits, and the version of the drawing."""
        return hashlib.sha256(f"{SHA256} scenes {DRAWING}".encode()).hexdigest()

    def load(self, root: Path, *, offline: bool) -> Splits:
        """Scenes (1, side, side), labels (N, side * side)."""
        found, first = [], 0
        for drawn in drawn_splits(self.side, self.most, self.scenes):
            ids = torch.arange(first, first + len(drawn.x))
            first += len(ids)
            found.append(Examples.of(ids, drawn.x, drawn.pixels.flatten(1)))
        task = Segmentation(share=self.share)
        spec = DataSpec((1, self.side, self.side), 11, (0.1,), (0.25,), CLASS_NAMES, task)
        return Splits(found[0], found[1], found[2], spec)


def check_scenes(side: int, most: int) -> None:
    """Check that a canvas and a number of digits can be drawn.

    Raises:
        ConfigError: if they cannot.
    """
    if not max(SIZES) <= side <= 256 or side % 4:
        raise ConfigError(f"dataset.side is {side}; expected a multiple of 4 from 12 to 256 pixels")
    if not 1 <= most <= 16:
        raise ConfigError(f"dataset.most is {most}; expected 1 to 16 digits")


@functools.lru_cache(maxsize=2)
def drawn_splits(side: int, most: int, seed: int) -> list[Drawn]:
    """Scenes of train, select and test, drawn once per process; must not be modified."""
    digits = Digits().load(Path(), offline=True)
    parts = {"train": digits.train, "select": digits.select, "test": digits.test}
    return [draw_scenes(parts[s].x(), parts[s].y, split=s, side=side, most=most, seed=seed) for s in COUNTS]


@hookimpl
def benchmark_component() -> type[Dataset]:
    """Register the plugin."""
    return Scenes
