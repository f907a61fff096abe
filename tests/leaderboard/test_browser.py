"""The site in a real browser without a network: its script, and axe-core's look at every kind of page."""

import json
import os
import re
from collections.abc import Iterable
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from benchmark_leaderboard.board import Leaderboard
from benchmark_leaderboard.build import build, build_single
from benchmark_leaderboard.cells.load import read
from benchmark_leaderboard.cells.retraction import withdraw
from benchmark_leaderboard.ranking.aggregate import aggregate
from benchmark_leaderboard.site.render import board_names

from benchmark.records.arrivals import FOLDER, Arrivals, Pair
from benchmark.records.document import to_text
from tests.leaderboard.browser import CHROMIUM, dump
from tests.leaderboard.made_records import made_cell, made_store

AXE = Path(os.environ.get("AXE_CORE", "node_modules/axe-core/axe.min.js"))

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = made_store(tmp_path_factory.mktemp("store"), systems=3, attacks=4, examples=40)
    made_cell(root, clean=[], distance=[], status="failed", error="ValueError: <b>boom</b>", attack="jsma")
    for severity in range(1, 6):
        made_cell(root, clean=[True] * 40, distance=[0.05] * 4 * severity + [np.inf] * (40 - 4 * severity), eps="1",
                  attack="corruption", params={"kind": "fog", "severity": severity})  # fmt: skip
    wrong = made_cell(
        root, clean=[True] * 40, distance=[np.inf] * 40, attack="ead", model="linear", model_params={"width": 8}
    )
    withdraw(wrong, "a bug in <b>the attack</b>")
    exchanged(root)
    return root


def exchanged(root: Path) -> None:
    """Write what `benchmark transfer` could have counted from the first system of the first board to the second."""
    first, second = aggregate(*read([root / "cells"])).boards[0].rows[:2]
    source, target = first.runs[0].system_key, second.runs[0].system_key
    pair = Pair(source=source, cells=dict.fromkeys(first.keys, (9, 4)), witnesses_sha256="", tried=20, transferred=9)
    made = Arrivals(key="0" * 24, target=target, weights_sha256="", examples_sha256="", pairs=[pair])
    (root / FOLDER).mkdir()
    (root / FOLDER / f"{made.key}.json").write_text(to_text(made), encoding="utf-8")


@pytest.fixture(scope="module")
def leaderboard(store: Path) -> Leaderboard:
    return aggregate(*read([store / "cells"]))


@pytest.fixture(scope="module")
def site(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    before = made_store(tmp_path_factory.mktemp("before"), systems=2, attacks=3, examples=40)
    page: Path = build([store / "cells"], tmp_path_factory.mktemp("site"), [before / "cells"])
    return page.parent


def board_page(site: Path, leaderboard: Leaderboard, kind: str = "") -> Path:
    """The page of the first board, or the one of that kind beside it."""
    names = board_names(leaderboard)
    return site / "boards" / f"{names[leaderboard.boards[0].protocol.key]}{kind}.html"


def ids(page: Path) -> list[str]:
    return re.findall(r'<tr id="(\w+)"', page.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("", r'<output aria-live="polite">3 rows</output>'),
        ("#sort=system,desc", r'data-col="system"[^>]*aria-sort="descending"'),
        ("#q=small_cnn", r'<output aria-live="polite">1 of 3 rows</output>'),
        ("#cmp=FIRST,SECOND", r"<h2>Two systems side by side</h2>"),
        ("#hide=clean,attacks", r'data-col="clean"[^>]*hidden=""'),
    ],
)
def test_the_page_restores_the_view_of_its_address(
    site: Path, leaderboard: Leaderboard, tmp_path: Path, state: str, expected: str
) -> None:
    page = board_page(site, leaderboard)
    first, second = ids(page)[:2]
    address = page.as_uri() + state.replace("FIRST", first).replace("SECOND", second)
    assert re.search(expected, dump(address, tmp_path))


def test_a_comparison_says_what_the_paired_test_said(site: Path, leaderboard: Leaderboard, tmp_path: Path) -> None:
    board = leaderboard.boards[0]
    page = board_page(site, leaderboard)
    shown = ids(page)
    seen = dump(f"{page.as_uri()}#cmp={shown[0]},{shown[2]}&sort=clean,asc", tmp_path)
    wins, p = board.pairs.wins, board.pairs.adjusted
    other = board.rows[2].label
    assert f"is robust on {wins[0, 2]} examples on which {other} is not, and not robust on {wins[2, 0]} on" in seen
    assert ("p &lt; 0.001" if p[0, 2] < 0.001 else f"p = {float(f'{p[0, 2]:.2g}'):g}") in seen
    assert re.search(r'href="[^"]*-compare\.html#cmp=\w+,\w+">Comparison by example<', seen)


def test_two_systems_example_by_example(site: Path, leaderboard: Leaderboard, tmp_path: Path) -> None:
    board = leaderboard.boards[0]
    page = board_page(site, leaderboard, "-compare")
    shown = ids(board_page(site, leaderboard))
    seen = unescape(dump(f"{page.as_uri()}#cmp={shown[2]},{shown[0]}", tmp_path))
    total = board.protocol.conditions.total
    third, first = (np.unpackbits(np.frombuffer(board.rows[at].runs[0].held, np.uint8))[:total] == 1 for at in (2, 0))
    cells = [int(text) for text in re.findall(r'<td class="num">(\d+)</td>', seen.split("data-duel-place")[-1])[:4]]
    assert cells == [(third & first).sum(), (third & ~first).sum(), (first & ~third).sum(), (~third & ~first).sum()]
    for one, other, name in ((third, first, board.rows[2].label), (first, third, board.rows[0].label)):
        places = ", ".join(map(str, np.flatnonzero(one & ~other)))
        said = f"Positions in the example list, from 0: {places}." if places else "No example."
        assert f'>Robust for {name} only</h3><p class="places note">{said}</p>' in seen


def test_systems_with_several_runs_are_compared_over_all_pairs_of_runs(tmp_path: Path) -> None:
    store = made_store(tmp_path, systems=2, attacks=3, examples=40, seeds=2)
    leaderboard = aggregate(*read([store / "cells"]))
    site = build([store / "cells"], tmp_path / "site").parent
    board = leaderboard.boards[0]
    seen = unescape(dump(board_page(site, leaderboard, "-compare").as_uri(), tmp_path / "profile"))
    p, q = (
        np.mean(
            [np.unpackbits(np.frombuffer(run.held, np.uint8))[: board.protocol.conditions.total] for run in row.runs],
            axis=0,
        )
        for row in board.rows
    )
    cells = [
        float(text) for text in re.findall(r'<td class="num">([\d.]+)</td>', seen.split("data-duel-place")[-1])[:4]
    ]
    assert cells == pytest.approx(
        [(p * q).sum(), (p * (1 - q)).sum(), (q * (1 - p)).sum(), ((1 - p) * (1 - q)).sum()], abs=0.051
    )
    assert sum(cells) == pytest.approx(board.protocol.conditions.total, abs=0.2)
    assert "means over all pairs of runs" in seen


def test_the_strongest_attack_within_a_number_of_passes_is_marked(site: Path, tmp_path: Path) -> None:
    page = (site / "attacks.html").read_text(encoding="utf-8")
    page = page.replace('data-passes="20.0"', 'data-passes="21.0"', 1)  # the first is the strongest of its board
    (site / "costly.html").write_text(page, encoding="utf-8")
    lines = re.findall(r'data-board="([^"]+)"[^>]*data-passes="([^"]+)" data-success="([^"]+)"', page)
    seen = dump((site / "costly.html").as_uri() + "#passes=20", tmp_path / "profile")
    row = r'<tr data-board="([^"]+)"[^>]*data-passes="([^"]+)" data-success="([^"]+)"([^>]*)>(.*?)</tr>'
    rows = re.findall(row, seen)
    assert len(rows) == len(lines)
    assert all(("hidden" in rest) == (float(passes) > 20) for _, passes, _, rest, _ in rows)
    marked = {(of, success) for of, _, success, _, cells in rows if 'data-best="">' in cells}
    affordable = [(of, float(success)) for of, passes, success in lines if float(passes) <= 20]
    assert 0 < len(affordable) < len(lines)
    assert marked == {(of, str(max(s for b, s in affordable if b == of))) for of, _ in affordable}


def every_kind(site: Path) -> Iterable[Path]:
    """One page of each kind."""
    yield from (
        site / name for name in ("index.html", "matrix.html", "systems.html", "attacks.html", "definitions.html")
    )
    boards = sorted((site / "boards").glob("*.html"), key=lambda path: (len(path.name), path.name))
    yield boards[0]
    yield next(path for path in boards if path.name.endswith("-matrix.html"))
    yield next(path for path in boards if path.name.endswith("-compare.html"))
    yield next(path for path in boards if path.name.endswith("-transfer.html"))
    yield next(path for path in boards if "Mean corruption" in path.read_text(encoding="utf-8"))
    yield site / "changes.html"
    yield site / "published.html"
    yield next(path for path in (site / "systems").glob("*.html") if "retracted" in path.read_text(encoding="utf-8"))
    yield min((site / "systems").glob("*.html"))
    yield min((site / "attacks").glob("*.html"))
    yield min((site / "published").glob("*.html"))


@pytest.mark.skipif(not AXE.is_file(), reason="no axe-core: npm install --no-save axe-core")
@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_axe_finds_nothing_to_complain_about(site: Path, store: Path, tmp_path: Path, colours: str, width: int) -> None:
    single = build_single([store / "cells"], tmp_path / "single.html")
    frames = []
    for at, page in enumerate([*every_kind(site), single]):
        text = page.read_text(encoding="utf-8")
        text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
        text = text.replace('<html lang="en">', f'<html lang="en" data-theme="{colours}">')
        text = text.replace("</body>", f"<script>{AXE.read_text(encoding='utf-8')}</script></body>")
        copy = tmp_path / f"{at}.html"
        copy.write_text(text, encoding="utf-8")
        frames.append((copy.name, page.name))
        if shown := ids(page)[:2]:
            frames.append((f"{copy.name}#cmp={','.join(shown)}&hide=clean", f"{page.name}, two compared"))
    harness = tmp_path / "harness.html"
    harness.write_text(
        f"<!doctype html><body><script>{HARNESS}look({json.dumps(frames)}, {width});</script></body>", encoding="utf-8"
    )
    flags = ("--allow-file-access-from-files", "--window-size=1300,2000", "--timeout=90000")
    seen = dump(harness.as_uri(), tmp_path / "profile", *flags)
    found = json.loads(unescape(seen.split('<pre id="found">')[1].split("</pre>")[0]))
    assert [name for name, _ in found] == [name for _, name in frames]
    complaints = "\n".join(f"{name}: {problem}" for name, problems in found for problem in problems)
    assert not complaints, complaints


HARNESS = """
async function look(pages, width) {
  const found = [];
  for (const [file, name] of pages) {
    const frame = document.createElement("iframe");
    frame.style.cssText = "border:0;height:1500px;width:" + width + "px";
    const ready = new Promise((done) => { frame.onload = done; });
    frame.src = file;
    document.body.appendChild(frame);
    await ready;
    const axe = frame.contentWindow.axe;
    const result = await axe.run(frame.contentDocument, { resultTypes: ["violations"] });
    found.push([name, result.violations.map((v) => v.id + " (" + v.impact + "): " +
      v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160) + " " + (n.any[0] ? n.any[0].message : "")).join(" | "))]);
    frame.remove();
  }
  const pre = document.createElement("pre");
  pre.id = "found";
  pre.textContent = JSON.stringify(found);
  document.body.appendChild(pre);
}
"""
