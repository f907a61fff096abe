"""Results of the same systems on other boards: oblivious attackers, and transferred examples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..board import Board, Rate, Row

__all__ = ["with_counterparts"]

Place = tuple[object, ...]


def with_counterparts(boards: Sequence[Board]) -> list[Board]:
    """Boards whose rows include their robust accuracy against oblivious attackers and under transfer.

    Taken from every board with the same examples, norm, radius, goal and region, in any suite; of several the lowest. A
    board of oblivious attackers has the former as its own result, so nothing is added to its rows.
    """
    unaware: dict[Place, list[Row]] = defaultdict(list)
    moved: dict[Place, list[Rate]] = defaultdict(list)
    for board in boards:
        for row in board.rows:
            if not board.protocol.conditions.aware:
                unaware[_place(board, row)].append(row)
            elif (rate := _under_transfer(board, row)) is not None:
                moved[_place(board, row)].append(rate)
    return [
        replace(
            board,
            rows=tuple(
                replace(
                    row,
                    oblivious=_lowest(other.robust for other in unaware[_place(board, row)]),
                    transfer=_lowest(moved[_place(board, row)]),
                )
                for row in board.rows
            ),
        )
        if board.protocol.conditions.aware
        else board
        for board in boards
    ]


def _place(board: Board, row: Row) -> Place:
    """Properties shared by two rows of the same system under the same threat, apart from the attacker's knowledge."""
    of = board.protocol.conditions
    return (
        row.key, of.dataset, of.dataset_revision, of.examples_sha256, of.norm, board.protocol.eps_exact, of.goal,
        of.region, of.levels,
    )  # fmt: skip


def _under_transfer(board: Board, row: Row) -> Rate | None:
    """Lowest robust accuracy under an attack made on another system."""
    pairs = zip(board.columns, row.scores, strict=True)
    return _lowest(score.robust for column, score in pairs if score is not None and column.access == "transfer")


def _lowest(rates: Iterable[Rate]) -> Rate | None:
    return min(rates, key=lambda rate: rate.value, default=None)
