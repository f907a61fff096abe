"""Pairwise combinations of declared properties: few trials that contain every pair of values.

All combinations of seven regions, four shapes, four numbers of classes, four kinds of access, two goals and two
precisions would be 1792 trials per norm. Most faults need one value or two, and these 28 trials contain every pair: an
orthogonal array of strength two (Rao, 1947) over the field of four elements, with one block repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmark.threat import RegionKind

__all__ = ["CLASSES", "SHAPES", "TRIED", "Combination", "combinations"]

SHAPES = ((12,), (4, 5), (1, 8, 8), (3, 8, 8))
"""Shapes of tabular, sequence, grey and colour inputs: batches of rank 2, 3 and 4."""

CLASSES = (2, 3, 10, 1000)
"""Numbers of classes: two and three, too few logits for many losses; ten; and ImageNet's."""

TRIED = tuple(kind for kind in RegionKind if kind not in (RegionKind.art, RegionKind.graffiti))
"""Kinds of region; to an attack, art and graffiti are fixed masks like a square."""

TWICE, THRICE = (0, 2, 3, 1), (0, 3, 1, 2)
"""Multiples by two and by three in the field of four elements, whose sum is the exclusive or."""


@dataclass(frozen=True)
class Combination:
    """Settings of one trial. access: 0 to 3, taken modulo the number of granted kinds. double: double precision."""

    region: RegionKind
    shape: tuple[int, ...]
    classes: int
    access: int
    targeted: bool
    double: bool


def combinations() -> Iterator[Combination]:
    """All 28 combinations."""
    for number, region in enumerate(TRIED):
        for place, shape in enumerate(SHAPES):
            at = number % 4
            rest = at ^ THRICE[place]
            yield Combination(
                region, shape, CLASSES[at ^ place], at ^ TWICE[place], targeted=rest % 2 == 1, double=rest >= 2
            )
