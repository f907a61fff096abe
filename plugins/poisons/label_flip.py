"""Label flips: some training rows get another label. Biggio, Nelson & Laskov, ACML 2011, section 4."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from benchmark.api import DataSpec, Examples, Poison, SampleRandom, hookimpl

from ._triggers.rows import aimed, check_label, check_rate, drawn

OWNER = "poison.label_flip"


class Flip(Enum):
    """Labels assigned to the chosen rows.

    random: any other label, uniformly. next: y + 1 modulo K. targeted: `target`.
    """

    random = "random"
    next = "next"
    targeted = "targeted"


@dataclass(frozen=True)
class LabelFlip(Poison):
    """Change the labels of random rows; inputs are unchanged.

    rate: share of all training rows that are flipped. flip: see :class:`Flip`.
    source, target: under `targeted`, the rows' label (null: any other than the target), and the new label.
    """

    rate: float = 0.1
    flip: Flip = Flip.random
    source: int | None = None
    target: int = 0

    def __post_init__(self) -> None:
        check_rate(OWNER, self.rate)

    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        """Flip random rows; under `targeted`, those of the source label."""
        eligible = torch.ones(len(train), dtype=torch.bool)
        if self.flip is Flip.targeted:
            check_label(OWNER, spec, source=self.source, target=self.target)
            eligible = self.aim(train.y) >= 0
        positions = drawn(rng, eligible, self.rate, OWNER, "of the source label")
        return flipped(train, positions, self.flip, self.target, spec.classes, rng), train.ids[positions]

    def aim(self, y: Tensor) -> Tensor:
        """Under `targeted`, the target for rows of the source label."""
        if self.flip is not Flip.targeted:
            return super().aim(y)
        aim = aimed(y, self.target)
        return aim if self.source is None else torch.where(y == self.source, aim, -1)


def flipped(train: Examples, positions: Tensor, flip: Flip, target: int, classes: int, rng: SampleRandom) -> Examples:
    """The examples with flipped labels at `positions` (M,)."""
    y = train.y[positions]
    if flip is Flip.targeted:
        return train.changed(positions, y=torch.full_like(y, target))
    step = 1 if flip is Flip.next else 1 + rng.rows(positions).integers(classes - 1, stream="label")
    return train.changed(positions, y=(y + step) % classes)


@hookimpl
def benchmark_component() -> type[Poison]:
    """Register the plugin."""
    return LabelFlip
