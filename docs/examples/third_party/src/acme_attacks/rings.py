"""Two rings, one inside the other: a table of two features whose best classifier is a circle. No paper."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmark.api import ConfigError, Dataset, DataSpec, Examples, SampleRandom, Splits, hookimpl

SPEC = DataSpec((2,), 2, (0.5, 0.5), (0.2, 0.2), ("inner", "outer"))
SPLITS = {"train": 400, "select": 100, "test": 200}


@dataclass(frozen=True)
class AcmeRings(Dataset):
    """The label is the ring; angles and radii are drawn for each example from its id.

    width: of a ring, in units of the [0, 1] input range; the rings lie around radii 0.15 and 0.35.
    """

    width: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 < self.width <= 0.2:
            raise ConfigError(
                f"dataset.width is {self.width}; expected a width in (0, 0.2], so that the rings are apart"
            )

    def revision(self, root: Path) -> str:
        """The recipe: there is no file."""
        return f"acme-rings-1-{self.width!r}"

    def load(self, root: Path, *, offline: bool) -> Splits:
        """(2,) features, 400 / 100 / 200."""
        parts, first = {}, 0
        for name, count in SPLITS.items():
            parts[name] = self._examples(torch.arange(first, first + count))
            first += count
        return Splits(**parts, spec=SPEC)

    def _examples(self, ids: torch.Tensor) -> Examples:
        drawn = SampleRandom(0, ids).uniform(2, stream="acme_rings")
        y = ids % 2
        radius = 0.15 + 0.2 * y + self.width * (drawn[:, 0] - 0.5)
        angle = 2.0 * math.pi * drawn[:, 1]
        x = 0.5 + radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
        return Examples.of(ids, x.float(), y)


@hookimpl
def benchmark_component() -> type[Dataset]:
    """Registers the dataset."""
    return AcmeRings
