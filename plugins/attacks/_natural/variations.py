"""Search over the settings of a natural variation for one that the system gets wrong.

No gradient is asked for: an attacker who can only turn, light or blur an image tries settings one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from benchmark.api import ConfigError, Refused, SampleRandom, Target, Threat

from .._base.budget import can_ask
from .._base.settings import check_images
from .._base.survivors import holds

__all__ = ["Axis", "Search", "check_colour", "check_range", "first_success", "settings", "settings_count"]

Varied = Callable[[Tensor, int], Tensor]
"""From rows (b,) int64 and the number of a try to those inputs (b, *S) in that variation."""


class Search(Enum):
    """Choice of the settings.

    random: uniformly from the ranges, anew for each example and try. grid: all combinations of evenly spaced values.
    """

    random = "random"
    grid = "grid"


@dataclass(frozen=True)
class Axis:
    """One setting. low, high: its range. values: how many of them a grid has; one is `high`, and so is a range of 0."""

    low: float
    high: float
    values: int

    def at(self, place: int) -> float:
        """The value at `place` of the grid."""
        if self.count == 1:
            return self.high
        return self.low + (self.high - self.low) * place / (self.count - 1)

    @property
    def count(self) -> int:
        """Number of values in the grid."""
        return 1 if self.low == self.high else self.values


def settings_count(axes: Sequence[Axis], search: Search, tries: int) -> int:
    """Largest number of settings tried."""
    return tries if search is Search.random else math.prod(axis.count for axis in axes)


def settings(axes: Sequence[Axis], search: Search, rng: SampleRandom, at: int, *, stream: str) -> list[Tensor]:
    """The setting of each axis, (b,) float32 each, in try number `at`."""
    if search is Search.random:
        drawn = rng.uniform(len(axes), stream=stream, draw=at)
        return [axis.low + (axis.high - axis.low) * drawn[:, place] for place, axis in enumerate(axes)]
    found = []
    for axis in reversed(axes):
        at, place = divmod(at, axis.count)
        found.append(torch.full((len(rng),), axis.at(place), device=rng.ids.device))
    return found[::-1]


def first_success(
    target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom, tries: int, varied: Varied
) -> Tensor:
    """First variation of each example that succeeds, (B, *S), else the last that its budget allowed.

    What lies outside the region stays, and values are cut to [0, 1]. The last variation is not asked about, so that
    `tries` of them cost `tries` - 1 forward passes at most: more tries break what fewer break, and perhaps more.
    """
    mask = threat.around(x, rng).mask
    result, index = x.clone(), torch.arange(len(x), device=x.device)
    for at in range(tries):
        x_adv = varied(index, at).clamp(0.0, 1.0).to(x.dtype)
        if mask is not None:
            x_adv = x_adv.where(mask if len(mask) == 1 else mask[index], x[index])
        result[index] = x_adv
        allowed = can_ask(target.rows(index))
        if at == tries - 1 or not bool(allowed.any()):
            break
        index, x_adv = index[allowed], x_adv[allowed]
        view = target.rows(index)
        index = index[holds(view, view.labels(x_adv), y[index]) != threat.targeted]
        if len(index) == 0:
            break
    return result


def check_range(low: float, high: float, **values: float) -> None:
    """Refuse a value outside [low, high] (ConfigError)."""
    for name, value in values.items():
        if not low <= value <= high:
            ends = f"{low:g} to {high:g}" if math.isfinite(high) else f"at least {low:g}"
            raise ConfigError(f"attack.{name} is {value}; expected {ends}")


def check_colour(shape: tuple[int, ...], name: str) -> None:
    """Refuse inputs that are not images of three channels, on behalf of the attack `name` (Refused)."""
    check_images(shape, name)
    if shape[0] != 3:
        raise Refused(
            f"attack.{name} changes colours, which needs images of 3 channels (red, green, blue), and these have "
            f"{shape[0]}"
        )
