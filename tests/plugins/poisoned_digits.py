"""Nearest class means of poisoned digits, in double precision: what a poison does to them has closed forms."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from benchmark.api import DataSpec, Examples

SPEC = DataSpec((1, 8, 8), 10)
TRAINING = 1297


@functools.cache
def digits() -> tuple[Tensor, Tensor]:
    """(1797, 1, 8, 8) float64 and (1797,) int64."""
    bunch = load_digits()
    return torch.from_numpy(bunch.data / 16.0).reshape(-1, 1, 8, 8), torch.from_numpy(bunch.target).long()


def training() -> Examples:
    """Rows 0 to 1296; their values are multiples of 1/16, so that single precision holds them exactly."""
    x, y = digits()
    return Examples.of(torch.arange(TRAINING), x[:TRAINING].float(), y[:TRAINING])


def held_out() -> tuple[Tensor, Tensor]:
    """Rows 1297 to 1796."""
    x, y = digits()
    return x[TRAINING:], y[TRAINING:]


class NearestMean:
    """W = 2 mu, b = -|mu|^2 of the examples."""

    def __init__(self, train: Examples) -> None:
        x = train.x().double().flatten(1)
        self.means = torch.stack([x[train.y == k].mean(0) for k in range(10)])

    def labels(self, x: Tensor) -> Tensor:
        return (x.double().flatten(1) @ (2 * self.means).T - self.means.square().sum(1)).argmax(1)

    def accuracy(self) -> float:
        x, y = held_out()
        return float((self.labels(x) == y).double().mean())

    def success(self, trigger: Callable[[Tensor], Tensor], target: int) -> float:
        """The share of the test rows of other labels that get the target label with the trigger."""
        x, y = held_out()
        return float((self.labels(trigger(x[y != target].float())) == target).double().mean())


def first(count: int) -> Tensor:
    """Positions of the first rows."""
    return torch.arange(count)


def first_not(label: int, count: int) -> Tensor:
    """Positions of the first rows of other labels."""
    return (training().y != label).nonzero().flatten()[:count]
