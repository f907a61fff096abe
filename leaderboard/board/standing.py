"""Comparisons of rows, and of attacks over all rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .rates import Rate

__all__ = ["AttackStanding", "Optimality", "Pairs", "Resolution"]


@dataclass(frozen=True, eq=False)
class Pairs:
    """All pairs of ranked rows, in the order of the board.

    wins: (R, R) int64, examples robust in row i and not in row j (for rows with several runs: robust in a larger share
    of i's runs). p: (R, R) two-sided, see :func:`.ranking.paired.paired_tests`. adjusted: (R, R) after Holm over all
    pairs of the board.
    """

    wins: NDArray[np.int64]
    p: NDArray[np.float64]
    adjusted: NDArray[np.float64]


@dataclass(frozen=True)
class Resolution:
    """Resolution of the board with this many examples.

    separable_neighbours: neighbours in the strict order that differ at 5 % after Holm, of `neighbours`.
    separable_pairs of pairs: the same over all pairs.
    detectable: smallest difference in robust accuracy that one paired test at 5 % detects with 80 % power, at the
        median disagreement of neighbours; None with fewer than two rows, or if neighbours never disagree.
    more_examples: approximate number of additional examples that would separate the first two rows, if their
    disagreements
        stay in proportion (at 5 % divided by the number of pairs, Holm's strictest step); 0 if they are separated, None
        if
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
    """Optimality of a minimal attack: closeness to the best known distances, at most 1, mean over the rows.

    low, high: 95 % over examples (delta method). rows: number of systems. pool: content address of the attacks whose
    smallest distances are the reference. Areas extend to the largest recorded radius.
    """

    value: float
    low: float
    high: float
    rows: int
    pool: str


@dataclass(frozen=True)
class AttackStanding:
    """An attack over all rows of a board. column: its position in `Board.columns`.

    rows: number of systems attacked. success: share of the correct examples that it broke, over those rows; count,
    total and interval are for one system, since all systems see the same examples.
    alone: examples broken by no other attack, summed over the rows. forwards, backwards: mean per attacked example.
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
