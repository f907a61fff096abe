"""Insertion: rows with wrong labels are added. Barreno et al., Machine Learning 81, 2010, section 3."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import DataSpec, Examples, Poison, SampleRandom, hookimpl

from ._triggers.rows import check_rate, drawn

OWNER = "poison.insertion"


@dataclass(frozen=True)
class Insertion(Poison):
    """Add copies of random training rows, each with another random label, as when data are collected from the public.

    rate: added rows as a share of the clean ones.
    """

    rate: float = 0.1

    def __post_init__(self) -> None:
        check_rate(OWNER, self.rate)

    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        """Add the copies; all clean rows stay, and the ids of the copies are negative."""
        positions = drawn(rng, torch.ones(len(train), dtype=torch.bool), self.rate, OWNER)
        y = (train.y[positions] + 1 + rng.rows(positions).integers(spec.classes - 1, stream="label")) % spec.classes
        return inserted(train, positions, y)


def inserted(train: Examples, positions: Tensor, y: Tensor) -> tuple[Examples, Tensor]:
    """The examples, then copies of those at `positions` (M,) with labels `y` (M,); and the ids of the copies, (M,).

    A copy's id is -(id + 1) minus 2**40 times the number of earlier copies of the example.
    """
    taken = set(train.ids.tolist())
    ids = []
    for example in train.ids[positions].tolist():
        copy = -(abs(example) + 1)
        while copy in taken:
            copy -= 2**40
        taken.add(copy)
        ids.append(copy)
    new = torch.tensor(ids, dtype=torch.int64)
    return (train.added(new, train.x(positions), y), new) if ids else (train, new)


@hookimpl
def benchmark_component() -> type[Poison]:
    """Register the plugin."""
    return Insertion
