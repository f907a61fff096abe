"""The page of comparisons: what it carries and how much of it."""

from dataclasses import replace

import numpy as np
import pytest
from benchmark_leaderboard.board import Board, Pairs
from benchmark_leaderboard.ranking import pairs
from benchmark_leaderboard.ranking.pairs import comparable, held_bits, neighbours
from benchmark_leaderboard.site.render import render

from tests.leaderboard.made_board import made_leaderboard
from tests.leaderboard.test_render import Page


def board_of(systems: int, bits: bytes = b"") -> Board:
    board = made_leaderboard(systems, 2)[0].boards[0]
    return replace(board, rows=tuple(replace(r, runs=(replace(r.runs[0], held=bits),)) for r in board.rows))


def test_bits_are_base64_of_each_run() -> None:
    (row, *_) = board_of(3, b"\xff\x00\x10").rows
    assert held_bits(row) == ["/wAQ"]


@pytest.mark.parametrize(("systems", "bits", "budget", "expected"), [(5, 30, 120, 3), (5, 30, 39, 0), (45, 0, 120, 40)])
def test_as_many_rows_as_fit(
    monkeypatch: pytest.MonkeyPatch, systems: int, bits: int, budget: int, expected: int
) -> None:
    monkeypatch.setattr(pairs, "BITS_BYTES", budget)
    assert len(comparable(board_of(systems, bytes(bits)))) == expected


def test_neighbours_say_who_holds_what() -> None:
    wins = np.array([[0, 5, 9], [2, 0, 4], [1, 3, 0]])
    p = np.array([[1.0, 0.4, 0.01], [0.4, 1.0, 0.9], [0.01, 0.9, 1.0]])
    board = replace(board_of(3), pairs=Pairs(wins, p, p))
    rows = board.rows
    assert neighbours(board) == [(rows[0], rows[1], 5, 2, 0.4), (rows[1], rows[2], 4, 3, 0.9)]


def test_the_page_has_every_pair_without_a_script() -> None:
    leaderboard, records = made_leaderboard()
    wins = np.array([[0, 51, 92], [23, 0, 44], [14, 35, 0]])
    p = np.array([[1.0, 0.4, 0.01], [0.4, 1.0, 0.9], [0.01, 0.9, 1.0]])
    board = replace(leaderboard.boards[0], pairs=Pairs(wins, p, p))
    files = dict(render(replace(leaderboard, boards=(board,)), records))
    text = next(text for path, text in files.items() if path.endswith("-compare.html"))
    assert '<td class="num apart">92</td>' in text
    assert '<td class="num">51</td>' in text
    assert "mlp 0 mlp 1 51 23 0.4 tied" in Page(text).text
