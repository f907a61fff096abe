"""Error budget of a board: known faults, and the extent of verification."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from ..board import Board, Problem, Withdrawn
from ..ranking.grouping import conditions_of, protocol
from ..review.foreign import ReplayFile
from ..review.review import ReviewFile

__all__ = ["Budget", "error_budget"]


@dataclass(frozen=True)
class Budget:
    """Counts for the error budget.

    records: in its rows. withdrawn: retracted or superseded since publication. tiers: submitted records by tier; the
    others are the publisher's own. doubted: rows with an error or a warning among their findings. unjudged: examples
    without a valid attempt, over all rows. replayed: records judged again by foreign code. replayed_rows: rows with
    such a record. runtimes: the names and versions of that code. close: answers that it does not confirm because
    rounding decides them. unconfirmed: the other answers that it does not confirm.
    """

    records: int
    withdrawn: int
    tiers: Mapping[str, int]
    doubted: int
    unjudged: float
    replayed: int = 0
    replayed_rows: int = 0
    runtimes: tuple[str, ...] = ()
    close: int = 0
    unconfirmed: int = 0

    @property
    def own(self) -> int:
        """Number of records that were not submitted."""
        return self.records - sum(self.tiers.values())


def error_budget(
    board: Board,
    reviews: Mapping[str, ReviewFile],
    problems: Iterable[Problem],
    replays: Mapping[str, ReplayFile] | None = None,
) -> Budget:
    """Error budget of a board."""
    keys = {key for row in board.rows for key in row.keys}
    again = [replays[key] for key in sorted(keys) if key in replays] if replays else []
    return Budget(
        records=len(keys),
        withdrawn=sum(isinstance(one, Withdrawn) and _board_of(one) == board.protocol.key for one in problems),
        tiers=Counter(sorted(reviews[key].tier for key in keys if key in reviews)),
        doubted=sum(any(alarm.severity in ("error", "warning") for alarm in row.alarms) for row in board.rows),
        unjudged=sum(row.unjudged for row in board.rows),
        replayed=len(again),
        replayed_rows=sum(row.replayed is not None for row in board.rows),
        runtimes=tuple(sorted({one.runtime for one in again})),
        close=sum(one.close for one in again),
        unconfirmed=sum(one.unconfirmed for one in again),
    )


def _board_of(one: Withdrawn) -> str:
    """Key of the board that a withdrawn record was on."""
    record = one.record
    eps = Fraction(record.threat.eps_exact) if record.attack.bounded else Fraction(0)
    return protocol(conditions_of(record), eps).key
