"""Ranks of a published board: its order by value, and tests based on counts alone.

Outcomes per example are not published, so pairs are compared by unpaired tests, which have less power than paired ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ..ranking.statistics import LEVEL, holm, separable_ranks, tie_groups
from .published_numbers import Entry, Number, Source

__all__ = ["PublishedBoard", "best_known", "ranked_entries", "two_proportions"]


@dataclass(frozen=True)
class PublishedBoard:
    """Entries by value, best first, with the ranks compatible with unpaired tests at 5 % after Holm.

    ranks: (best, worst) rank of each entry. ties: (first, last) positions of the maximal groups of neighbours that no
    test separates. alike: number of neighbours that one uncorrected test at 5 % does not separate.
    """

    entries: tuple[Entry, ...]
    values: tuple[float, ...]
    ranks: tuple[tuple[int, int], ...]
    ties: tuple[tuple[int, int], ...]
    alike: int


def best_known(entry: Entry) -> Number | None:
    """Lowest robust accuracy measured by others than the authors; None if there is none."""
    measured = [n for n in entry.numbers if n.metric == "robust_accuracy" and n.settings.get("by") != "authors"]
    return min(measured, key=lambda n: n.value, default=None)


def ranked_entries(source: Source, protocol: str) -> PublishedBoard:
    """Ranked entries of a protocol, those whose robust accuracy is known with its counts."""
    found = [
        (entry, number) for entry in source.entries if entry.protocol == protocol and (number := best_known(entry))
    ]
    counted = [(e, n) for e, n in found if n.count is not None and n.total is not None]
    counted.sort(key=lambda pair: (-pair[1].value, pair[0].system))
    count = np.array([n.count for _, n in counted], dtype=np.float64)
    total = np.array([n.total for _, n in counted], dtype=np.float64)
    p = two_proportions(count[:, None], total[:, None], count[None, :], total[None, :])
    upper = np.triu_indices(len(counted), 1)
    adjusted = np.ones_like(p)
    adjusted[upper] = holm(p[upper])
    apart = np.minimum(adjusted, adjusted.T) <= LEVEL
    return PublishedBoard(
        entries=tuple(entry for entry, _ in counted),
        values=tuple(number.value for _, number in counted),
        ranks=tuple(separable_ranks(apart, count / total)),
        ties=tuple(tie_groups(apart)),
        alike=int((np.diagonal(p, 1) > LEVEL).sum()),
    )


def two_proportions(
    count: NDArray[np.float64], total: NDArray[np.float64], other: NDArray[np.float64], other_total: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Two-sided p-values of the pooled two-proportion test, elementwise; 1 where both shares are 0 or both are 1.

    The same as Pearson's chi-squared test of the 2x2 table without a continuity correction.
    """
    pooled = (count + other) / (total + other_total)
    variance = pooled * (1 - pooled) * (1 / total + 1 / other_total)
    difference = np.abs(count / total - other / other_total)
    z = np.divide(difference, np.sqrt(variance), out=np.zeros_like(difference), where=variance > 0)
    p: NDArray[np.float64] = 2 * special.ndtr(-z)
    return p
