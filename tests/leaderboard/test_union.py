"""The union of norms against a count by hand."""

from pathlib import Path

import numpy as np
import pytest
from benchmark_leaderboard.build import build
from benchmark_leaderboard.cells.load import read
from benchmark_leaderboard.ranking.aggregate import aggregate
from benchmark_leaderboard.ranking.union import Union, unions

from tests.leaderboard.made_records import made_cell

N = 20
RIGHT = np.arange(N) < 18


def broken(examples: range | list[int], distance: float) -> list[float]:
    return [distance if at in examples else np.inf for at in range(N)]


def of_store(root: Path) -> list[Union]:
    boards = aggregate(*read([root / "cells"])).boards
    found: list[Union] = unions([(board, row) for board in boards for row in board.rows])
    return found


def test_an_example_counts_if_no_norm_breaks_it(tmp_path: Path) -> None:
    made_cell(tmp_path, clean=RIGHT, distance=broken(range(5), 0.05))
    made_cell(tmp_path, clean=RIGHT, distance=broken(range(3, 8), 0.4), norm="l2", eps="1/2")
    made_cell(tmp_path, clean=RIGHT, distance=broken([17], 3.0), norm="l0", eps="10", suite="other_v1")
    (found,) = of_store(tmp_path)
    assert [p.conditions.norm for p in found.protocols] == ["linf", "l2", "l0"]
    assert (found.robust.count, found.robust.total) == (18 - 8 - 1, N)
    text = next((build([tmp_path / "cells"], tmp_path / "site").parent / "systems").glob("*.html")).read_text("utf-8")
    assert "<dt>Union of norms</dt>" in text


def test_the_largest_radius_of_a_norm_counts(tmp_path: Path) -> None:
    made_cell(tmp_path, clean=RIGHT, distance=broken(range(2), 0.01), eps="1/20")
    made_cell(tmp_path, clean=RIGHT, distance=broken(range(9), 0.08), eps="1/10")
    made_cell(tmp_path, clean=RIGHT, distance=broken([], 1.0), norm="l2", eps="1/2")
    (found,) = of_store(tmp_path)
    assert found.robust.count == 9
    assert {p.eps_exact for p in found.protocols} == {"1/10", "1/2"}


@pytest.mark.parametrize(
    "changes", [{"norm": "linf", "eps": "1/20"}, {"aware": False}, {"examples": "x"}, {"goal": "least_likely"}], ids=str
)
def test_what_cannot_be_joined_is_not(tmp_path: Path, changes: dict[str, object]) -> None:
    made_cell(tmp_path, clean=RIGHT, distance=broken([1], 0.05))
    made_cell(tmp_path, clean=RIGHT, distance=broken([2], 0.05), **{"norm": "l2", "eps": "1/2", **changes})  # type: ignore[arg-type]
    assert of_store(tmp_path) == []
