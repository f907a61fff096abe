"""The site in one file: no link leaves it, no id stands twice, nothing of a stranger becomes markup."""

import base64
import re

import pytest
from benchmark_leaderboard.site import single
from benchmark_leaderboard.site.render import render
from benchmark_leaderboard.site.single import single_file

from tests.leaderboard.made_board import made_leaderboard
from tests.leaderboard.test_render import NASTY, Page


def test_every_page_is_in_the_file_and_every_link_stays_in_it() -> None:
    leaderboard, records = made_leaderboard()
    page = Page(single_file(leaderboard, records))
    pages = [path for path in dict(render(leaderboard, records)) if path.endswith(".html")]
    assert page.tags.count("article") == len(pages)
    assert page.tags.count("main") == 1
    assert not page.open
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        assert link.startswith("data:text/csv;base64,") or link[1:] in page.ids, link
    assert not page.bad
    assert all(load.startswith("data:") for load in page.loads)


def test_the_tables_for_download_are_those_of_the_site_each_once() -> None:
    leaderboard, records = made_leaderboard()
    files = dict(render(leaderboard, records))
    found = [link for link in Page(single_file(leaderboard, records)).links if link.startswith("data:")]
    tables = [base64.b64decode(link.partition(",")[2]).decode() for link in found]
    assert sorted(tables) == sorted(
        text for path, text in files.items() if path.endswith(".csv") and "dataset/" not in path
    )


def test_tables_beyond_the_budget_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single, "DOWNLOAD_BYTES", 700)
    leaderboard, records = made_leaderboard()
    found = [link for link in Page(single_file(leaderboard, records)).links if link.startswith("data:")]
    assert sum(len(base64.b64decode(link.partition(",")[2])) for link in found) <= 700
    tables = [path for path, _ in render(leaderboard, records) if path.endswith(".csv")]
    assert 0 < len(found) < len(tables)


def test_text_of_strangers_stays_text_in_the_one_file() -> None:
    leaderboard, records = made_leaderboard(text=NASTY + '<a href="https://example.org">x</a> id="main"')
    page = Page(single_file(leaderboard, records))
    assert page.tags.count("script") == 1
    assert "img" not in page.tags
    assert not page.bad
    assert not [link for link in page.links if "example.org" in link]
    assert '<a href="https://example.org">x</a> id="main"' in page.text


def test_regions_have_different_names() -> None:
    leaderboard, records = made_leaderboard()
    names = re.findall(r'role="region" aria-label="([^"]*)"', single_file(leaderboard, records))
    assert len(names) == len(set(names))
