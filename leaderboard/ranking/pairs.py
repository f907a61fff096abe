"""Data of the comparison page: the examples of each row as bits, and the tests of all pairs."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from itertools import pairwise

from ..board import Board, Row

__all__ = ["BITS_BYTES", "PAIR_ROWS", "comparable", "held_bits", "neighbours"]

PAIR_ROWS = 40
"""Largest number of rows for which a page includes the tests of all pairs."""
BITS_BYTES = 120_000
"""Largest size of the outcomes on a page, in bytes."""


def comparable(board: Board) -> tuple[Row, ...]:
    """First ranked rows of the board, as many as fit on the page with their outcomes."""
    kept: list[Row] = []
    left = BITS_BYTES
    for row in board.rows[: min(PAIR_ROWS, board.ranked)]:
        left -= sum(len(text) for text in held_bits(row))
        if left < 0:
            break
        kept.append(row)
    return tuple(kept)


def held_bits(row: Row) -> list[str]:
    """Examples that stayed correct under every attack, as packed bits in base64, per run of the row."""
    return [base64.b64encode(run.held).decode() for run in row.runs]


def neighbours(board: Board) -> Sequence[tuple[Row, Row, int, int, float]]:
    """Each ranked row with the next one.

    Returns:
        For each pair (row, next, examples robust only in the first, only in the second, corrected p).
    """
    wins, p, rows = board.pairs.wins, board.pairs.adjusted, board.rows[: board.ranked]
    return [
        (row, after, int(wins[at, at + 1]), int(wins[at + 1, at]), float(p[at, at + 1]))
        for at, (row, after) in enumerate(pairwise(rows))
    ]
