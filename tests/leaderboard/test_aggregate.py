"""Boards from cells with known outcomes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmark_leaderboard.board import Leaderboard
from benchmark_leaderboard.cells.load import read
from benchmark_leaderboard.ranking.aggregate import aggregate
from benchmark_leaderboard.words.wording import answer
from scipy import stats

from benchmark.records.record import read_record
from tests.leaderboard.made_records import made_cell, made_store
from tests.leaderboard.read_board import INF, RIGHT, board_of, held, only, reaching

# --- rows and columns ---


def test_seeds_of_one_recipe_are_one_row_with_its_spread(tmp_path: Path) -> None:
    for seed, broken in enumerate([(0,), (0, 1, 2), (1, 2)]):
        made_cell(tmp_path, clean=RIGHT, distance=reaching(*broken), seed=seed)
    (row,) = only(board_of(tmp_path)).rows
    assert [run.seed for run in row.runs] == [0, 1, 2]
    assert row.robust.value == pytest.approx((7 + 5 + 6) / 30)
    assert (row.spread.low, row.spread.high) == (0.5, 0.7)
    assert row.spread.deviation == pytest.approx(0.1)
    assert row.clean_spread.deviation == pytest.approx(0)
    assert row.robust.total == 10
    assert row.scores[0] is not None
    assert len(row.scores[0].keys) == 3


def test_the_first_five_answers_are_the_records_and_the_worst_of_an_attack(tmp_path: Path) -> None:
    for seed, kept in enumerate((9, 6)):
        path = made_cell(tmp_path, clean=RIGHT, distance=reaching(0), seed=seed) / "record.json"
        text = path.read_text(encoding="utf-8")
        assert text.count('"robust_top5": 10') == 1
        path.write_text(text.replace('"robust_top5": 10', f'"robust_top5": {kept}'), encoding="utf-8")
    (row,) = only(board_of(tmp_path)).rows
    assert row.scores[0] is not None
    assert row.scores[0].top5 == 7.5


def test_labels_say_what_differs_and_no_more(tmp_path: Path) -> None:
    for width in (8, 16):
        made_cell(tmp_path, clean=RIGHT, distance=reaching(), model_params={"width": width, "depth": 2})
    made_cell(tmp_path, clean=RIGHT, distance=reaching(), model="linear", defenses=["jpeg", "label_smoothing"])
    made_cell(tmp_path, clean=RIGHT, distance=reaching(), model="linear", poison=["badnets"], params={"steps": 40})
    board = only(board_of(tmp_path))
    assert sorted(row.label for row in board.rows) == [
        "linear + jpeg + label_smoothing",
        "linear, poisoned by badnets",
        "mlp (width=16)",
        "mlp (width=8)",
    ]
    assert sorted(column.label for column in board.columns) == ["pgd", "pgd (steps=40)"]


def test_labels_say_what_runs_of_a_library(tmp_path: Path) -> None:
    for method in ("LinfPGD", "FGSM"):
        made_cell(tmp_path, clean=RIGHT, distance=reaching(), attack="foolbox", params={"method": method})
    made_cell(tmp_path, clean=RIGHT, distance=reaching(), model="sklearn", model_params={"estimator": "SVC"})
    board = only(board_of(tmp_path))
    assert sorted(row.label for row in board.rows) == ["mlp", "sklearn SVC"]
    assert sorted(column.label for column in board.columns) == ["foolbox FGSM", "foolbox LinfPGD", "pgd"]


def test_a_row_without_an_attack_of_its_board_says_so(tmp_path: Path) -> None:
    made_cell(tmp_path, clean=RIGHT, distance=reaching(0))
    made_cell(tmp_path, clean=RIGHT, distance=reaching(1), attack="fgsm")
    made_cell(tmp_path, clean=RIGHT, distance=reaching(), model="linear")
    made_cell(tmp_path, clean=RIGHT, distance=reaching(2), model="small_cnn")
    board = only(board_of(tmp_path))
    first = board.rows[0]
    assert (first.label, first.scores[0]) == ("linear", None)
    assert first.ranks is not None
    assert first.ranks.low == 1
    assert [(alarm.severity, alarm.evidence) for alarm in first.alarms] == [
        ("info", "not attacked by fgsm, as some other rows were: its robust accuracy may look better than it is")
    ]
    assert not board.rows[2].alarms


def test_a_row_that_was_spared_a_usual_attack_has_no_rank(tmp_path: Path) -> None:
    for model, broken in (("a", (0, 1, 2)), ("b", (0, 1))):
        made_cell(tmp_path, clean=RIGHT, distance=reaching(), model=model, attack="noise")
        made_cell(tmp_path, clean=RIGHT, distance=reaching(*broken), model=model)
    alone = only(board_of(tmp_path))
    made_cell(tmp_path, clean=RIGHT, distance=reaching(), model="spared", attack="noise")
    board = only(board_of(tmp_path))
    assert [row.label for row in board.rows] == ["b", "a", "spared"]
    assert (board.ranked, board.front, board.ties) == (2, 2, alone.ties)
    assert [replace(row, keys=()) for row in board.rows[:2]] == [replace(row, keys=()) for row in alone.rows]
    spared = board.rows[2]
    assert (spared.robust.count, spared.place) == (8, 3)
    assert spared.ranks is None
    assert [(alarm.name, alarm.severity) for alarm in spared.alarms] == [("fewer_attacks", "warning")]
    assert spared.alarms[0].evidence.startswith("not attacked by pgd, as at least half of the rows were: ")
    assert answer(board)[0] == "No significant difference between these 2 systems."


def test_a_surrogate_need_not_be_attacked_from_itself(tmp_path: Path) -> None:
    held = read_record(made_cell(tmp_path, clean=RIGHT, distance=reaching(), model="held"))
    for model in ("a", "b"):
        made_cell(tmp_path, clean=RIGHT, distance=reaching(0), model=model)
        made_cell(
            tmp_path,
            clean=RIGHT,
            distance=reaching(1),
            model=model,
            attack="mi_fgsm",
            access="transfer",
            surrogate=held.system.key,
        )
    board = only(board_of(tmp_path))
    assert (board.rows[0].label, board.ranked) == ("held", 3)
    made_cell(tmp_path, clean=RIGHT, distance=reaching(), model="spared")
    assert only(board_of(tmp_path)).rows[3].label == "spared"
    assert only(board_of(tmp_path)).ranked == 3


def test_rows_of_which_none_met_all_usual_attacks_have_no_ranks(tmp_path: Path) -> None:
    for model, attack in (("a", "pgd"), ("b", "fgsm")):
        made_cell(tmp_path, clean=RIGHT, distance=reaching(0), model=model, attack=attack)
    board = only(board_of(tmp_path))
    assert (board.ranked, board.front, board.resolution.pairs) == (0, 0, 0)
    assert answer(board)[0] == "No system is ranked."


def test_examples_given_against_one_row_are_no_attack_that_others_lack(tmp_path: Path) -> None:
    for model in ("a", "b"):
        made_cell(tmp_path, clean=RIGHT, distance=reaching(0), model=model)
    made_cell(tmp_path, clean=RIGHT, distance=reaching(1), model="a", attack="given_examples")
    board = only(board_of(tmp_path))
    assert [row.system.model for row in board.rows] == ["b", "a"]
    assert [row.alarms for row in board.rows] == [(), ()]
    made_cell(tmp_path, clean=RIGHT, distance=reaching(1), model="a", attack="fgsm")
    assert [len(row.alarms) for row in only(board_of(tmp_path)).rows] == [0, 1]


def test_rows_are_ordered_by_robust_then_clean_accuracy_then_key(tmp_path: Path) -> None:
    made_cell(tmp_path, clean=RIGHT, distance=reaching(0, 1), model="a")
    made_cell(tmp_path, clean=[True] * 10, distance=reaching(0, 1, 2, 3), model="b")
    made_cell(tmp_path, clean=RIGHT, distance=reaching(5, 6), model="c")
    made_cell(tmp_path, clean=RIGHT, distance=reaching(), model="d")
    rows = only(board_of(tmp_path)).rows
    assert [row.label for row in rows[:2]] == ["d", "b"]
    assert [row.key for row in rows[2:]] == sorted(row.key for row in rows[2:])
    assert [row.place for row in rows] == [1, 2, 3, 4]


# --- ranks ---


def test_pairs_are_exact_mcnemar_tests(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n = 200
    for at in range(4):
        made_cell(
            tmp_path,
            clean=np.ones(n, dtype=bool),
            distance=np.where(rng.random(n) < 0.2 + 0.12 * at, 0.01, INF),
            model_params={"width": at},
        )
    board = only(board_of(tmp_path))
    rows = [np.array(held(row)) for row in board.rows]
    for i in range(4):
        for j in range(4):
            b, c = int((rows[i] & ~rows[j]).sum()), int((~rows[i] & rows[j]).sum())
            assert (board.pairs.wins[i, j], board.pairs.wins[j, i]) == (b, c)
            assert board.pairs.p[i, j] == pytest.approx(stats.binomtest(b, b + c).pvalue if b + c else 1)
    ordered = sorted((board.pairs.p[i, j], i, j) for i in range(4) for j in range(i + 1, 4))
    largest = 0.0
    for left, (p, i, j) in zip(range(6, 0, -1), ordered, strict=True):
        largest = max(largest, min(1.0, left * p))
        assert board.pairs.adjusted[i, j] == pytest.approx(largest, rel=1e-9, abs=0)
        assert board.pairs.adjusted[j, i] == board.pairs.adjusted[i, j]
    assert board.pairs.adjusted[0, 3] < 0.05
    assert board.resolution.pairs == 6
    assert board.resolution.neighbours == 3
    assert board.ties[0][1] < 3
    ranks = [row.ranks for row in board.rows if row.ranks]
    assert len(ranks) == 4
    assert ranks[0].high < 4
    assert sum(its.best for its in ranks) == pytest.approx(1)


def test_an_identical_system_ties(tmp_path: Path) -> None:
    for model in ("a", "b"):
        made_cell(tmp_path, clean=[True] * 40, distance=reaching(*range(9), n=40), model=model)
    board = only(board_of(tmp_path))
    assert board.ties == ((0, 1),)
    assert board.front == 2
    ranks = [row.ranks for row in board.rows if row.ranks]
    assert [(its.low, its.high, its.best) for its in ranks] == [(1, 2, 0.5)] * 2
    assert board.resolution.more_examples is None
    assert board.resolution.detectable is None


def test_the_resolution_says_how_many_examples_are_missing(tmp_path: Path) -> None:
    made_cell(tmp_path, clean=[True] * 100, distance=reaching(*range(10), n=100), model="a")
    made_cell(tmp_path, clean=[True] * 100, distance=reaching(*range(8, 22), n=100), model="b")
    resolution = only(board_of(tmp_path)).resolution
    assert (resolution.neighbours, resolution.separable_neighbours, resolution.pairs) == (1, 0, 1)
    assert resolution.more_examples is not None
    factor = 1 + resolution.more_examples / 100
    assert stats.binomtest(round(8 * factor), round(8 * factor) + round(12 * factor)).pvalue <= 0.05
    assert stats.binomtest(round(7.8 * factor), round(7.8 * factor) + round(11.7 * factor)).pvalue > 0.04
    assert resolution.detectable is not None
    assert 0.04 < resolution.detectable < 0.2
    made_cell(tmp_path, clean=[True] * 100, distance=reaching(*range(60, 100), n=100), model="c")
    with_a_third = only(board_of(tmp_path)).resolution
    assert with_a_third.pairs == 3
    assert with_a_third.more_examples is not None
    factor = 1 + with_a_third.more_examples / 100
    assert stats.binomtest(round(8 * factor), round(8 * factor) + round(12 * factor)).pvalue <= 0.05 / 3
    assert with_a_third.more_examples > resolution.more_examples


def test_the_order_of_the_input_does_not_matter(tmp_path: Path) -> None:
    made_store(tmp_path, systems=5, attacks=4, examples=50, seeds=2)
    cells, _ = read([tmp_path])
    one, two = aggregate(cells), aggregate(cells[::-1])
    assert _plain(one) == _plain(two)


def _plain(leaderboard: Leaderboard) -> str:
    """A board as text; arrays of pairs as lists."""
    boards = [replace(b, pairs=None) for b in leaderboard.boards]
    pairs = [(b.pairs.wins.tolist(), b.pairs.p.tolist(), b.pairs.adjusted.tolist()) for b in leaderboard.boards]
    return repr(replace(leaderboard, boards=tuple(boards))) + repr(pairs)
