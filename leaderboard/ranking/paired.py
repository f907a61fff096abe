"""Tests of pairs of rows on the same examples, by the statistic that orders them: the difference in robust accuracy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import special

from .statistics import Floats, mcnemar, wins

__all__ = ["paired_tests"]


def paired_tests(held: Floats, counts: Sequence[Sequence[float]]) -> Floats:
    """(R, R) two-sided p-values of the difference of every pair of rows.

    Rows of one run each: the exact McNemar test. With several runs: a t test of the difference of the means over runs.
    Its variance has a part of the examples, from the differences of each example, and a part of the runs, since other
    seeds would have given other systems; the degrees of freedom are those of Welch (Biometrika 34, 1947). A row with
    one run has the variance of the other row's. No p-value is smaller than the smallest one that flipping the signs of
    the differing examples can give, 2^(1 - n) of n examples.

    Args:
        held: (R, N) the share of a row's runs that hold each example. counts: per row, the examples held by each run.
    """
    won = wins(held)
    p = mcnemar(won, won.T)
    if all(len(of) == 1 for of in counts):
        return p
    total = held.shape[1]
    for i in range(len(held)):
        several = [j for j in range(i + 1, len(held)) if len(counts[i]) > 1 or len(counts[j]) > 1]
        if not several:
            continue
        apart = held[i] - held[several]
        difference = apart.sum(axis=1)
        of_examples = total * apart.var(axis=1, ddof=1) if total > 1 else np.zeros(len(several))
        for at, j in enumerate(several):
            runs = _variances(counts[i], counts[j])
            least = 2.0 ** (1.0 - int(np.count_nonzero(apart[at])))
            parts = [(float(of_examples[at]), total - 1), *runs]
            p[i, j] = p[j, i] = min(1.0, max(least, _welch(float(difference[at]), parts)))
    return p


def _variances(first: Sequence[float], second: Sequence[float]) -> list[tuple[float, int]]:
    """The variance of the mean count of either row, and its degrees of freedom."""
    known = [(float(np.var(of, ddof=1)), len(of) - 1) if len(of) > 1 else None for of in (first, second)]
    filled = [one or other for one, other in zip(known, reversed(known), strict=True)]
    return [(of[0] / len(runs), of[1]) for of, runs in zip(filled, (first, second), strict=True) if of is not None]


def _welch(difference: float, parts: Sequence[tuple[float, int]]) -> float:
    """The two-sided p-value of a difference whose variance is a sum of parts with their degrees of freedom."""
    variance = sum(part for part, _ in parts)
    if variance <= 0:
        return 1.0 if difference == 0 else 0.0
    freedom = variance**2 / sum(part**2 / of for part, of in parts if part > 0)
    return float(2.0 * special.stdtr(freedom, -abs(difference) / variance**0.5))
