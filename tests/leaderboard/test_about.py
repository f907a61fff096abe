"""The site about itself and for programs: about, budget, releases, notes of authors, index and data set."""

import csv
import importlib.util
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml  # type: ignore[import-untyped]
from benchmark_leaderboard.build import build
from benchmark_leaderboard.cells.load import read
from benchmark_leaderboard.cells.retraction import withdraw
from benchmark_leaderboard.ranking.aggregate import aggregate
from benchmark_leaderboard.site.budget import error_budget
from benchmark_leaderboard.site.columns import board_columns
from benchmark_leaderboard.site.notes import read_notes
from benchmark_leaderboard.site.releases import read_releases

from benchmark.errors import RecordError
from tests.leaderboard.made_board import made_leaderboard
from tests.leaderboard.made_records import made_cell, made_store

UUID4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = made_store(tmp_path_factory.mktemp("store"), systems=2, attacks=3, examples=20)
    withdraw(made_cell(root, clean=[True] * 20, distance=[np.inf] * 20, attack="ead"), "a bug in the attack")
    row = aggregate(*read([root / "cells"])).boards[0].rows[0].key
    note = {
        "title": "A & B", "authors": "Ann Who, Bob", "venue": "ICML", "year": 2025, "paper": "https://example.org/a",
        "parameters": 12345, "extra_data": True,
        "claims": [{"norm": "linf", "eps": "2/40", "robust_accuracy": 0.9}],
    }  # fmt: skip
    (root / "systems.json").write_text(json.dumps({row: note}), encoding="utf-8")
    (root / "releases.json").write_text('[{"name": "0.1", "url": "https://example.org/0.1"}]', encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def site(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    index: Path = build([store, store / "cells"], tmp_path_factory.mktemp("site"))
    return index.parent


def test_the_front_page_has_version_releases_and_the_ways_to_submit_and_to_cite(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8")
    for link in ("about.html#submit", "about.html#cite", "https://example.org/0.1"):
        assert f'href="{link}"' in text
    about = (site / "about.html").read_text(encoding="utf-8")
    for anchor in ("submit", "cite", "errata", "api"):
        assert f'<h2 id="{anchor}">' in about


@pytest.mark.parametrize(
    "text", ["{}", "[1]", '[{"name": "a", "url": "http://x"}]', '[{"name": "<b>", "url": "https://x"}]', "["]
)
def test_releases_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "releases.json").write_text(text, encoding="utf-8")
    with pytest.raises(RecordError, match=r"releases\.json is not a list of releases"):
        read_releases([tmp_path])


def test_the_error_budget_counts_what_was_withdrawn_on_this_board(store: Path, site: Path) -> None:
    cells, problems = read([store / "cells"])
    small, large = aggregate(cells, problems).boards
    budgets = [error_budget(board, {}, problems) for board in (small, large)]
    assert [budget.withdrawn for budget in budgets] == [0, 1]
    assert [budget.records for budget in budgets] == [budget.own for budget in budgets] == [6, 6]
    assert (
        sum(
            "1 record retracted or superseded" in p.read_text(encoding="utf-8")
            for p in (site / "boards").glob("*.html")
        )
        == 1
    )


def test_a_claim_stands_beside_the_attacked_accuracy_at_its_radius_alone(site: Path) -> None:
    claimed = [p for p in (site / "boards").glob("*.html") if 'data-col="claimed"' in p.read_text(encoding="utf-8")]
    (page,) = claimed
    assert "1-20" in page.name
    lines = list(csv.DictReader(io.StringIO(page.with_suffix(".csv").read_text(encoding="utf-8"))))
    assert sorted(line["claimed_accuracy"] for line in lines) == ["", "0.9"]


def test_the_adaptive_search_stands_beside_a_claim_and_nowhere_without_one() -> None:
    (board,) = made_leaderboard()[0].boards
    columns = tuple(replace(column, name="adaptive") if column.name == "pgd" else column for column in board.columns)
    board = replace(board, columns=columns)
    claimed = replace(board, rows=(replace(board.rows[0], claimed=0.9), *board.rows[1:]))
    at = [column.name for column in columns].index("adaptive")
    for of, shown in ((board, False), (claimed, True)):
        (column,) = (column for column in board_columns(of) if column.name == "reattacked")
        assert column.hidden is not shown
        assert [column.value(row) for row in of.rows] == [row.scores[at].robust.value for row in of.rows]


def test_the_page_of_a_system_shows_what_its_authors_say_and_how_to_cite_it(site: Path) -> None:
    (text,) = (t for p in (site / "systems").glob("*.html") if "Ann Who" in (t := p.read_text(encoding="utf-8")))
    assert "@inproceedings{system-" in text
    assert "author = {Ann Who and Bob}" in text
    assert "title = {{A \\&amp; B}}" in text
    assert "as stated by the authors; not verified" in text
    assert "A &amp; B, Ann Who, Bob, ICML, 2025" in (site / "systems.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("note", "sentence"),
    [
        ({"paper": "javascript:alert(1)"}, "should match pattern"),
        ({"title": "<script>x</script>"}, "contains markup"),
        ({"year": 1}, "greater than or equal to 1950"),
        ({"verified": True}, "Extra inputs"),
        ({"claims": [{"norm": "linf", "eps": "1/10", "robust_accuracy": 90}]}, "less than or equal to 1"),
        ({"title": "x" * 301}, "at most 300"),
    ],
)
def test_a_note_that_is_none_is_refused(tmp_path: Path, note: dict[str, Any], sentence: str) -> None:
    (tmp_path / "systems.json").write_text(json.dumps({"a": note}), encoding="utf-8")
    with pytest.raises(RecordError, match=sentence):
        read_notes([tmp_path])


def test_every_file_that_the_index_names_is_there(site: Path) -> None:
    index = json.loads((site / "api.json").read_bytes())
    assert index["version"] == 1
    named = [value for entry in (*index["boards"], *index["systems"]) for value in entry.values()]
    paths = [value for value in named if isinstance(value, str) and value.endswith((".json", ".html"))]
    assert len(paths) == 4 * len(index["boards"]) + 3 * len(index["systems"])
    assert all((site / path).is_file() for path in paths)
    table = json.loads((site / index["boards"][0]["table"]).read_bytes())
    assert len(table["rows"]) == index["boards"][0]["systems"]


def test_the_data_set_has_a_card_that_names_its_files(site: Path) -> None:
    card = (site / "dataset" / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(card.split("---")[1])
    assert [config["config_name"] for config in head["configs"]] == ["standings", "results"]
    counts = {}
    for config in head["configs"]:
        text = (site / "dataset" / config["data_files"]).read_text(encoding="utf-8")
        counts[config["config_name"]] = len(list(csv.reader(io.StringIO(text)))) - 1
    assert counts == {"standings": 4, "results": 12}


def test_the_export_lies_where_every_eval_ever_looks_for_it_and_passes_its_checker(site: Path) -> None:
    root = site / "every_eval_ever"
    files = sorted(root.rglob("*.json"))
    assert len(files) == 2
    for file in files:
        relative = file.relative_to(root).as_posix()
        assert re.fullmatch(rf"data/adversarial-benchmark/adversarial-benchmark/\w+/{UUID4}\.json", relative)
        _, _, developer, model, _ = relative.split("/")
        assert json.loads(file.read_bytes())["model_info"]["id"] == f"{developer}/{model}"
    if importlib.util.find_spec("every_eval_ever") is None:
        pytest.skip("the rest needs the checker: pip install every-eval-ever (Python 3.12)")
    names = [file.relative_to(root).as_posix() for file in files]
    done = subprocess.run(
        [sys.executable, "-m", "every_eval_ever.validate", *names],
        cwd=root,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
