"""Paired tests of rows on the same examples, by the statistic that orders them: the difference in robust accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from .statistics import Floats, Shares, mcnemar, wins

__all__ = ["paired_tests"]


def paired_tests(held: Shares, counts: Sequence[Sequence[float]]) -> tuple[NDArray[np.int64], Floats]:
    """Wins of every pair of rows, (R, R), see :func:`wins`, and two-sided p-values of their difference, (R, R).

    Rows of one run each: the exact McNemar test. With several runs: a t test of the difference of the means over runs.
    Its variance has a component of the examples, from the differences per example, and one of the runs, since other
    seeds would have given other systems; the degrees of freedom are those of Welch (Biometrika 34, 1947). A row with
    one run gets the variance of the other row's runs, and the test the freedom of that one estimate: Welch's formula
    would separate too often. No p-value is smaller than the smallest one possible by flipping the signs of the n
    differing examples, 2^(1 - n).

    Args:
        held: (R, N) the share of a row's runs in which each example is robust. counts: per row, the number of robust
            examples of each run.
    """
    won = wins(held)
    upper = np.triu_indices(len(held), 1)
    p = np.ones(won.shape)
    p[upper] = p.T[upper] = mcnemar(won[upper], won.T[upper])
    if all(len(of) == 1 for of in counts):
        return won, p
    total, runs = held.shape[1], np.array([len(of) for of in counts])
    known = np.array([np.var(of, ddof=1) if len(of) > 1 else np.nan for of in counts])
    for i in range(len(held) - 1):
        others = np.arange(i + 1, len(held))
        others = others[(runs[i] > 1) | (runs[others] > 1)]
        apart = held[i] - held[others]
        luck = total * apart.var(axis=1, ddof=1) if total > 1 else np.zeros(len(others))
        single = (runs[i] == 1) | (runs[others] == 1)
        mine, its = np.where(runs[i] > 1, i, others), np.where(runs[others] > 1, others, i)
        first, second = known[mine] / runs[i], known[its] / runs[others]
        parts = [
            (np.where(single, 0.0, luck), max(1, total - 1)),
            (np.where(single, luck + first + second, first), runs[mine] - 1),
            (np.where(single, 0.0, second), runs[its] - 1),
        ]
        least = 2.0 ** (1.0 - np.count_nonzero(apart, axis=1))
        p[i, others] = np.minimum(1.0, np.maximum(least, _welch(apart.sum(axis=1), parts)))
        p[others, i] = p[i, others]
    return won, p


def _welch(difference: Floats, parts: Sequence[tuple[Floats, Any]]) -> Floats:
    """Two-sided p-values of differences whose variance is a sum of parts with their degrees of freedom."""
    variance = np.sum([part for part, _ in parts], axis=0)
    some = variance > 0
    safe = np.where(some, variance, 1.0)
    freedom = safe**2 / np.where(some, np.sum([part**2 / of for part, of in parts], axis=0), 1.0)
    p: Floats = np.where(some, 2.0 * special.stdtr(freedom, -np.abs(difference) / np.sqrt(safe)), difference == 0)
    return p
