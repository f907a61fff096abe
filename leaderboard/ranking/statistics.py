"""Intervals, paired tests and resampling: pure functions of counts and arrays.

Everything is 95 % or 5 % unless an argument says otherwise. Distances are per example: 0 if the clean input was
misclassified, infinite if no adversarial example was found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from benchmark.records.statistics import clopper_pearson, mcnemar, paired_difference, wilson

__all__ = [
    "LEVEL",
    "DrawnRanks",
    "Floats",
    "Shares",
    "area_under_curve",
    "bounded_interval",
    "clopper_pearson",
    "detectable_difference",
    "dkw_half_width",
    "examples_to_separate",
    "holm",
    "mcnemar",
    "optimality",
    "paired_difference",
    "resampled_ranks",
    "separable_ranks",
    "spread",
    "tie_groups",
    "wilson",
    "wins",
]

Floats = NDArray[np.float64]
Shares = NDArray[Any]
"""Share of a row's runs in which an example is robust: float64, or bool if every row has one run."""
LEVEL = 0.05
"""Significance level of every test."""
Ints = NDArray[np.int64]

CHUNK = 64


# --- rates ---


def spread(values: Sequence[float]) -> tuple[float, float, float, float | None]:
    """Mean, smallest, largest and sample standard deviation (None for a single value)."""
    mean = math.fsum(values) / len(values)
    deviation = None
    if len(values) > 1:
        deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))
    return mean, min(values), max(values), deviation


# --- pairs ---


def wins(held: Shares) -> Ints:
    """Number of examples on which row i has the larger value, (R, R). held: (R, N), mostly 0 and 1."""
    if held.dtype == np.bool_:
        robust = held.astype(np.float32)  # sums of whole numbers, exact up to 2^24 examples
        both = robust @ robust.T
        won: Ints = np.rint(np.diag(both)[:, None] - both).astype(np.int64)
        return won
    count = np.zeros((len(held), len(held)), dtype=np.float64)
    for value in np.unique(held)[1:]:
        count += (held == value).astype(np.float32) @ (held < value).astype(np.float32).T
    return np.rint(count).astype(np.int64)


def holm(p: Floats) -> Floats:
    """Adjusted p-values (M,): rejecting those up to 5 % limits the probability of any false rejection to 5 %.

    Holm, Scandinavian Journal of Statistics 6 (1979).
    """
    order = np.argsort(p, kind="stable")
    steps = np.arange(len(p), 0, -1, dtype=np.float64)
    adjusted = np.empty(len(p), dtype=np.float64)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * steps))
    return adjusted


def tie_groups(separable: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last row of every maximal run of neighbours in which no two rows are separable.

    Args:
        separable: (R, R) bool, symmetric, in rank order.

    Returns:
        Groups in rank order. Every row is in at least one; a row that ties with both sides of a difference is in two
        groups, since not being separable is not transitive.
    """
    groups: list[tuple[int, int]] = []
    first = 0
    for last in range(len(separable)):
        apart = np.flatnonzero(separable[last, first:last])
        if len(apart):
            groups.append((first, last - 1))
            first += int(apart[-1]) + 1
    return [*groups, (first, len(separable) - 1)] if len(separable) else []


def separable_ranks(separable: NDArray[np.bool_], value: Floats) -> list[tuple[int, int]]:
    """Best and worst rank (from 1) of each row that are compatible with the tests.

    A row cannot come before those that are separably better, nor after those that are separably worse. With
    family-wise corrected tests all intervals hold simultaneously with the same confidence (Mogstad, Romano, Shaikh and
    Wilhelm, Review of Economic Studies 91 (2024)).

    Args:
        separable: (R, R) bool, symmetric. value: (R,), larger is better.
    """
    better = separable & (value[None, :] > value[:, None])
    worse = separable & (value[None, :] < value[:, None])
    return [
        (1 + int(above), len(value) - int(below))
        for above, below in zip(better.sum(axis=1), worse.sum(axis=1), strict=True)
    ]


# --- resampling ---


@dataclass(frozen=True)
class DrawnRanks:
    """low, high: (R,) central 95 % of the ranks of each row, from 1. best: (R,) share of draws in which it is first."""

    low: Ints
    high: Ints
    best: Floats


def resampled_ranks(held: Shares, draws: int, seed: int, level: float = 0.95) -> DrawnRanks:
    """Ranks over paired bootstrap samples of the examples: all rows see the same draws. Efron, Ann. Stat. 7 (1979).

    Rows that tie in a draw share their ranks: `low` takes the best of them, `high` the worst, and the first place is
    divided among them.

    Args:
        held: (R, N), larger is better. draws: number of samples. seed: of the draws; same seed, same ranks.
    """
    rows, total = held.shape
    values = held.astype(np.float32 if held.dtype == np.bool_ else np.float64, copy=False)
    rng = np.random.default_rng(seed)
    low, high = np.empty((draws, rows), dtype=np.int64), np.empty((draws, rows), dtype=np.int64)
    best = np.zeros(rows, dtype=np.float64)
    for start in range(0, draws, CHUNK):
        drawn = _multinomial(rng, min(CHUNK, draws - start), total).astype(values.dtype, copy=False)
        scores = np.rint(1e6 * (drawn @ values.T).astype(np.float64))  # equal means are equal
        for draw, these in enumerate(scores, start):
            ordered = np.sort(these)
            low[draw] = rows - np.searchsorted(ordered, these, side="right") + 1
            high[draw] = rows - np.searchsorted(ordered, these, side="left")
            first = low[draw] == 1
            best += first / first.sum()
    tail = (1 - level) / 2
    return DrawnRanks(
        low=np.quantile(low, tail, axis=0, method="inverted_cdf").astype(np.int64),
        high=np.quantile(high, 1 - tail, axis=0, method="inverted_cdf").astype(np.int64),
        best=best / draws,
    )


def _multinomial(rng: np.random.Generator, draws: int, total: int) -> Floats:
    """Number of times that each example is drawn, (draws, total); counting positions is faster than rng.multinomial."""
    at = rng.integers(0, total, size=(draws, total)) + total * np.arange(draws)[:, None]
    return np.bincount(at.ravel(), minlength=draws * total).reshape(draws, total).astype(np.float64)


# --- what the number of examples can tell apart ---


def detectable_difference(disagreement: float, total: int, level: float = 0.95, power: float = 0.8) -> float:
    """Smallest difference of two shares that a McNemar test of `total` pairs detects with the given power.

    Connor's formula (Biometrics 43 (1987)), solved for the difference by bisection; at most `disagreement`.

    Args:
        disagreement: share of examples on which the two sides differ.
    """
    low, high = 0.0, disagreement
    for _ in range(60):
        middle = (low + high) / 2
        if _pairs_needed(disagreement, middle, level, power) > total:
            low = middle
        else:
            high = middle
    return high


def _pairs_needed(disagreement: float, difference: float, level: float, power: float) -> float:
    if difference <= 0:
        return math.inf
    z_level, z_power = float(special.ndtri(0.5 + level / 2)), float(special.ndtri(power))
    root = z_level * math.sqrt(disagreement) + z_power * math.sqrt(max(0.0, disagreement - difference**2))
    return (root / difference) ** 2


def examples_to_separate(only_first: int, only_second: int, total: int, level: float = 0.95) -> int | None:
    """Number of additional examples that would make a pair differ, if disagreements keep their proportions.

    The smallest factor on both counts at which the exact McNemar test rejects, as a number of examples beyond `total`,
    rounded up. None if both counts are equal.
    """
    if only_first == only_second:
        return None

    def apart(factor: float) -> bool:
        return float(mcnemar(round(factor * only_first), round(factor * only_second))) <= 1 - level

    if apart(1.0):
        return 0
    high = 2.0
    while not apart(high):
        high *= 2
    low = high / 2
    while (high - low) * total > 0.5:
        middle = (low + high) / 2
        low, high = (low, middle) if apart(middle) else (middle, high)
    return math.ceil((high - 1) * total)


# --- curves and attacks, from distances ---


def dkw_half_width(total: int, level: float = 0.95) -> float:
    """Half the width of a simultaneous band around an empirical curve. Massart, Annals of Probability 18 (1990)."""
    return math.sqrt(math.log(2 / (1 - level)) / (2 * total))


def area_under_curve(distance: Floats, eps0: float) -> tuple[float, float, float]:
    """Mean robust accuracy over radii from 0 to `eps0`, with its interval.

    Robust accuracy at eps is the share of distances above eps; integrating that step function exactly gives
    `mean(min(distance, eps0)) / eps0`; the trapezoidal rule would be wrong on steps.

    Args:
        distance: (N,).
    """
    parts = np.minimum(distance, eps0) / eps0
    area = float(parts.mean())
    return area, *bounded_interval(parts)


def bounded_interval(parts: Floats, level: float = 0.95) -> tuple[float, float]:
    """Interval of a mean of values in [0, 1], one per example (N,), with good coverage near the bounds.

    A t interval with two pseudo-examples at either bound, as Agresti and Coull (American Statistician 52, 1998) add
    them for shares: it does not shrink to [1, 1] if all values are 1. It always contains the mean itself.
    """
    value = float(parts.mean())
    padded = np.concatenate([parts, [0.0, 0.0, 1.0, 1.0]])
    n, centre = len(padded), float(padded.mean())
    half = float(special.stdtrit(n - 1, 0.5 + level / 2)) * float(padded.std(ddof=1)) / math.sqrt(n)
    return min(value, max(0.0, centre - half)), max(value, min(1.0, centre + half))


def optimality(distance: Floats, best: Floats, eps0: float) -> tuple[float, Floats] | None:
    """Optimality of an attack: 1 if it finds all best known distances, 0 if it finds nothing.

    `1 - (mean min(d, eps0) - mean min(d*, eps0)) / (c * eps0 - mean min(d*, eps0))`: one minus the area between
    the attack's curve and the best one, relative to the area between the best one and no attack. Cinà et al., AAAI 2025
    (AttackBench), on exact areas.

    Args:
        distance: (N,). best: (N,) the smallest known, at most `distance`; 0 where the clean input was already wrong, so
            that c is the share of correct examples.

    Returns:
        The optimality, and the influence of each example on it (N,), of mean 0: their standard error is that of the
        ratio (delta method), and influences of several systems on the same examples may be averaged. None where even
        the best attack finds nothing up to eps0.
    """
    reference = np.minimum(best, eps0)
    lost = np.minimum(distance, eps0) - reference
    room = np.where(best > 0, eps0, 0.0) - reference
    if room.sum() <= 0:
        return None
    ratio = float(lost.sum() / room.sum())
    return 1.0 - ratio, (ratio * room - lost) / float(room.mean())
