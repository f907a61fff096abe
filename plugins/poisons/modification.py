"""Modification of inputs: rows keep their labels and are mixed with other classes' inputs. Chakraborty et al., 2018,
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
    """Mix the inputs of random rows with those of random rows of other labels; labels are unchanged.

    rate: share of all training rows that are modified. weight: of the other row; 1 replaces the input.
    """

    rate: float = 0.1
    weight: float = 0.5

    def __post_init__(self) -> None:
        check_rate(OWNER, self.rate)
        if not 0.0 < self.weight <= 1.0:
            raise ConfigError(f"{OWNER}.weight is {self.weight}; expected a weight of the other row in (0, 1]")

    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        """Mix random rows, each with a random row of another label."""
        positions = drawn(rng, torch.ones(len(train), dtype=torch.bool), self.rate, OWNER)
        if not len(positions):
            return train, train.ids[positions]
        others = partners(train.y, positions, rng.rows(positions).uniform(stream="partner"))
        return modified(train, positions, others, self.weight), train.ids[positions]


def partners(y: Tensor, positions: Tensor, unit: Tensor) -> Tensor:
    """Position of a row of another label for each of `positions` (M,), chosen by `unit` (M,) in [0, 1); (M,) int64.

    Rows sorted by label form a circle; a partner is chosen outside the arc of the row's label.
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
