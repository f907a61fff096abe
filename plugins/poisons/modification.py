"""Modification of inputs: rows keep their labels and take on other classes' looks. Chakraborty et al., 2018,
arXiv:1810.00069 (data modification).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import ConfigError, DataSpec, Examples, Poison, SampleRandom, hookimpl

from ._triggers.rows import check_rate, drawn

OWNER = "poison.modification"


@dataclass(frozen=True)
class Modification(Poison):
    """Mix the inputs of random rows with those of random rows of other labels; labels stay.

    rate: share of all training rows that are modified. weight: of the other row; at 1 it takes the place of the input.
    """

    rate: float = 0.1
    weight: float = 0.5

    def __post_init__(self) -> None:
        check_rate(OWNER, self.rate)
        if not 0.0 < self.weight <= 1.0:
            raise ConfigError(f"{OWNER}.weight is {self.weight}; expected a share of the other row in (0, 1]")

    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        """Modify random rows, each by a random row of another label."""
        positions = drawn(rng, torch.ones(len(train), dtype=torch.bool), self.rate, OWNER)
        if not len(positions):
            return train, train.ids[positions]
        others = partners(train.y, positions, rng.rows(positions).uniform(stream="partner"))
        return modified(train, positions, others, self.weight), train.ids[positions]


def partners(y: Tensor, positions: Tensor, unit: Tensor) -> Tensor:
    """(M,) int64: for each of `positions` (M,) the position of a row of another label, picked by `unit` (M,) in [0, 1).

    Rows in the order of their labels lie on a circle; a partner is one of those outside the arc of the row's label.
    """
    order = y.argsort(stable=True)
    count = torch.bincount(y)
    own = count[y[positions]]
    end = count.cumsum(0)[y[positions]]
    step = (unit.double() * (len(y) - own)).long().minimum((len(y) - own - 1).clamp_min(0))
    return order[(end + step) % len(y)]


def modified(train: Examples, positions: Tensor, others: Tensor, weight: float) -> Examples:
    """The examples with (1 - weight) x + weight x' at `positions` (M,), where x' are the rows at `others` (M,)."""
    x = (1.0 - weight) * train.x(positions) + weight * train.x(others)
    return train.changed(positions, x=x.clamp(0.0, 1.0))


@hookimpl
def benchmark_component() -> type[Poison]:
    """Register the plugin."""
    return Modification
