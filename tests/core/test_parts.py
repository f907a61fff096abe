"""Batches of a cell: every position once, and as many survivors together as a batch may have."""

from __future__ import annotations

import random

from benchmark.stages.parts import WIDEST, batches_of


def test_batches_cut_ranges_at_their_size() -> None:
    assert batches_of([(0, 5), (7, 9)], 2) == [(0, 2), (2, 4), (4, 5), (7, 9)]
    assert batches_of([], 2) == []


def test_few_survivors_are_attacked_together() -> None:
    draw = random.Random(0)
    for share in (0.0, 0.3, 0.9, 1.0):
        spared = [draw.random() < share for _ in range(100)]
        batches = batches_of([(0, 60), (70, 100)], 8, spared)
        assert [at for start, stop in batches for at in range(start, stop)] == [*range(60), *range(70, 100)]
        for start, stop in batches:
            attacked = spared[start:stop].count(False)
            assert attacked <= 8
            assert attacked == 8 or stop - start == WIDEST * 8 or stop in (60, 100)
    assert batches_of([(0, 60), (70, 100)], 8, [False] * 100) == batches_of([(0, 60), (70, 100)], 8)
