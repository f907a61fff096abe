"""Columns: each is defined once for page, downloads and trackers, and a plugin's metric is one without any change."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from benchmark_leaderboard.board import Leaderboard, Measured, Metric, Row
from benchmark_leaderboard.build import build
from benchmark_leaderboard.ranking.measured import metrics_of
from benchmark_leaderboard.report import report_of
from benchmark_leaderboard.site.column import METRIC_COLUMNS, exact_line, on_page
from benchmark_leaderboard.site.columns import BOARD_PAGE, board_columns
from benchmark_leaderboard.site.paths import paths_of
from benchmark_leaderboard.site.render import render
from benchmark_leaderboard.site.tried_columns import attack_columns, score_columns

from benchmark.records.record import MetricValue, Record
from tests.leaderboard.made_board import made_leaderboard
from tests.leaderboard.made_records import made_cell

RIGHT = [True] * 10


def reaching(*broken: int) -> list[float]:
    return [0.05 if at in broken else float("inf") for at in range(10)]


def measured(value: float, name: str = "calibration_error", higher: bool | None = False) -> MetricValue:
    low, high = value - 0.01, value + 0.01
    return MetricValue(name=name, value=value, low=low, high=high, unit="nats", higher_is_better=higher)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One system under two attacks, with a metric that the leaderboard has never heard of."""
    root = tmp_path_factory.mktemp("store")
    made_cell(root, clean=RIGHT, distance=reaching(1), attack="fgsm", metrics=[measured(0.25)])
    made_cell(root, clean=RIGHT, distance=reaching(1, 2), metrics=[measured(0.125)])
    build([root / "cells"], root / "site")
    return root / "site"


def only(folder: Path, pattern: str) -> str:
    (path,) = [path for path in folder.glob(pattern) if not re.search("-(matrix|compare|attacks)", path.name)]
    return path.read_text()


def test_a_plugins_metric_is_a_column_of_the_board_with_the_least_favourable_value(site: Path) -> None:
    page = only(site, "boards/*.html")
    head = re.search(r'<th [^>]*data-col="m1"[^>]*>.*?</th>', page)
    assert head is not None
    assert 'title="nats, lower is better, worst over its attacks"' in head[0]
    assert ">calibration error, nats<" in head[0]
    assert '<td class="num" data-v="0.25">0.25 <span class="ci">0.24\u20130.26</span></td>' in page


@pytest.mark.parametrize(("pattern", "value"), [("attacks/fgsm-*.html", "0.25"), ("attacks/pgd-*.html", "0.125")])
def test_a_plugins_metric_is_a_column_of_the_page_of_an_attack(site: Path, pattern: str, value: str) -> None:
    assert f'<td class="num" data-v="{value}">{value} ' in only(site, pattern)


def test_a_plugins_metric_is_a_column_of_the_page_of_a_system(site: Path) -> None:
    page = only(site, "systems/*.html")
    assert '<td class="num">0.25 <span class="ci">0.24\u20130.26</span></td>' in page
    assert '<td class="num">0.125 <span class="ci">0.115\u20130.135</span></td>' in page
    assert 'id="metric"' in (site / "definitions.html").read_text()


def test_a_plugins_metric_is_in_every_download(site: Path) -> None:
    (board,) = csv.DictReader(io.StringIO(only(site, "boards/*.csv")))
    assert [float(board[f"metric calibration_error [nats]{part}"]) for part in ("", " low", " high")] == [
        0.25, 0.24, 0.26,
    ]  # fmt: skip
    tried = csv.DictReader(io.StringIO(only(site, "systems/*-????????.csv")))
    found = {row["attack"]: float(row["metric calibration_error [nats]"]) for row in tried}
    assert found == {"fgsm": 0.25, "pgd": 0.125}
    document = json.loads(only(site, "boards/*.json"))
    assert document["metrics"] == [{"name": "calibration_error", "unit": "nats", "higher_is_better": False}]
    assert "calibration error, nats & 95" in only(site, "boards/*.tex")


def test_a_tracker_gets_the_columns_of_the_csv_file(tmp_path: Path) -> None:
    made_cell(tmp_path, clean=RIGHT, distance=reaching(1), metrics=[measured(0.5)])
    (table,) = report_of(tmp_path, "r").tables
    written = csv.DictReader(io.StringIO(only(tmp_path / "leaderboard", "boards/*.csv")))
    assert list(table.columns) == list(written.fieldnames or ())
    assert dict(zip(table.columns, table.rows[0], strict=True))["metric calibration_error [nats]"] == 0.5


def with_metrics(*metrics: Metric, text: str = "") -> tuple[Leaderboard, dict[str, Record]]:
    leaderboard, records = made_leaderboard(text=text)
    board = leaderboard.boards[0]
    values = {metric: Measured(0.5, 0.25, 0.75) for metric in metrics}

    def having(row: Row) -> Row:
        return replace(row, scores=tuple(replace(score, metrics=values) for score in row.scores if score is not None))

    changed = replace(board, metrics=tuple(metrics), rows=tuple(map(having, board.rows)))
    return replace(leaderboard, boards=(changed,)), records


@pytest.mark.parametrize(
    ("higher", "expected"), [(True, 0.1), (False, 0.9), (None, 0.4)], ids=["higher", "lower", "no direction"]
)
def test_the_row_has_the_value_that_flatters_it_least(higher: bool | None, expected: float) -> None:
    metric = Metric("m", "", higher)
    leaderboard, _ = with_metrics(metric)
    board = leaderboard.boards[0]
    row = board.rows[0]
    values = dict(zip(range(3), (0.9, 0.1, 0.4), strict=True))  # the last attack is the strongest
    scores = tuple(
        replace(score, metrics={metric: Measured(values[at], None, None)})
        for at, score in enumerate(row.scores)
        if score is not None
    )
    (column,) = [c for c in board_columns(board) if c.group == "metrics"]
    assert column.value(replace(row, scores=scores)) == expected
    assert column.span is not None
    assert column.span(replace(row, scores=scores)) == ""


def test_runs_are_averaged_without_overflow_and_units_are_kept_apart() -> None:
    huge = [measured(1.5e308, "x"), measured(1.5e308, "x")]
    other = MetricValue(name="x", value=1.0, low=None, high=None, unit="bits", higher_is_better=None)
    found = metrics_of([*huge, other, measured(0.5, "robust_accuracy")])
    assert {metric.unit: one.value for metric, one in found.items()} == {"nats": 1.5e308, "bits": 1.0}


def test_a_metric_that_calls_itself_a_column_of_the_board_replaces_none() -> None:
    board = with_metrics(Metric("robust_accuracy ", "", True), Metric("system", "", None))[0].boards[0]
    plain = with_metrics()[0].boards[0]
    line = exact_line(board_columns(board), board.rows[0])
    assert line.items() >= exact_line(board_columns(plain), plain.rows[0]).items()


def test_a_page_shows_so_many_metrics_and_the_downloads_all_of_them() -> None:
    metrics = [Metric(f"m{at:02}", "", True) for at in range(METRIC_COLUMNS + 3)]
    leaderboard, records = with_metrics(*metrics)
    path = paths_of(leaderboard).board(leaderboard.boards[0].protocol.key)
    files = dict(render(leaderboard, records))
    assert len(re.findall(r'data-col="m\d+"', files[path])) == METRIC_COLUMNS
    assert f"metric m{METRIC_COLUMNS + 2:02}" in files[path.replace(".html", ".csv")].splitlines()[0]


def test_a_strangers_metric_is_never_markup() -> None:
    nasty = '"><script>alert(1)</script>'
    leaderboard, records = with_metrics(Metric(nasty, nasty, True))
    for path, text in render(leaderboard, records):
        if path.endswith((".html", ".svg", ".xml")):
            assert "<script>alert" not in text, path


def test_every_column_has_one_name_and_one_place() -> None:
    board = with_metrics(Metric("m", "", True))[0].boards[0]
    of_board, of_scores, of_attacks = board_columns(board), score_columns(board.metrics), attack_columns()
    for names in ([c.name for c in of_board], [c.name for c in of_scores], [c.name for c in of_attacks]):
        assert len(names) == len(set(names))
    shown = [column.name for column in on_page(board_columns(board), BOARD_PAGE)]
    assert shown == ["rank", "system", "robust", "strip", "clean", "a1", "a2", "a3", "m1", "attacks"]
