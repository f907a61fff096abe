"""Effects of a submission on the boards: rows whose rank interval or robust accuracy it changes."""

from __future__ import annotations

from collections.abc import Iterator

from ..board import Board, Leaderboard, Row
from .review import Effect

__all__ = ["effects"]


def effects(before: Leaderboard, after: Leaderboard) -> Iterator[Effect]:
    """Every row whose rank interval or robust accuracy differs."""
    old = {(board.protocol.key, row.key): (row, board) for board in before.boards for row in board.rows}
    for board in after.boards:
        for row in board.rows:
            was = old.get((board.protocol.key, row.key))
            if was is None or _place(was[0]) != _place(row):
                yield Effect(
                    board=_name(board),
                    row=row.label,
                    rank=_rank(row),
                    robust=row.robust.value,
                    total=row.robust.total,
                    before="new" if was is None else f"{_rank(was[0])}, {was[0].robust.value:.4f}",
                )


def _place(row: Row) -> tuple[int | None, int | None, float]:
    return (row.ranks.low, row.ranks.high, row.robust.value) if row.ranks else (None, None, row.robust.value)


def _rank(row: Row) -> str:
    of = row.ranks
    if of is None:
        return "not ranked"
    return str(of.low) if of.low == of.high else f"{of.low} to {of.high}"


def _name(board: Board) -> str:
    p = board.protocol
    of = p.conditions
    suite = f"{of.suite}{'' if of.official else ' (changed)'}" if of.suite else "no suite"
    return f"{suite}, {of.dataset}, {of.norm} {p.eps_exact}"
