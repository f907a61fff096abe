"""Oblivious and transfer results beside the worst case, what an attack used, and boards that nobody attacked."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_leaderboard.board import Board
from benchmark_leaderboard.build import build
from benchmark_leaderboard.cells.load import read
from benchmark_leaderboard.ranking.aggregate import aggregate

from benchmark.records.document import to_text
from benchmark.records.record import MetricValue, read_record
from tests.leaderboard.made_records import made_cell

N = 20


def far(broken: int) -> list[float]:
    return [0.05] * broken + [np.inf] * (N - broken)


def boards(root: Path) -> list[Board]:
    cells, problems = read([root / "cells"])
    assert not problems
    return list(aggregate(cells).boards)


def test_a_row_knows_its_results_against_unaware_attackers_and_under_transfer_from_other_suites(tmp_path: Path) -> None:
    made_cell(tmp_path, clean=[True] * N, distance=far(15), defenses=["jpeg"], suite="aware")
    made_cell(tmp_path, clean=[True] * N, distance=far(4), defenses=["jpeg"], suite="unaware", aware=False)
    made_cell(
        tmp_path, clean=[True] * N, distance=far(6), defenses=["jpeg"], suite="unaware", aware=False, attack="fgsm"
    )
    made_cell(tmp_path, clean=[True] * N, distance=far(3), defenses=["jpeg"], suite="moved", access="transfer",
              surrogate="f" * 24)  # fmt: skip
    made_cell(tmp_path, clean=[True] * N, distance=far(9), suite="aware")
    made_cell(tmp_path, clean=[True] * N, distance=far(1), defenses=["jpeg"], suite="unaware", aware=False, eps="1/20")
    aware = next(board for board in boards(tmp_path) if board.protocol.conditions.suite == "aware")
    by_label = {row.label: row for row in aware.rows}
    guarded = by_label["mlp + jpeg"]
    assert guarded.oblivious is not None
    assert guarded.transfer is not None
    assert (guarded.robust.count, guarded.oblivious.count, guarded.transfer.count) == (5, 14, 17)
    assert (by_label["mlp"].oblivious, by_label["mlp"].transfer) == (None, None)
    site = build([tmp_path / "cells"], tmp_path / "site").parent
    page = next(p for p in (site / "boards").glob("aware*.html") if p.stem.count("-") == 5)
    text = page.read_text(encoding="utf-8")
    assert 'data-col="oblivious"' in text
    assert 'data-col="transfer"' in text
    assert "oblivious_accuracy" in page.with_suffix(".csv").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("less", "official", "left"),
    [
        ({"aware": False}, True, 13),
        ({"access": "transfer", "surrogate": "f" * 24}, True, 13),
        ({"aware": False}, False, 15),
        ({"aware": False, "eps": "1/5"}, True, 15),
        ({"aware": False, "goal": "least_likely"}, True, 15),
    ],
)
def test_what_an_attacker_who_knows_less_broke_under_another_suite_counts(
    tmp_path: Path, less: dict[str, Any], official: bool, left: int
) -> None:
    made_cell(tmp_path, clean=[True] * N, distance=far(5), defenses=["jpeg"], suite="aware")
    others = [np.inf] * 3 + [0.15 if "eps" in less else 0.05] * 4 + [np.inf] * (N - 7)
    made_cell(tmp_path, clean=[True] * N, distance=others, defenses=["jpeg"], suite="less", official=official, **less)
    (row,) = next(board for board in boards(tmp_path) if board.protocol.conditions.suite == "aware").rows
    assert row.robust.count == left
    found = [alarm.evidence for alarm in row.alarms if alarm.name == "oblivious_beats_aware"]
    assert [evidence[:10] for evidence in found] == (["2 examples"] if left == 13 else [])


@pytest.mark.parametrize(
    ("access", "forwards", "backwards", "used"),
    [
        ("gradients", 9, 9, "gradients"), ("gradients", 9, 0, "queries"), ("gradients", 0, 0, "none"),
        ("scores", 9, 0, "scores"), ("labels", 9, 0, "labels"), ("transfer", 9, 9, "transfer"),
    ],
)  # fmt: skip
def test_access_shows_what_the_attack_used(
    tmp_path: Path, access: str, forwards: int, backwards: int, used: str
) -> None:
    folder = made_cell(tmp_path, clean=[True] * N, distance=far(2), attack="square", access=access)
    record = read_record(folder)
    assert record.cost is not None
    cost = record.cost.model_copy(update={"forwards": forwards, "backwards": backwards})
    (folder / "record.json").write_text(to_text(record.model_copy(update={"cost": cost})), encoding="utf-8")
    (board,) = boards(tmp_path)
    assert board.columns[0].used == used


def test_the_columns_of_a_board_are_the_strongest_first(tmp_path: Path) -> None:
    for attack, broken in (("bim", 3), ("fgsm", 1), ("pgd", 7), ("apgd", 3)):
        for model in ("mlp", "cnn"):
            made_cell(tmp_path, clean=[True] * N, distance=far(broken), attack=attack, model=model)
    (board,) = boards(tmp_path)
    assert [column.name for column in board.columns] == ["pgd", "apgd", "bim", "fgsm"]
    assert [standing.column for standing in board.attacks] == [0, 1, 2, 3]


def test_nobody_has_a_rank_by_noise_alone(tmp_path: Path) -> None:
    for model in ("a", "b", "c", "d", "e"):
        made_cell(tmp_path, clean=[True] * N, distance=far(0), attack="noise", model=model, suite=None)
    (board,) = boards(tmp_path)
    assert board.ranked == 0
    assert [row.ranks for row in board.rows] == [None] * 5
    assert [alarm.name for alarm in board.alarms] == ["not_attacked"]
    made_cell(tmp_path, clean=[True] * N, distance=far(9), attack="pgd", model="honest", suite=None)
    (board,) = boards(tmp_path)
    assert board.rows[0].label == "honest"
    assert [row.label for row in board.rows if row.ranks is not None] == ["honest"]
    page = build([tmp_path / "cells"], tmp_path / "site")
    assert page.is_file()


def test_the_page_of_a_board_that_nobody_attacked_says_so(tmp_path: Path) -> None:
    made_cell(tmp_path, clean=[True] * N, distance=far(0), attack="noise")
    page = build([tmp_path / "cells"], tmp_path / "site")
    assert "None was attacked: random noise alone does not show robustness." in page.read_text(encoding="utf-8")


def test_there_is_no_top5_column_where_five_guesses_are_all_there_are(tmp_path: Path) -> None:
    nothing = MetricValue(name="robust_top5_accuracy", value=None, low=None, high=None, unit="fraction",
                          higher_is_better=True)  # fmt: skip
    for name, metrics in (("few", [nothing]), ("many", [])):
        made_cell(tmp_path / name, clean=[True] * N, distance=far(3), metrics=metrics)
        (board,) = boards(tmp_path / name)
        (score,) = board.rows[0].scores
        assert score is not None
        assert (score.top5 is None) == (name == "few")
        site = build([tmp_path / name / "cells"], tmp_path / name / "site").parent
        (page,) = (site / "systems").glob("*.html")
        assert ("top-5 accuracy after a top-1 attack" in page.read_text(encoding="utf-8")) == (name == "many")


def test_an_empty_cell_says_why_it_is_empty(tmp_path: Path) -> None:
    made_cell(tmp_path, clean=[True] * N, distance=far(3), attack="pgd", model="a")
    made_cell(tmp_path, clean=[True] * N, distance=far(3), attack="jsma", model="a")
    made_cell(tmp_path, clean=[True] * N, distance=far(3), attack="fgsm", model="a")
    made_cell(tmp_path, clean=[True] * N, distance=far(3), attack="pgd", model="b")
    made_cell(tmp_path, clean=[], distance=[], attack="jsma", model="b", status="refused", error="no")
    site = build([tmp_path / "cells"], tmp_path / "site").parent
    (matrix,) = (site / "boards").glob("*-matrix.html")
    text = matrix.read_text(encoding="utf-8")
    assert "<small>refused</small>" in text
    assert "<small>not run</small>" in text
