"""From a store to a folder of pages: the same bytes again, all or nothing."""

import re
import shutil
from pathlib import Path

import pytest
from benchmark_leaderboard import build as build_module
from benchmark_leaderboard.build import build, build_single, differences, main

from benchmark.errors import RecordError
from tests.leaderboard.made_records import made_cell, made_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = made_store(tmp_path_factory.mktemp("store"), systems=3, attacks=4, examples=40)
    made_cell(root, clean=[], distance=[], status="failed", error="ValueError: <b>boom</b>", attack="jsma")
    return root


@pytest.fixture(scope="module")
def site(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    page: Path = build([store / "cells"], tmp_path_factory.mktemp("site"))
    return page.parent


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_same_records_give_the_same_bytes(site: Path, store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "elsewhere")
    again = build([tmp_path / "elsewhere" / "cells"], tmp_path / "other" / "name").parent
    assert content(again) == content(site)


def test_every_record_is_copied_as_it_is(site: Path, store: Path) -> None:
    for path in (store / "cells").glob("*/record.json"):
        assert (site / "records" / f"{path.parent.name}.json").read_bytes() == path.read_bytes()


def test_no_path_of_this_machine_gets_into_the_site(site: Path, store: Path) -> None:
    for name, data in content(site).items():
        assert str(store).encode() not in data, name
        assert str(site).encode() not in data, name


def test_every_link_of_the_built_site_leads_somewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        for link in re.findall(r'<a [^>]*href="([^"#]+)', page.read_text(encoding="utf-8")):
            assert link.startswith("https://") or (page.parent / link).is_file(), (page.name, link)


def test_a_failed_cell_is_listed_with_its_reason(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8")
    assert "ValueError: &lt;b&gt;boom&lt;/b&gt;" in text
    assert "jsma" in text


def test_a_site_is_replaced_and_nothing_is_left_beside_it(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "board"
    page = build([store / "cells"], out)
    (out / "old.html").write_text("gone next time")
    assert build([store / "cells"], out) == page == out / "index.html"
    assert not (out / "old.html").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["board"]


def test_somebody_elses_folder_is_not_replaced(store: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RecordError, match="exists and is not a leaderboard site; choose an empty or a new folder"):
        build([store / "cells"], tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_build_that_fails_leaves_the_old_site(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "board"
    build([store / "cells"], out)
    before = content(out)

    def broken(*_: object) -> object:
        raise RuntimeError("no page")

    monkeypatch.setattr(build_module, "render", broken)
    with pytest.raises(RuntimeError, match="no page"):
        build([store / "cells"], out)
    assert content(out) == before
    assert [p.name for p in tmp_path.iterdir()] == ["board"]


def test_the_command_prints_where_the_site_is(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([store / "cells"], tmp_path / "board") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'board' / 'index.html'}\n"


def test_a_check_finds_every_file_that_differs(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = build([store / "cells"], tmp_path / "board").parent
    assert differences([store / "cells"], out) == []
    assert main([store / "cells"], out, check=True) == 0
    (out / "matrix.html").write_text("edited by hand")
    (out / "more.html").write_text("added by hand")
    (out / "index.html").unlink()
    assert differences([store / "cells"], out) == ["index.html", "matrix.html", "more.html"]
    capsys.readouterr()
    assert main([store / "cells"], out, check=True) == 1
    assert "3 files of board do not match these records; build it again\n" in capsys.readouterr().out
    assert (out / "matrix.html").read_text() == "edited by hand"


def test_a_check_without_a_site_builds_in_another_process(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([store / "cells"], tmp_path / "board", check=True) == 0
    assert capsys.readouterr().out == "byte-identical\n"
    assert list(tmp_path.iterdir()) == []


def test_one_file_of_one_board(store: Path, tmp_path: Path) -> None:
    whole = build_single([store / "cells"], tmp_path / "all.html").read_text(encoding="utf-8")
    part = build_single([store / "cells"], tmp_path / "one.html", board="1-10").read_text(encoding="utf-8")
    assert "1/10" in part
    assert len(part) <= len(whole)
    with pytest.raises(RecordError, match=r"no board has 'l7' in its name; known boards: .*1-10"):
        build_single([store / "cells"], tmp_path / "none.html", board="l7")
    with pytest.raises(RecordError, match="is a folder; --single-file writes one file, such as"):
        build_single([store / "cells"], tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all.html", "one.html"]


def test_an_empty_store_gives_a_site_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    page = build([tmp_path / "cells"], tmp_path / "board")
    assert "There is no complete record yet." in page.read_text(encoding="utf-8")
