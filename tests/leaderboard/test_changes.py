"""Changes between two releases, with the reasons that records give."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
from benchmark_leaderboard.board import Leaderboard
from benchmark_leaderboard.build import build, differences, main
from benchmark_leaderboard.cells.load import read
from benchmark_leaderboard.cells.retraction import withdraw
from benchmark_leaderboard.ranking.aggregate import aggregate
from benchmark_leaderboard.ranking.changes import changes, tally
from benchmark_leaderboard.site.render import Extras, render

from tests.leaderboard.made_board import made_leaderboard
from tests.leaderboard.made_records import made_cell
from tests.leaderboard.test_render import NASTY, Page

N = 40


def cell(root: Path, model: str, attack: str, broken: int, eps: str = "1/10") -> Path:
    distance = [0.05 if at < broken else 0.5 for at in range(N)]
    return made_cell(root, clean=[True] * N, distance=distance, model=model, attack=attack, eps=eps)


def state(root: Path) -> Leaderboard:
    return aggregate(*read([root / "cells"]))


@pytest.fixture
def releases(tmp_path: Path) -> tuple[Path, Path]:
    before, now = tmp_path / "before", tmp_path / "now"
    for root in (before, now):
        cell(root, "mlp", "fgsm", 4)
        cell(root, "cnn", "fgsm", 30)
    cell(before, "old", "fgsm", 39)
    cell(now, "mlp", "pgd", 9)
    cell(now, "new", "fgsm", 20)
    return before, now


def test_nothing_moves_between_equal_releases(releases: tuple[Path, Path]) -> None:
    assert changes(state(releases[0]), state(releases[0])) == []


def test_each_row_that_moved_has_its_reason(releases: tuple[Path, Path]) -> None:
    (found,) = changes(state(releases[0]), state(releases[1]))
    told = {change.label: change for change in found.rows}
    assert told["mlp"].why == ("new records: pgd",)
    assert told["new"].why == ("new system",)
    assert told["old"].why == ("its records are no longer among the results",)
    mlp = told["mlp"]
    assert mlp.before is not None
    assert mlp.now is not None
    assert (mlp.before.robust.count, mlp.now.robust.count) == (36, 31)
    assert told["cnn"].why == ("other systems changed",)
    assert found.state == ""


def test_withdrawn_records_and_boards_are_named(releases: tuple[Path, Path], tmp_path: Path) -> None:
    (found,) = changes(state(releases[1]), state(releases[0]))
    told = {change.label: change.why for change in found.rows}
    assert told["mlp"] == ("records withdrawn or replaced: pgd",)
    cell(tmp_path / "other", "mlp", "fgsm", 4, eps="1/5")
    new, gone = changes(state(releases[0]), state(tmp_path / "other"))
    assert [(of.state, of.board.protocol.eps_exact) for of in (new, gone)] == [("new", "1/5"), ("gone", "1/10")]
    assert all(change.now is None for change in gone.rows)


def test_a_withdrawal_gives_its_reason(releases: tuple[Path, Path], tmp_path: Path) -> None:
    before = state(releases[1])
    withdraw(cell(releases[1], "mlp", "pgd", 9), "a bug in <b>pgd</b>")
    withdraw(cell(releases[1], "new", "fgsm", 20), "trained on the test split")
    now = state(releases[1])
    (found,) = changes(before, now)
    told = {change.label: change.why for change in found.rows}
    assert told["mlp"] == ("records withdrawn or replaced: pgd (a bug in <b>pgd</b>)",)
    assert told["new"] == ("its records were withdrawn: trained on the test split",)
    counted = tally(before, now)
    assert (counted.added, counted.gone) == (0, 2)
    assert sorted(one.reason for one in counted.withdrawn) == ["a bug in <b>pgd</b>", "trained on the test split"]
    site = build([releases[1] / "cells"], tmp_path / "site", [releases[0] / "cells"]).parent
    text = (site / "changes.html").read_text(encoding="utf-8")
    assert "0 records added since then, 1 record removed." in text  # old: the two that were withdrawn came after it
    assert "<b>pgd</b>" not in text


def test_the_page_and_its_table_say_the_same(releases: tuple[Path, Path], tmp_path: Path) -> None:
    before, now = releases
    results, since = [now / "cells"], [before / "cells"]
    site = build(results, tmp_path / "site", since).parent
    page = Page((site / "changes.html").read_text(encoding="utf-8"))
    lines = list(csv.DictReader(io.StringIO((site / "changes.csv").read_text(encoding="utf-8"))))
    for line in lines:
        assert f"{line['system']} " in page.text
        assert line["why"] in page.text
    assert "\u221212.5" in page.text  # from 36 of 40 to 31
    assert not (build(results, tmp_path / "plain").parent / "changes.html").exists()
    assert differences(results, site, since) == []
    assert "changes.html" in differences(results, site)
    assert main(results, site, check=True, since=since) == 0


def test_strangers_text_is_never_markup_there() -> None:
    leaderboard, records = made_leaderboard(text=NASTY)
    board = leaderboard.boards[0]
    ranks = board.rows[0].ranks
    assert ranks is not None
    row = replace(board.rows[0], ranks=replace(ranks, high=3))
    before = replace(leaderboard, boards=(replace(board, rows=(row, *board.rows[1:])),))
    page = Page(dict(render(leaderboard, records, Extras(before=before)))["changes.html"])
    assert page.tags.count("script") == 1
    assert not page.bad
    assert "<script>alert(1)</script>" in page.text
    assert "other systems changed" in page.text
