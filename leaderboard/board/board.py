"""A leaderboard: tables of systems under one protocol each, their curves, and unusable records."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from .curves import CurveSet
from .faults import Alarm, Problem, Unfinished
from .protocol import AttackColumn, Protocol
from .rates import Metric
from .rows import Row
from .standing import AttackStanding, Pairs, Resolution

__all__ = ["Board", "Leaderboard"]

OPTIONAL_OF_ROWS = ("certified", "oblivious", "transfer", "claimed", "replayed")
OPTIONAL_OF_SCORES = ("top5", "given")


@dataclass(frozen=True)
class Board:
    """A table of systems under one protocol.

    rows: by robust accuracy, then clean accuracy, then key; unranked rows last.
    ties: (first, last) positions of the maximal groups of neighbours that no test separates; groups overlap, the first
    one is the front. attacks: the most successful first.
    alarms: findings about the board itself; rows have their own. metrics: all metrics of its scores, by name.
    """

    protocol: Protocol
    columns: tuple[AttackColumn, ...]
    rows: tuple[Row, ...]
    ties: tuple[tuple[int, int], ...]
    pairs: Pairs
    resolution: Resolution
    attacks: tuple[AttackStanding, ...]
    unfinished: tuple[Unfinished, ...]
    alarms: tuple[Alarm, ...]
    metrics: tuple[Metric, ...] = ()

    @cached_property
    def given(self) -> frozenset[str]:
        """Names of the optional values that at least one row or one of its scores has."""
        of_rows = {name for row in self.rows for name in OPTIONAL_OF_ROWS if getattr(row, name) is not None}
        scores = [score for row in self.rows for score in row.scores if score is not None]
        of_scores = {name for name in OPTIONAL_OF_SCORES if any(getattr(score, name) is not None for score in scores)}
        return frozenset(of_rows | of_scores)

    @property
    def ranked(self) -> int:
        """Number of ranked rows, which come first: they met the attacks required by :func:`.ranking.met.spared`.

        A worst case over fewer attacks does not show a better system, so other rows take no part in ranks, ties and
        pairs.
        """
        return len(self.pairs.p)

    @property
    def front(self) -> int:
        """Number of rows in the first tie group."""
        return self.ties[0][1] + 1 if self.ties else 0


@dataclass(frozen=True)
class Leaderboard:
    """All boards by suite, dataset, norm and radius; all curves; the unusable records.

    unfinished: cells without a result that belong to no board.
    """

    boards: tuple[Board, ...]
    curves: tuple[CurveSet, ...]
    problems: tuple[Problem, ...]
    unfinished: tuple[Unfinished, ...] = ()
