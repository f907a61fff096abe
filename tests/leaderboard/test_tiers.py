"""Tiers on the site: the weakest of a row, the reason of each record, and reviews that cannot be used."""

from pathlib import Path

import pytest
from benchmark_leaderboard.build import build
from benchmark_leaderboard.cells.load import read
from benchmark_leaderboard.review.parcel import Submitter
from benchmark_leaderboard.review.review import REVIEW, ReviewFile, Tier
from benchmark_leaderboard.review.tiers import reviews_of, weakest
from benchmark_leaderboard.site.render import Extras, render

from benchmark.records.document import to_text
from benchmark.records.durable import file_sha256
from tests.leaderboard.made_board import made_leaderboard
from tests.leaderboard.made_records import made_cell
from tests.leaderboard.test_render import NASTY, Page


def review(key: str, tier: Tier, sha256: str = "0" * 64, text: str = "") -> ReviewFile:
    return ReviewFile(
        key=key, tier=tier, why=f"because{text}", submitter=Submitter(name=f"Ann{text}"), record_sha256=sha256,
        checked_with="0.1",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("tiers", "expected"),
    [
        ((), None),
        (("re-run",), "re-run"),
        (("independently attacked", "witness-verified"), "witness-verified"),
        (("re-run", "self-reported", "independently attacked"), "self-reported"),
    ],
)
def test_a_row_has_the_weakest_tier_of_its_submitted_records(tiers: tuple[Tier, ...], expected: Tier | None) -> None:
    row = made_leaderboard()[0].boards[0].rows[0]
    assert weakest(row, {key: review(key, tier) for key, tier in zip(row.keys, tiers, strict=False)}) == expected


def test_the_board_shows_the_tier_and_the_system_its_reasons() -> None:
    leaderboard, records = made_leaderboard(text=NASTY)
    row = leaderboard.boards[0].rows[0]
    files = dict(render(leaderboard, records, Extras(reviews={row.keys[0]: review(row.keys[0], "re-run", text=NASTY)})))
    board = Page(next(text for path, text in files.items() if path.startswith("boards/") and path.endswith(".html")))
    assert board.text.count("re-run") == 2  # the row, and the error budget
    pages = [Page(text) for path, text in files.items() if path.startswith("systems/") and path.endswith(".html")]
    (shown,) = [page for page in pages if "Reviews of submitted records" in page.text]
    assert f"re-run because{NASTY} Ann{NASTY}" in shown.text
    assert shown.tags.count("script") == 1


def test_reviews_are_read_beside_records_and_a_foreign_one_is_named(tmp_path: Path) -> None:
    good = made_cell(tmp_path, clean=[True, True], distance=[0.05, 0.3])
    bad = made_cell(tmp_path, clean=[True, True], distance=[0.05, 0.3], model="cnn")
    sha256 = file_sha256(good / "record.json")
    (good / REVIEW).write_text(to_text(review(good.name, "witness-verified", sha256)))
    (bad / REVIEW).write_text(to_text(review(bad.name, "re-run", sha256)))
    found, problems = reviews_of(read([tmp_path / "cells"])[0])
    assert {key: one.tier for key, one in found.items()} == {good.name: "witness-verified"}
    assert "does not belong to the record.json beside it" in problems[0].sentence
    site = build([tmp_path / "cells"], tmp_path / "site").parent
    assert "does not belong to the record.json" in (site / "index.html").read_text(encoding="utf-8")
