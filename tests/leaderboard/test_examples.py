"""The page of a system example by example, against outcomes written by hand."""

import csv
import io
from pathlib import Path

import numpy as np
from benchmark_leaderboard.build import build
from benchmark_leaderboard.cells.evidence import read_answers
from benchmark_leaderboard.cells.load import read
from benchmark_leaderboard.ranking.aggregate import aggregate
from benchmark_leaderboard.site.examples import DRILL_EXAMPLES, example_lines

from tests.leaderboard.made_records import made_cell

CLEAN = [True, True, True, False]
INF = np.inf


def made(root: Path) -> Path:
    made_cell(root, clean=CLEAN, distance=[0.09, INF, 0.05, INF], attack="pgd")
    made_cell(root, clean=CLEAN, distance=[0.03, INF, 0.2, INF], attack="deepfool", minimal=True)
    return root / "cells"


def test_each_example_has_its_attacks_and_the_nearest_distance(tmp_path: Path) -> None:
    cells, _ = read([made(tmp_path)])
    named = {cell.record.key: cell for cell in cells}
    (board,) = aggregate(cells).boards
    lines = example_lines(board, board.rows[0], lambda key: read_answers(named[key]))
    first, second, third, fourth = lines
    assert (set(first.broken_by), first.nearest) == ({"pgd", "deepfool"}, "deepfool")
    assert first.distance == np.float32(0.03)
    assert (second.broken_by, second.distance, second.clean) == ((), None, True)
    assert (third.broken_by, third.distance) == (("pgd",), float(np.float32(0.05)))
    assert (fourth.clean, fourth.broken_by) == (False, ())
    assert [line.id for line in lines] == read_answers(cells[0]).ids.tolist()


def test_the_site_has_the_page_with_its_download(tmp_path: Path) -> None:
    site = build([made(tmp_path)], tmp_path / "site").parent
    (page,) = (site / "examples").glob("*.html")
    lines = list(csv.DictReader(io.StringIO(page.with_suffix(".csv").read_text(encoding="utf-8"))))
    assert [line["found_by"] for line in lines] == ["deepfool", "", "pgd", ""]
    (system,) = (site / "systems").glob("*.html")
    assert f'href="../examples/{page.name}"' in system.read_text(encoding="utf-8")


def test_very_many_examples_have_no_such_page(tmp_path: Path) -> None:
    many = DRILL_EXAMPLES + 1
    made_cell(tmp_path, clean=[True] * many, distance=[INF] * many)
    site = build([tmp_path / "cells"], tmp_path / "site").parent
    assert not list((site / "examples").glob("*.html"))
    assert "Results by example" not in next((site / "systems").glob("*.html")).read_text(encoding="utf-8")
