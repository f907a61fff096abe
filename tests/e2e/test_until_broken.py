"""`until=broken`: the same worst case, example by example, for a part of the passes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from benchmark_leaderboard.cells.load import read
from benchmark_leaderboard.ranking.aggregate import aggregate
from benchmark_leaderboard.review.check_survivors import unfaithful_survivors

from benchmark.records.document import to_text
from benchmark.records.record import cell_key, read_record
from tests.e2e.commands import benchmark, records

SWEEP = (
    "run", "-m", "attack=square,pgd,fgsm,noise", "defense=[],[gaussian_augmentation]", "model=linear",
    "training.epochs=3", "metric=[robust_accuracy]", "examples=60", "threat.queries=60", "threat.eps=1/4", "tracker=[]",
)  # fmt: skip


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    whole, part = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("part")
    benchmark(whole, *SWEEP)
    benchmark(part, *SWEEP, "until=broken")
    return whole, part


def test_the_worst_case_is_the_same_to_the_example_at_fewer_passes(both: tuple[Path, Path]) -> None:
    boards = []
    for folder in both:
        cells, problems = read([folder / "results" / "cells"], files=True)
        assert problems == []
        made = aggregate(cells)
        assert made.problems == ()
        (board,) = made.boards
        boards.append({row.label: row for row in board.rows})
    whole, part = boards
    assert {label: row.runs[0].held for label, row in whole.items()} == {n: r.runs[0].held for n, r in part.items()}
    assert {label: row.ranks for label, row in whole.items()} == {label: row.ranks for label, row in part.items()}
    spent = [sum(r["cost"]["forwards"] for r in records(folder).values()) for folder in both]
    assert spent[1] < spent[0] / 3


def test_cells_name_the_cells_whose_survivors_they_saw_from_cheap_to_strong(both: tuple[Path, Path]) -> None:
    found = records(both[1])
    told: dict[int, set[str]] = {}
    for record in found.values():
        before = record["survivors_of"]
        broken = 0
        for name in before:
            assert found[name]["system"]["key"] == record["system"]["key"]
            broken += found[name]["counts"]["clean_correct"] - found[name]["counts"]["spared"]
            broken -= found[name]["counts"]["robust_correct"]
        assert record["counts"]["spared"] == broken
        told.setdefault(len(before), set()).add(record["attack"]["name"])
    assert told == {0: {"fgsm"}, 1: {"noise"}, 2: {"pgd"}, 3: {"square"}}


def test_a_second_time_nothing_is_computed_and_the_records_are_proved(both: tuple[Path, Path]) -> None:
    part = both[1]
    kept = {p: p.stat().st_mtime_ns for p in (part / "results" / "cells").rglob("*")}
    benchmark(part, *SWEEP, "until=broken")
    assert {p: p.stat().st_mtime_ns for p in (part / "results" / "cells").rglob("*")} == kept
    assert "8 verified, 0 failed" in benchmark(part, "verify", "results/cells", "--store", "results").stdout
    assert "after others" in benchmark(part, "status").stdout


def test_without_the_cells_before_it_a_cell_is_neither_proved_nor_ranked(
    both: tuple[Path, Path], tmp_path: Path
) -> None:
    shutil.copytree(both[1] / "results", tmp_path / "results")
    found = records(tmp_path)
    last = next(record for record in found.values() if record["attack"]["name"] == "square")
    gone = last["survivors_of"][0]
    shutil.rmtree(tmp_path / "results" / "cells" / gone)
    done = benchmark(tmp_path, "verify", f"results/cells/{last['key']}", "--store", "results", check=False)
    assert done.returncode == 1
    assert f"the cell {gone}, on whose survivors the attack was run, is not here" in done.stdout
    cells, _ = read([tmp_path / "results" / "cells"])
    made = aggregate(cells)
    assert sum(f"the cell {gone}, on whose survivors it was run, is not here" in p.sentence for p in made.problems) == 3
    (board,) = made.boards
    assert last["key"] not in {key for row in board.rows for key in row.keys}


def test_an_example_that_was_withheld_without_reason_is_found_out(both: tuple[Path, Path], tmp_path: Path) -> None:
    """A forger leaves out of the named cells the one that broke most: the key fits, the spared examples do not."""
    shutil.copytree(both[1] / "results", tmp_path / "results")
    last = next(record for record in records(tmp_path).values() if record["attack"]["name"] == "square")
    folder = tmp_path / "results" / "cells" / last["key"]
    forged = read_record(folder)
    found = records(tmp_path)
    left = {key: found[key]["counts"]["robust_correct"] + found[key]["counts"]["spared"] for key in forged.survivors_of}
    most = min(left, key=lambda key: left[key])
    forged = forged.model_copy(update={"survivors_of": [key for key in forged.survivors_of if key != most]})
    forged = forged.model_copy(update={"key": cell_key(forged)})
    assert forged.key != last["key"]
    (folder / "record.json").write_text(to_text(forged))
    folder.rename(folder.with_name(forged.key))
    done = benchmark(tmp_path, "verify", f"results/cells/{forged.key}", "--store", "results", check=False)
    assert done.returncode == 1
    assert "was not given to the attack, in contradiction to the cells whose survivors it was run on" in done.stdout
    cells = {cell.record.key: cell for cell in read([tmp_path / "results" / "cells"])[0]}
    said = {key: list(unfaithful_survivors(cell, cells)) for key, cell in cells.items()}
    (sentence,) = said.pop(forged.key)
    assert sentence.endswith("was run on other examples than the survivors of the cells that it names")
    assert set(map(tuple, said.values())) == {()}
