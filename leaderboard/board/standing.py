"""The comparison of rows, and of attacks over all rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .rates import Rate

__all__ = ["AttackStanding", "Optimality", "Pairs", "Resolution"]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Every pair of rows with a rank, in the order of the board.

    wins: (R, R) int64: examples that row i holds and row j does not (for rows with several runs: that a larger share
    of i's runs holds). p: (R, R) two-sided, see :func:`.ranking.paired.paired_tests`. adjusted: (R, R) after Holm over
    all pairs of the board.
    """

    wins: NDArray[np.int64]
    p: NDArray[np.float64]
    adjusted: NDArray[np.float64]


@dataclass(frozen=True)
class Resolution:
    """The resolving power of this many examples.

    separable_neighbours: neighbours in the strict order that differ at 5 % after Holm, of `neighbours`.
    separable_pairs of pairs: the same over all pairs.
    detectable: the smallest difference in robust accuracy that one paired test at 5 % finds with 80 % power, at the
        median disagreement of neighbours; None with fewer than two rows, or where neighbours never disagree.
    more_examples: about how many more examples would separate the first two rows, if their disagreements stay in
        proportion (at 5 % divided by the number of pairs, Holm's strictest step); 0 if they are separated, None if
        there is no difference or no second row.
    """

    neighbours: int
    separable_neighbours: int
    pairs: int
    separable_pairs: int
    detectable: float | None
    more_examples: int | None


@dataclass(frozen=True)
class Optimality:
    """Closeness of an attack to the best distances known, 1 being best (AttackBench), mean over the rows.

    low, high: 95 % over examples (delta method). rows: how many systems it was computed on. pool: content address of
    the attacks whose smallest distances are the reference. Areas go up to the largest radius recorded.
    """

    value: float
    low: float
    high: float
    rows: int
    pool: str


@dataclass(frozen=True)
class AttackStanding:
    """An attack over all rows of a board. column: its position in `Board.columns`.

    rows: systems it was run on. success: the share of the examples right on the clean input that it broke, over those
    rows; count, total and interval are for one system, since all systems see the same examples.
    alone: examples that only it broke, summed over the rows. forwards, backwards: mean per attacked example.
    seconds: mean per cell. optimality: for attacks with distances, None for others.
    """

    column: int
    rows: int
    success: Rate
    alone: float
    forwards: float
    backwards: float
    seconds: float
    optimality: Optimality | None
