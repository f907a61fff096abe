"""95 % intervals of proportions, and tests of paired outcomes, in NumPy: for records, tables and the leaderboard."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special

__all__ = ["clopper_pearson", "mcnemar", "paired_difference", "wilson"]

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


def wilson(successes: float, total: int, level: float = 0.95) -> tuple[float, float]:
    """Score interval of a binomial proportion. Wilson, JASA 22 (1927).

    Args:
        successes: in [0, total]; need not be whole (a mean over seeds on the same examples).

    Raises:
        ValueError: if there is no example, or the count exceeds the total.
    """
    _check(successes, total)
    z = special.ndtri(0.5 + level / 2)
    share = successes / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    low = 0.0 if successes == 0 else max(0.0, float(centre - half))
    high = 1.0 if successes == total else min(1.0, float(centre + half))
    return low, high


def clopper_pearson(successes: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a binomial proportion, with a coverage of at least `level`.

    Clopper and Pearson, Biometrika 26 (1934).

    Raises:
        ValueError: if there is no example, or the count exceeds the total.
    """
    _check(successes, total)
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(special.betaincinv(successes, total - successes + 1, tail))
    high = 1.0 if successes == total else float(special.betaincinv(successes + 1, total - successes, 1 - tail))
    return low, high


def _check(successes: float, total: int) -> None:
    if total < 1 or not 0 <= successes <= total:
        raise ValueError(f"{successes} of {total} is not a proportion; expected 0 <= successes <= total and total >= 1")


def mcnemar(only_first: _Ints | int, only_second: _Ints | int) -> _Floats:
    """Two-sided exact p-values of paired binary outcomes, from the numbers of examples that only one side gets right.

    The null hypothesis is that a disagreement goes either way with probability 1/2. McNemar, Psychometrika 12 (1947),
    in its exact binomial form; 1 if the two never disagree. Elementwise.
    """
    b, c = np.asarray(only_first, dtype=np.int64), np.asarray(only_second, dtype=np.int64)
    p: _Floats = np.minimum(1.0, 2.0 * special.bdtr(np.minimum(b, c), b + c, 0.5))
    return p


def paired_difference(
    both: int, only_first: int, only_second: int, neither: int, level: float = 0.95
) -> tuple[float, float]:
    """Interval of the difference of two proportions of the same examples, first minus second.

    Newcombe, Statistics in Medicine 17 (1998) 2635, method 10: Wilson's intervals of both proportions, combined with
    their continuity-corrected correlation.

    Raises:
        ValueError: if there is no example.
    """
    total = both + only_first + only_second + neither
    first, second = both + only_first, both + only_second
    (low1, high1), (low2, high2) = wilson(first, total, level), wilson(second, total, level)
    share1, share2 = first / total, second / total
    product = float(both * neither - only_first * only_second)
    if product > 0:
        product = max(0.0, product - total / 2)
    spreads = first * (total - first) * second * (total - second)
    phi = product / math.sqrt(spreads) if spreads else 0.0
    difference = (only_first - only_second) / total

    def reach(own: float, other: float) -> float:
        return math.sqrt(max(0.0, own * own - 2 * phi * own * other + other * other))

    return difference - reach(share1 - low1, high2 - share2), difference + reach(high1 - share1, share2 - low2)
