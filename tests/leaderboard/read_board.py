"""Boards made of records that are written for a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from benchmark_leaderboard.board import Board, Leaderboard, Row
from benchmark_leaderboard.cells.load import read
from benchmark_leaderboard.ranking.aggregate import aggregate

INF = np.inf

RIGHT = [True] * 8 + [False] * 2


def board_of(root: Path) -> Leaderboard:
    cells, problems = read([root])
    return aggregate(cells, problems)


def only(leaderboard: Leaderboard) -> Board:
    assert not leaderboard.problems
    assert len(leaderboard.boards) == 1
    return leaderboard.boards[0]


def held(row: Row) -> list[bool]:
    bits = np.unpackbits(np.frombuffer(row.runs[0].held, dtype=np.uint8))[: row.robust.total]
    return [bool(bit) for bit in bits]


def reaching(*broken: int, at: float = 0.05, n: int = 10) -> list[float]:
    """Distances of an attack that breaks these examples."""
    return [at if example in broken else INF for example in range(n)]


def alarms_of(row: Row) -> dict[str, str]:
    return {alarm.name: alarm.evidence for alarm in row.alarms}
