"""The project's own published results: append-only data that later versions must be able to read."""

from __future__ import annotations

from pathlib import Path

from benchmark_leaderboard.board import Leaderboard, Withdrawn
from benchmark_leaderboard.cells.cell import Cell
from benchmark_leaderboard.cells.load import read
from benchmark_leaderboard.ranking.aggregate import aggregate

from benchmark.stages.arithmetic import _check_description, _check_keys
from benchmark.sweep.suites import departure
from tests.house.checkout import docs_script

RESULTS = Path(__file__).parents[2] / "leaderboard" / "results"


def published() -> tuple[list[Cell], Leaderboard]:
    """All published results; none is faulty, and what was withdrawn has a successor."""
    cells, problems = read([RESULTS])
    keys = {cell.record.key for cell in cells}
    assert all(isinstance(problem, Withdrawn) and problem.by in keys for problem in problems)
    made = aggregate(cells)
    assert not made.problems
    return cells, made


def test_the_quickstart_is_published_whole_and_as_the_suite_has_it() -> None:
    cells, boards = published()
    records = [cell.record for cell in cells if cell.record.suite == "quickstart@1"]
    assert len(records) == 60
    assert all(record.official and record.status == "complete" for record in records)
    assert [departure(record, 500) for record in records] == [None] * 60
    assert not any(record.provenance["git"]["dirty"] for record in records)
    own = [board for board in boards.boards if board.protocol.conditions.suite == "quickstart@1"]
    assert [(board.protocol.eps_exact, board.ranked, len(board.columns)) for board in own] == [
        ("1/20", 6, 5),
        ("1/10", 6, 5),
    ]


def test_defenses_are_published_with_every_attack_of_their_suite() -> None:
    cells, boards = published()
    records = [cell.record for cell in cells if cell.record.suite == "defenses_digits@1"]
    assert len(records) == 42 * 8
    assert all(record.official and record.status == "complete" for record in records)
    assert [departure(record, 200) for record in records] == [None] * len(records)
    assert not any(record.provenance["git"]["dirty"] for record in records)
    (board,) = [board for board in boards.boards if board.protocol.conditions.suite == "defenses_digits@1"]
    assert (board.ranked, len(board.columns), len(board.rows)) == (42, 8, 42)
    robust = {row.label.removeprefix("small_cnn").removeprefix(" + "): row.robust.value for row in board.rows}
    assert robust["adversarial_training"] >= robust[""] + 0.2
    fallen = ["jpeg", "bit_depth", "median_smoothing", "distillation", "random_resize_pad", "total_variation"]
    fallen += ["class_manifold", "pixel_deflection", "smoothing"]
    assert all(
        robust[name] <= robust[""] + 0.05 for name in (*fallen, "class_manifold", "pixel_deflection", "smoothing")
    )


def test_defenses_are_published_against_attackers_who_know_less() -> None:
    cells, boards = published()
    (board,) = [board for board in boards.boards if board.protocol.conditions.suite == "defenses_digits@1"]
    for suite, defenses, attacks in (("defenses_digits_oblivious@1", 22, 6), ("defenses_digits_transfer@1", 41, 3)):
        records = [cell.record for cell in cells if cell.record.suite == suite]
        assert len(records) == defenses * attacks
        assert all(record.official and record.status == "complete" for record in records)
        assert [departure(record, 200) for record in records] == [None] * len(records)
        assert {record.system.key for record in records} <= {run.system_key for row in board.rows for run in row.runs}
    assert sum(row.oblivious is not None for row in board.rows) == 22
    assert sum(row.transfer is not None for row in board.rows) == 41
    assert all(row.robust.value <= row.oblivious.value for row in board.rows if row.oblivious is not None)
    assert all(row.robust.value <= row.transfer.value for row in board.rows if row.transfer is not None)


def test_every_published_record_describes_itself_as_verify_asks() -> None:
    for cell in published()[0]:
        if cell.record.harness:
            _check_description(cell.record)
            _check_keys(cell.record)


def test_what_the_examples_cannot_tell_apart_is_tied() -> None:
    _, made = published()
    for board in (board for board in made.boards if board.protocol.conditions.suite == "quickstart@1"):
        ranks = [(row.ranks.low, row.ranks.high) for row in board.rows if row.ranks]
        assert board.rows[0].label == "small_cnn + adversarial_training"
        assert any(low != high for low, high in ranks), "500 examples separate all of six systems"


def test_adversarial_training_holds_on_fashion_mnist_and_transformations_fall() -> None:
    cells, boards = published()
    records = [cell.record for cell in cells if cell.record.suite == "defenses_fashion@1"]
    assert all(record.official and record.status == "complete" for record in records)
    assert [departure(record, 300) for record in records] == [None] * len(records)
    (board,) = [board for board in boards.boards if board.protocol.conditions.suite == "defenses_fashion@1"]
    assert board.ranked == len(board.rows) == len(records) // 8
    robust = {row.label.removeprefix("small_cnn").removeprefix(" + "): row.robust.value for row in board.rows}
    assert robust["adversarial_training"] >= robust[""] + 0.3
    assert all(robust[name] <= robust[""] + 0.05 for name in ("jpeg", "bit_depth", "median_smoothing", "thermometer"))
    suspect = {name for name, value in robust.items() if value > robust[""] + 0.05} - {"adversarial_training"}
    assert suspect == {"distillation", "random_resize_pad", "total_variation"}, "docs/defenses.md says why"


def test_distillation_fails_against_all_but_the_attack_of_its_time() -> None:
    cells, _ = published()
    records = [cell.record for cell in cells if cell.record.suite == "distillation_digits@1"]
    assert len(records) == 21
    assert all(record.official and record.status == "complete" for record in records)
    assert [departure(record, 200) for record in records] == [None] * 21
    broken: dict[str, dict[float, float]] = {"rounded": {}, "probabilities": {}, "": {}}
    for record in records:
        (defense,) = record.system.config["defenses"]
        (found,) = [metric.value for metric in record.metrics if metric.name == "attack_success_rate"]
        assert found is not None
        broken[record.attack.params.get("saliency", "")][defense["params"]["temperature"]] = found
    rounded = [rate for _, rate in sorted(broken["rounded"].items())]
    assert rounded == sorted(rounded, reverse=True)
    assert rounded[0] == 1.0
    assert rounded[-1] < 0.05
    assert {*broken["probabilities"].values(), *broken[""].values()} == {1.0}


def test_no_published_attack_came_nearer_than_the_exact_distance_of_a_tree_ensemble() -> None:
    cells, _ = published()
    records = [cell.record for cell in cells if cell.record.suite == "tree_distances@1"]
    assert len(records) == 3 * 3 * 2
    assert all(record.official and record.status == "complete" for record in records)
    assert [departure(record, 100) for record in records] == [None] * 18
    least = [metric.value for record in records for metric in record.metrics if metric.name == "optimality_ratio_least"]
    assert len(least) == 18
    assert all(ratio is not None and ratio >= 1.0 for ratio in least)


def test_the_classic_table_of_fashion_mnist_is_that_of_the_published_records() -> None:
    with docs_script("classic_table") as script:
        for mark, (suite, model) in script.TABLES.items():
            if suite in ("classic_fashion", "googlenet_fashion"):
                made = script.table(script.records(RESULTS, suite, model))
                part = script.PAGE.read_text(encoding="utf-8").partition(f"<!-- {mark} -->\n")[2]
                assert part.startswith(made)
