"""Attacks, certificates and findings of a board."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmark.records.record import Finding, read_record
from tests.leaderboard.made_records import made_cell
from tests.leaderboard.read_board import RIGHT, alarms_of, board_of, only, reaching


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
    assert alarm.evidence.startswith("2 examples are both certified and broken at this radius")


def test_nobody_tried_to_certify(tmp_path: Path) -> None:
    made_cell(tmp_path, clean=RIGHT, distance=reaching(3, 4))
    assert only(board_of(tmp_path)).rows[0].certified is None


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
    assert alarms_of(row)["clean_accuracy_differs"].startswith(
        "1 examples are correct on the clean input in some cells"
    )


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
    assert problem.sentence == f"{problem.path} is complete, but there is no outcomes.safetensors beside it"


def test_nothing_imports_torch() -> None:
    code = "import sys, benchmark_leaderboard.ranking.aggregate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
