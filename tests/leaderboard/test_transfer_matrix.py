"""The transfer matrix of a board: the counts that were made, with intervals, as long as their cells stand."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from benchmark_leaderboard.build import build, build_single, differences
from benchmark_leaderboard.cells.retraction import withdraw
from scipy.stats import binomtest

from benchmark.records.arrivals import FOLDER, Arrivals, Pair
from benchmark.records.document import content_key, to_text
from benchmark.records.record import read_record
from tests.leaderboard.made_records import made_cell

N = 60
CLEAN = np.ones(N, dtype=bool)
NONE = "\N{EN DASH}"


def cell(root: Path, broken: int, **changes: object) -> tuple[str, str]:
    """The keys of a new cell and of its system; the first `broken` examples are broken at 1/10."""
    distance = np.where(np.arange(N) < broken, 0.05, np.inf)
    record = read_record(made_cell(root, clean=CLEAN, distance=distance, **{"suite": None, **changes}))  # type: ignore[arg-type]
    return record.key, record.system.key


def counted(root: Path, source: str, target: str, tried: int, transferred: int, *cells: str) -> Path:
    """A file as `benchmark transfer` writes it, with one source."""
    key = content_key([source, target, *cells])
    by_cell = dict.fromkeys(cells, (tried, transferred))
    pair = Pair(source=source, cells=by_cell, witnesses_sha256="", tried=tried, transferred=transferred)
    made = Arrivals(key=key, target=target, weights_sha256="", examples_sha256="", pairs=[pair])
    path = root / FOLDER / f"{key}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(to_text(made), encoding="utf-8")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three systems, the first with two attacks; linear was not tried on small_cnn, and small_cnn broke on nothing."""
    store = tmp_path / "store"
    first, mlp = cell(store, 40)
    second, _ = cell(store, 30, attack="apgd")
    third, linear = cell(store, 20, model="linear")
    fourth, cnn = cell(store, 0, model="small_cnn")
    counted(store, mlp, linear, 40, 13, first, second)
    counted(store, mlp, cnn, 38, 38, first, second)
    counted(store, linear, mlp, 20, 5, third)
    counted(store, cnn, mlp, 0, 0, fourth)
    return store


def site(root: Path, name: str = "site") -> Mapping[str, str]:
    """The pages and tables about transfer, and the front page."""
    out = build([root / "cells"], root.parent / name).parent
    found = {p.name.partition("-transfer")[2]: p.read_text(encoding="utf-8") for p in out.glob("boards/*-transfer.*")}
    return {**found, "index": (out / "index.html").read_text(encoding="utf-8")}


def table(page: str) -> list[list[str]]:
    """The words of the matrix, by row."""
    body = page.partition("<tbody>")[2].partition("</tbody>")[0]
    rows = [re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL) for row in body.split("<tr>")[1:]]
    return [[" ".join(re.sub(r"<[^>]+>", " ", text).split()) for text in row] for row in rows]


def test_the_matrix_shows_what_was_counted_in_the_order_of_the_board(root: Path) -> None:
    assert table(site(root)[".html"]) == [
        ["1 small_ cnn", "100 itself", NONE, NONE],
        ["2 linear", NONE, "100 itself", "25 of 20"],
        ["3 mlp", "100.0 of 38", "32 of 40", "100 itself"],
    ]


def test_shares_have_wilson_intervals_and_colours_by_tenths(root: Path) -> None:
    made = site(root)
    low, high = binomtest(13, 40).proportion_ci(method="wilson")
    said = f"{100 * low:.0f}\N{EN DASH}{100 * high:.0f}"
    assert f'<td class="num q3" title="13 of 40 fool linear; 95 %: {said}' in made[".html"]
    assert '<td class="num q10" title="38 of 38 fool small_cnn' in made[".html"]
    rows = list(csv.DictReader(io.StringIO(made[".csv"])))
    assert [(row["source"], row["target"], row["tried"], row["transferred"]) for row in rows] == [
        ("linear", "mlp", "20", "5"), ("mlp", "small_cnn", "38", "38"), ("mlp", "linear", "40", "13"),
    ]  # fmt: skip
    for row in rows:
        exact = binomtest(int(row["transferred"]), int(row["tried"])).proportion_ci(method="wilson")
        assert float(row["share_low"]) == pytest.approx(exact.low, abs=1e-12)
        assert float(row["share_high"]) == pytest.approx(exact.high, abs=1e-12)


def test_the_page_says_whose_examples_go_furthest(root: Path) -> None:
    assert (
        "Examples made on <strong>mlp</strong> transfer best: they fool the other systems in 51 of 78 cases."
        in site(root)[".html"]
    )


def test_the_site_leads_there_only_if_there_is_something(root: Path, tmp_path: Path) -> None:
    assert re.search(r'<a href="boards/[a-z0-9-]+-transfer\.html">Transfer</a>', site(root)["index"])
    for path in (root / FOLDER).iterdir():
        path.unlink()
    without = site(root, "without")
    assert set(without) == {"index"}
    assert "Transfer</a>" not in without["index"]


def test_the_same_counts_give_the_same_bytes(root: Path, tmp_path: Path) -> None:
    out = build([root / "cells"], tmp_path / "site").parent
    elsewhere = tmp_path / "elsewhere"
    root.rename(elsewhere)
    paths = sorted((elsewhere / FOLDER).iterdir())
    texts = [path.read_bytes() for path in paths]
    for path in paths:
        path.unlink()
    for path, text in reversed(list(zip(paths, texts, strict=True))):
        path.write_bytes(text)
    assert differences([elsewhere / "cells"], out) == []
    assert differences([elsewhere], out) == []  # the folder of the store instead of that of its cells


def test_published_results_have_the_counts_beside_their_cells(root: Path, tmp_path: Path) -> None:
    out = build([root / "cells"], tmp_path / "site").parent
    (root / "cells").rename(tmp_path / "suite")
    (root / FOLDER).rename(tmp_path / "suite" / FOLDER)
    assert differences([tmp_path / "suite"], out) == []


def test_counts_fall_with_the_cells_that_they_were_made_from(root: Path) -> None:
    (linear,) = [p.parent for p in root.glob("cells/*/record.json") if read_record(p).system.model == "linear"]
    withdraw(linear, "measured on the wrong split")
    assert table(site(root)[".html"]) == [
        ["1 mlp", "100 itself", "100.0 of 38"],
        ["2 small_ cnn", NONE, "100 itself"],
    ]


def test_counts_before_the_latest_attack_say_so(root: Path) -> None:
    assert "measured before" not in site(root)[".html"]
    cell(root, 35, attack="square", access="scores")
    cell(root, 50, access="transfer", surrogate="0" * 24)  # was not made on the system that it breaks
    page = site(root)[".html"]
    assert (
        "2 pairs were measured before the latest attacks on their systems; update them with <code>benchmark "
        "transfer</code>" in page
    )
    assert table(page)[2] == ["3 mlp", "100.0 of 38", "32 of 40", "100 itself"]


def test_every_training_run_is_a_system_of_its_own(root: Path) -> None:
    again, second = cell(root, 20, model="linear", seed=1)
    mlp = next(r.system.key for p in root.glob("cells/*/record.json") if (r := read_record(p)).system.model == "mlp")
    counted(root, second, mlp, 20, 9, again)
    rows = table(site(root)[".html"])
    assert [row[0] for row in rows] == ["1 small_ cnn", "2 linear, seed 0", "3 linear, seed 1", "4 mlp"]
    assert [row[4] for row in rows] == [NONE, "25 of 20", "45 of 20", "100 itself"]


def test_a_file_that_is_no_count_is_listed_and_the_rest_is_shown(root: Path) -> None:
    path = next(iter(sorted((root / FOLDER).iterdir())))
    impossible = re.sub(r'"transferred": \d+', '"transferred": 99', path.read_text(encoding="utf-8"))
    path.write_text(impossible, encoding="utf-8")
    (root / FOLDER / f"{'0' * 24}.json").write_text('{"key": NaN}', encoding="utf-8")
    made = site(root)
    for name in (path.name, f"{'0' * 24}.json"):
        assert f"transfer/{name} is not a transfer count; recompute it with benchmark transfer" in made["index"]
    assert made[".html"].count("itself</span>") == 3


def test_a_label_of_a_stranger_is_text(root: Path) -> None:
    key, evil = cell(root, 10, model='<script>"x"</script>')
    mlp = next(r.system.key for p in root.glob("cells/*/record.json") if (r := read_record(p)).system.model == "mlp")
    counted(root, evil, mlp, 10, 10, key)
    made = site(root)
    assert '<script>"x"' not in made[".html"]
    assert "transfer best" in made[".html"]
    assert "&lt;script&gt;&#34;x&#34;&lt;/script&gt;" in made[".html"]


def test_a_large_board_shows_its_first_systems_and_has_all_in_the_download(tmp_path: Path) -> None:
    store = tmp_path / "store"
    made = [cell(store, 10 + at, model_params={"width": at}) for at in range(30)]
    for key, source in made:
        for _, target in made:
            if source != target:
                counted(store, source, target, 10, 3, key)
    page = site(store)
    assert len(table(page[".html"])) == 24
    assert "The page shows the first 24 systems of the board; 6 more are in the download." in page[".html"]
    assert page[".csv"].count("\n") == 30 * 29 + 1
    assert len(page[".html"].encode()) < 300_000


def test_the_one_file_has_it_too(root: Path, tmp_path: Path) -> None:
    text = build_single([root / "cells"], tmp_path / "one.html").read_text(encoding="utf-8")
    assert "13 of 40 fool linear" in text
