"""The error budget of a board: what is known to be wrong with it, and how much of it somebody checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from ..board import Board, Problem, Withdrawn
from ..ranking.grouping import conditions_of, protocol
from ..review.review import ReviewFile

__all__ = ["Budget", "error_budget"]


@dataclass(frozen=True)
class Budget:
    """Counts of a board.

    records: in its rows. withdrawn: retracted or superseded since they were published. tiers: submitted records by how
    they were checked; the others were made by who published the board. doubted: rows with an error or a warning among
    their findings. unjudged: examples that no attack validly tried, over all rows.
    """

    records: int
    withdrawn: int
    tiers: Mapping[str, int]
    doubted: int
    unjudged: float

    @property
    def own(self) -> int:
        """Records that came with no submission."""
        return self.records - sum(self.tiers.values())


def error_budget(board: Board, reviews: Mapping[str, ReviewFile], problems: Iterable[Problem]) -> Budget:
    """The error budget of a board."""
    keys = {key for row in board.rows for key in row.keys}
    return Budget(
        records=len(keys),
        withdrawn=sum(isinstance(one, Withdrawn) and _board_of(one) == board.protocol.key for one in problems),
        tiers=Counter(sorted(reviews[key].tier for key in keys if key in reviews)),
        doubted=sum(any(alarm.severity in ("error", "warning") for alarm in row.alarms) for row in board.rows),
        unjudged=sum(row.unjudged for row in board.rows),
    )


def _board_of(one: Withdrawn) -> str:
    """The key of the board that a withdrawn record stood on."""
    record = one.record
    eps = Fraction(record.threat.eps_exact) if record.attack.bounded else Fraction(0)
    return protocol(conditions_of(record), eps).key
