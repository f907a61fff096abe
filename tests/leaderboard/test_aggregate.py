"""Boards from cells with known outcomes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_leaderboard.board import Board, Leaderboard, Row
from benchmark_leaderboard.cells.load import read
from benchmark_leaderboard.ranking.aggregate import aggregate
from benchmark_leaderboard.ranking.statistics import wilson
from benchmark_leaderboard.words.wording import answer, heading, radius
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmark.records.record import Finding, read_record
from tests.leaderboard.made_records import made_cell, made_store

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


# --- the worst case ---


def test_the_worst_case_is_per_example_over_all_attacks(tmp_path: Path) -> None:
    made_cell(tmp_path, clean=RIGHT, distance=reaching(0, 1, 2), attack="fgsm")
    made_cell(tmp_path, clean=RIGHT, distance=reaching(2, 3), attack="pgd")
    made_cell(tmp_path, clean=RIGHT, distance=reaching(2, 9), attack="square", access="scores", queries=50)
    board = only(board_of(tmp_path))
    (row,) = board.rows
    assert held(row) == [False] * 4 + [True] * 4 + [False] * 2
    assert (row.robust.count, row.robust.total, row.clean.count) == (4, 10, 8)
    assert (row.robust.low, row.robust.high) == wilson(4, 10)
    assert [column.name for column in board.columns] == ["fgsm", "pgd", "square"]
    scores = [score for score in row.scores if score is not None]
    assert [score.broken for score in scores] == [3, 2, 1]
    assert [score.alone for score in scores] == [2, 1, 0]
    assert [score.robust.count for score in scores] == [5, 6, 7]
    assert [score.median_distance for score in scores] == [None, None, None]


def test_a_smallest_perturbation_counts_at_every_radius(tmp_path: Path) -> None:
    far = [0.02, 0.06, 0.2, *[INF] * 5, 0.01, 0.01]
    made_cell(tmp_path, clean=RIGHT, distance=far, attack="deepfool", minimal=True, eps="1/20")
    made_cell(tmp_path, clean=RIGHT, distance=reaching(5), attack="pgd", eps="1/20")
    made_cell(tmp_path, clean=RIGHT, distance=reaching(6, at=0.09), attack="pgd", eps="1/10")
    small, large = board_of(tmp_path).boards
    assert (small.protocol.eps_exact, large.protocol.eps_exact) == ("1/20", "1/10")
    assert held(small.rows[0]) == [False, *[True] * 4, False, True, True, False, False]
    assert held(large.rows[0]) == [False, False, *[True] * 3, False, False, True, False, False]
    assert (small.rows[0].carried, large.rows[0].carried) == (0, 3)
    assert [column.name for column in large.columns] == ["pgd"]
    assert large.rows[0].scores[0] is not None
    assert large.rows[0].scores[0].broken == 1


def test_attacks_of_no_norm_share_a_board_of_their_own(tmp_path: Path) -> None:
    """A negative image breaks a system, and says nothing of what holds within a radius."""
    made_cell(tmp_path, clean=RIGHT, distance=reaching(0, 1), attack="pgd", eps="1/10")
    proved = [0.2] * 10
    for norm, eps in (("linf", "1/10"), ("l2", "1/2")):
        made_cell(
            tmp_path, clean=RIGHT, distance=reaching(2, 3, 4, at=0.9), attack="negative", bounded=False, norm=norm,
            eps=eps, certified=proved,
        )  # fmt: skip
    made_cell(
        tmp_path, clean=RIGHT, distance=reaching(), attack="blur", bounded=False, status="failed", error="no images"
    )
    board = board_of(tmp_path)
    within, changed = board.boards
    assert (within.protocol.conditions.norm, within.protocol.eps_exact) == ("linf", "1/10")
    assert radius(within.protocol) == "L∞ ≤ 1/10"
    assert held(within.rows[0]) == [False, False, *[True] * 6, False, False]
    assert (changed.protocol.conditions.norm, radius(changed.protocol)) == ("any", "no norm bound")
    assert heading(changed.protocol) == "No norm bound"
    assert held(changed.rows[0]) == [True, True, False, False, False, True, True, True, False, False]
    assert [column.name for column in changed.columns] == ["negative"]
    assert not [alarm for alarm in changed.alarms if "certified" in alarm.name]
    assert [cell.attack for cell in changed.unfinished] == ["blur"]
    assert not board.curves


def test_who_knows_a_defense_may_ignore_it(tmp_path: Path) -> None:
    jpeg: dict[str, Any] = {"clean": RIGHT, "defenses": ["jpeg"]}
    made_cell(tmp_path, **jpeg, distance=reaching(0, 1))
    made_cell(tmp_path, **jpeg, distance=reaching(1, 2, 3), aware=False)
    made_cell(tmp_path, **jpeg, distance=reaching(4), access="transfer", surrogate="a" * 24)
    made_cell(
        tmp_path, **jpeg, distance=np.where(np.arange(10) == 5, 0.1, np.inf), aware=False, eps="1/5", attack="fmn"
    )
    made_cell(tmp_path, **jpeg, distance=reaching(6), aware=False, region="square:3")
    boards = {(b.protocol.conditions.aware, b.protocol.eps_exact): b for b in board_of(tmp_path).boards
              if b.protocol.conditions.region == "full"}  # fmt: skip
    (row,) = boards[True, "1/10"].rows
    assert (row.robust.count, row.carried) == (2, 0)
    assert {(a.name, a.evidence.split(" ", 1)[0]) for a in row.alarms} >= {("oblivious_beats_aware", "3")}
    assert [round(score.robust.value, 1) for score in row.scores if score] == [0.6, 0.7]
    assert row.history[-1].robust == row.robust
    assert {name for name, _ in row.history[-1].through} <= {"pgd unaware of the defense", "fmn unaware of the defense"}
    (unaware,) = boards[False, "1/10"].rows
    assert (unaware.robust.count, unaware.carried) == (4, 1)
    assert "oblivious_beats_aware" not in {alarm.name for alarm in unaware.alarms}


def test_nothing_is_carried_between_other_norms_goals_or_regions(tmp_path: Path) -> None:
    far = [0.01] * 10
    others: list[dict[str, Any]] = [
        {"norm": "l2"},
        {"goal": "next_class"},
        {"region": "square:3"},
        {"suite": "other_v1"},
        {"suite": None, "official": False},
        {"official": False},
        {"dataset_revision": "r2"},
        {"examples": "x"},
    ]
    for other in others:
        made_cell(tmp_path, clean=RIGHT, distance=far, attack="deepfool", minimal=True, eps="1/20", **other)
    made_cell(tmp_path, clean=RIGHT, distance=reaching(), attack="pgd", eps="1/10")
    leaderboard = board_of(tmp_path)
    assert len(leaderboard.boards) == len(others) + 1
    (mine,) = [b for b in leaderboard.boards if b.protocol.eps_exact == "1/10"]
    assert mine.rows[0].robust.count == 8
    assert len({b.protocol.key for b in leaderboard.boards}) == len(others) + 1


def test_a_radius_exceeded_by_rounding_is_the_radius(tmp_path: Path) -> None:
    made_cell(tmp_path, clean=RIGHT, distance=reaching(0, at=0.1000001), attack="deepfool", minimal=True, eps="1/5")
    made_cell(tmp_path, clean=RIGHT, distance=reaching(), attack="pgd", eps="1/10")
    made_cell(tmp_path, clean=RIGHT, distance=reaching(1, at=0.1), attack="pgd", eps="1/10", queries=9)
    leaderboard = board_of(tmp_path)
    assert leaderboard.boards[0].rows[0].robust.count == 6
    (curve,) = leaderboard.curves[0].curves
    assert curve.points[1][0] == 0.1  # float32(0.1) is above 0.1


def test_invalid_candidates_are_no_break_and_no_proof(tmp_path: Path) -> None:
    outside = [False, False, *[True] * 8]
    made_cell(tmp_path, clean=RIGHT, distance=reaching(0, 1, 2), valid=outside, attack="pgd")
    (row,) = only(board_of(tmp_path)).rows
    assert (row.robust.count, row.unjudged) == (5, 2)
    assert row.scores[0] is not None
    assert (row.scores[0].broken, row.scores[0].invalid, row.scores[0].robust.count) == (1, 2, 5)
    (alarm,) = only(board_of(tmp_path)).alarms
    assert alarm.evidence == (
        "2 examples of mlp were validly tried by no attack: they count as not robust until one does"
    )
    made_cell(tmp_path, clean=RIGHT, distance=reaching(0), attack="fgsm")
    (row,) = only(board_of(tmp_path)).rows
    assert held(row) == [False, True, False, *[True] * 5, False, False]
    assert row.unjudged == 0


SYSTEMS = st.lists(
    st.lists(st.tuples(st.sampled_from(["1/20", "1/10"]), st.booleans(), st.integers(0, 255)), min_size=1, max_size=4),
    min_size=1,
    max_size=3,
)


def _write(root: Path, system: int, at: int, attack: tuple[str, bool, int]) -> None:
    eps, minimal, bits = attack
    reach = np.array([0.04 if bits >> i & 1 else INF if bits >> (i + 3) & 1 else 0.08 for i in range(10)])
    if not minimal:
        reach[reach > float(Fraction(eps))] = INF
    made_cell(
        root,
        clean=RIGHT,
        distance=reach,
        eps=eps,
        minimal=minimal,
        params={"steps": at},
        model_params={"width": system},
    )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SYSTEMS, st.sampled_from(["1/20", "1/10"]), st.booleans(), st.integers(0, 255))
def test_a_new_attack_never_raises_a_robust_accuracy(
    tmp_path_factory: pytest.TempPathFactory,
    systems: list[list[tuple[str, bool, int]]],
    eps: str,
    minimal: bool,
    bits: int,
) -> None:
    root = tmp_path_factory.mktemp("store")
    for system, attacks in enumerate(systems):
        for at, attack in enumerate(attacks):
            _write(root, system, at, attack)
    before = board_of(root)
    _write(root, 0, 99, (eps, minimal, bits))
    after = {(b.protocol.key, r.key): r.robust.count for b in board_of(root).boards for r in b.rows}
    for board in before.boards:
        for row in board.rows:
            assert after[board.protocol.key, row.key] <= row.robust.count
    for small, large in zip(before.boards, before.boards[1:], strict=False):
        counts = {row.key: row.robust.count for row in small.rows}
        for row in large.rows:
            assert row.robust.count <= counts.get(row.key, 10)


def test_the_curve_passes_through_the_worst_case_of_every_board(tmp_path: Path) -> None:
    made_store(tmp_path, systems=4, attacks=6, examples=80)
    leaderboard = board_of(tmp_path)
    (curves,) = leaderboard.curves
    assert curves.eps0 == 0.1
    assert curves.boards == tuple(board.protocol.key for board in leaderboard.boards)
    for board in leaderboard.boards:
        for row in board.rows:
            (curve,) = [c for c in curves.curves if c.row == row.key]
            reached = [share for eps, share, _, _ in curve.points if eps <= board.protocol.eps]
            assert reached[-1] == pytest.approx(row.robust.value)


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


# --- attacks, certificates, findings ---


def test_attacks_are_ranked_by_success_and_optimality(tmp_path: Path) -> None:
    best = np.array([0.02, 0.04, 0.06, 0.08, *[0.3] * 4, 0.1, 0.1])
    for attack, factor in (("deepfool", 1.5), ("fmn", 1.0)):
        made_cell(tmp_path, clean=RIGHT, distance=best * factor, attack=attack, minimal=True)
    board = only(board_of(tmp_path))
    first, second = board.attacks
    assert [board.columns[s.column].name for s in board.attacks] == ["fmn", "deepfool"]
    assert (first.success.count, first.success.total, first.alone, second.alone) == (4, 8, 1, 0)
    assert first.optimality is not None
    assert second.optimality is not None
    assert first.optimality.value == 1.0
    star = np.minimum(np.where(RIGHT, best, 0), 0.1).mean()
    mean = np.minimum(np.where(RIGHT, 1.5 * best, 0), 0.1).mean()
    assert second.optimality.value == pytest.approx(1 - (mean - star) / (0.8 * 0.1 - star))
    assert second.optimality.low < second.optimality.value < second.optimality.high
    assert first.forwards == 10
    assert [score and score.median_distance for score in board.rows[0].scores] == pytest.approx([0.19, 0.285])


def test_a_certificate_is_a_lower_bound_and_a_crossing_is_an_error(tmp_path: Path) -> None:
    proved = [0.1, 0.1, 0.1, 0.02, *[0.0] * 4, 0.1, 0.0]
    made_cell(tmp_path, clean=RIGHT, distance=reaching(3, 4), certified=proved)
    (row,) = only(board_of(tmp_path)).rows
    assert row.certified is not None
    assert (row.certified.count, row.robust.count) == (3, 6)
    assert not row.alarms
    made_cell(tmp_path, clean=RIGHT, distance=reaching(0, 1), attack="fgsm")
    (row,) = only(board_of(tmp_path)).rows
    (alarm,) = row.alarms
    assert (alarm.name, alarm.severity, len(alarm.keys)) == ("certified_yet_broken", "error", 2)
    assert alarm.evidence.startswith("2 examples are certified at this radius and broken all the same")


def test_nobody_tried_to_certify(tmp_path: Path) -> None:
    made_cell(tmp_path, clean=RIGHT, distance=reaching(3, 4))
    assert only(board_of(tmp_path)).rows[0].certified is None


def alarms_of(row: Row) -> dict[str, str]:
    return {alarm.name: alarm.evidence for alarm in row.alarms}


def test_noise_that_beats_an_attack_is_evidence_against_it(tmp_path: Path) -> None:
    made_cell(tmp_path, clean=RIGHT, distance=reaching(0, 1), attack="noise")
    made_cell(tmp_path, clean=RIGHT, distance=reaching(0), attack="fgsm")
    made_cell(tmp_path, clean=RIGHT, distance=reaching(0, 5), attack="pgd")
    assert alarms_of(only(board_of(tmp_path)).rows[0]) == {
        "noise_beats_attack": "random noise breaks 2 of 10 examples and fgsm 1: that attack is weaker than chance here"
    }


def test_a_black_box_that_beats_the_white_boxes_hints_at_masking(tmp_path: Path) -> None:
    made_cell(tmp_path, clean=RIGHT, distance=reaching(0, 1), attack="pgd")
    made_cell(tmp_path, clean=RIGHT, distance=reaching(0, 1, 2), attack="square", backwards=0)
    assert alarms_of(only(board_of(tmp_path)).rows[0]) == {
        "black_box_beats_white_box": "square breaks 3 of 10 examples without a gradient, and pgd, the strongest attack "
        "with gradients, 2: the gradients may be masked"
    }


def test_a_part_of_an_attack_that_beats_the_whole_is_evidence_against_it(tmp_path: Path) -> None:
    made_cell(tmp_path, clean=RIGHT, distance=reaching(0, 1), attack="fgsm")
    made_cell(tmp_path, clean=RIGHT, distance=reaching(0, 1), attack="bim")
    made_cell(tmp_path, clean=RIGHT, distance=reaching(2), attack="pgd", params={"steps": 3})
    assert alarms_of(only(board_of(tmp_path)).rows[0]) == {
        "attacks_out_of_order": "pgd breaks 1 of 10 examples and fgsm 2: the first does more of the same, so it fails "
        "somewhere"
    }
    made_cell(tmp_path, clean=RIGHT, distance=reaching(2, 3), attack="pgd", params={"steps": 40})
    assert not alarms_of(only(board_of(tmp_path)).rows[0])
    made_cell(tmp_path, clean=RIGHT, distance=reaching(0), attack="autoattack", queries=30)
    assert not alarms_of(only(board_of(tmp_path)).rows[0])  # fewer passes than the others may use
    made_cell(tmp_path, clean=RIGHT, distance=reaching(0), attack="autoattack")
    assert alarms_of(only(board_of(tmp_path)).rows[0])["attacks_out_of_order"].startswith("autoattack")


def test_examples_of_another_system_that_beat_the_white_boxes_hint_at_masking(tmp_path: Path) -> None:
    made_cell(tmp_path, clean=RIGHT, distance=reaching(0, 1), attack="pgd")
    made_cell(tmp_path, clean=RIGHT, distance=reaching(0, 1), attack="square", backwards=0)
    transfer = {"access": "transfer", "surrogate": "0" * 24}
    made_cell(tmp_path, clean=RIGHT, distance=reaching(3, 4), attack="bim", **transfer)  # type: ignore[arg-type]
    assert not alarms_of(only(board_of(tmp_path)).rows[0])
    made_cell(tmp_path, clean=RIGHT, distance=reaching(0, 1, 2), attack="mi_fgsm", **transfer)  # type: ignore[arg-type]
    assert alarms_of(only(board_of(tmp_path)).rows[0]) == {
        "transfer_beats_white_box": "mi_fgsm breaks 3 of 10 examples made on another system, and pgd, the strongest "
        "attack with gradients, 2: the gradients may be masked"
    }


def test_a_column_names_the_systems_of_a_transfer_attacker(tmp_path: Path) -> None:
    keys = []
    for model, seed in ("linear", 0), ("linear", 1), ("mlp", 0):
        folder = made_cell(tmp_path, clean=RIGHT, distance=reaching(0), model=model, seed=seed, suite="another")
        keys.append(read_record(folder).system.key)
    for surrogate in keys[1], f"{keys[0]},{keys[2]}", "0123456789abcdef01234567":
        made_cell(tmp_path, clean=RIGHT, distance=reaching(0), access="transfer", surrogate=surrogate)
    made_cell(tmp_path, clean=RIGHT, distance=reaching(0, 1))
    (board,) = [board for board in board_of(tmp_path).boards if board.protocol.conditions.suite == "made_v1"]
    assert {column.label for column in board.columns} == {
        "pgd (access=transfer, surrogate=linear, seed 1)",
        "pgd (access=transfer, surrogate=linear and mlp)",
        "pgd (access=transfer, surrogate=01234567)",
        "pgd (access=gradients, surrogate=none)",
    }


def test_accuracy_that_rises_with_the_radius_is_noted_on_the_larger_board(tmp_path: Path) -> None:
    made_cell(tmp_path, clean=RIGHT, distance=reaching(0, 1), eps="1/20")
    made_cell(tmp_path, clean=RIGHT, distance=reaching(4), eps="1/10")
    small, large = board_of(tmp_path).boards
    assert not small.rows[0].alarms
    assert alarms_of(large.rows[0]) == {
        "accuracy_rises_with_eps": "pgd leaves 7 of 10 examples right at eps 1/10 and 6 at 1/20: a larger ball cannot "
        "be safer, so the attack fails somewhere"
    }
    assert large.rows[0].robust.count == 5


def test_findings_of_records_are_gathered_once_per_board(tmp_path: Path) -> None:
    finding = Finding(name="zero_gradients", severity="warning", evidence="5 of 8 first gradients are zero")
    for seed in (0, 1):
        made_cell(tmp_path, clean=RIGHT, distance=reaching(), seed=seed, findings=[finding])
    made_cell(tmp_path, clean=RIGHT, distance=reaching(), eps="1/20")
    small, large = board_of(tmp_path).boards
    assert not small.rows[0].alarms
    (alarm,) = large.rows[0].alarms
    assert (alarm.name, alarm.severity, alarm.evidence, len(alarm.keys)) == (*finding.model_dump().values(), 2)


def test_cells_that_disagree_on_the_clean_inputs_are_noted(tmp_path: Path) -> None:
    made_cell(tmp_path, clean=RIGHT, distance=reaching())
    made_cell(tmp_path, clean=[False, *RIGHT[1:]], distance=reaching(), attack="fgsm")
    (row,) = only(board_of(tmp_path)).rows
    assert row.clean.count == 7
    assert row.robust.count == 7
    assert alarms_of(row)["clean_accuracy_differs"].startswith("1 examples are right on the clean input in some cells")


def test_cells_without_a_result_are_listed_where_they_belong(tmp_path: Path) -> None:
    made_cell(tmp_path, clean=RIGHT, distance=reaching())
    made_cell(tmp_path, clean=RIGHT, distance=reaching(), attack="fgsm", status="failed", error="out of memory")
    made_cell(
        tmp_path, clean=RIGHT, distance=reaching(), attack="jsma", norm="l0", eps="3", status="refused", error="l0"
    )
    leaderboard = board_of(tmp_path)
    (failed,) = leaderboard.boards[0].unfinished
    assert (failed.status, failed.attack, failed.system, failed.error) == (
        "failed",
        "fgsm",
        "mlp",
        "out of memory",
    )
    (refused,) = leaderboard.unfinished
    assert (refused.status, refused.attack) == ("refused", "jsma")


def test_outcomes_that_cannot_be_used_are_reported_and_the_rest_stands(tmp_path: Path) -> None:
    folder = made_cell(tmp_path, clean=RIGHT, distance=reaching(0))
    made_cell(tmp_path, clean=RIGHT, distance=reaching(1), attack="fgsm")
    (folder / "outcomes.safetensors").unlink()
    leaderboard = board_of(tmp_path)
    assert leaderboard.boards[0].rows[0].robust.count == 7
    (problem,) = leaderboard.problems
    assert problem.sentence == f"{problem.path} is complete, and there is no outcomes.safetensors beside it"


def test_nothing_imports_torch() -> None:
    code = "import sys, benchmark_leaderboard.ranking.aggregate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
