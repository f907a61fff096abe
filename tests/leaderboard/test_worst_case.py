"""The worst case over attacks: what counts, at which radius, and against whom."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_leaderboard.ranking.statistics import wilson
from benchmark_leaderboard.words.wording import heading, radius
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.leaderboard.made_records import made_cell, made_store
from tests.leaderboard.read_board import INF, RIGHT, board_of, held, only, reaching


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
        "2 examples of mlp have no valid attempt of any attack: until there is one, they count as not robust"
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
