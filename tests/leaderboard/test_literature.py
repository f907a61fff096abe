"""Published numbers on the site: beside measured rows, marked, in no rank, and escaped like everything else."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from benchmark_leaderboard.literature.literature import beside, listing_table, listings, place, range_of, share
from benchmark_leaderboard.literature.published_numbers import (
    Entry,
    Number,
    PublishedProtocol,
    Source,
    load_published,
    read_reported,
)
from benchmark_leaderboard.site.render import Extras, render

from benchmark.errors import RecordError
from tests.leaderboard.made_board import made_leaderboard
from tests.leaderboard.test_render import NASTY, Page


def number(metric: str, value: float, total: int | None = None, attack: str = "", **more: str) -> Number:
    count = round(value * total) if total else None
    return Number.model_validate(
        {"metric": metric, "value": value, "attack": attack, "count": count, "total": total, **more}
    )


def entry(name: str, robust: float, total: int | None, text: str = "") -> Entry:
    numbers = (number("clean_accuracy", 0.95), number("robust_accuracy", robust, total, f"autoattack{text}"))
    return Entry(
        system=name + text, protocol="p", numbers=numbers, url="https://example.org/paper", venue=f"V{text}",
        flags=(f"odd{text}",) if text else (), architecture=text,
    )  # fmt: skip


def source(text: str = "", eps: str = "2/20", total: int | None = 1000) -> Source:
    protocol = PublishedProtocol(dataset=f"digits{text}", norm="linf", eps_exact=eps, description=f"how{text}")
    entries = (entry("worse", 0.25, total, text), entry("best", 0.75, total, text), entry("good", 0.72, total, text))
    return Source(
        key="made", title=f"Made{text}", authors=f"A{text}", year=2020, note=f"note{text}", licence=text,
        retrieved=text, protocols={"p": protocol}, entries=entries,
    )  # fmt: skip


def test_entries_stand_by_value_with_ranks_of_unpaired_tests() -> None:
    (listing,) = listings(source())
    assert [(line.entry.system, line.rank) for line in listing.lines] == [
        ("best", "1\u20132"), ("good", "1\u20132"), ("worse", "3"),
    ]  # fmt: skip
    assert listing.columns == ("clean accuracy", "robust accuracy, autoattack")
    assert (listing.alike, listing.neighbours) == (1, 2)
    assert place(listing) == "digits, L\u221e \u2264 2/20"


def test_without_counts_there_is_no_rank_and_the_order_is_that_of_the_source() -> None:
    (listing,) = listings(source(total=None))
    assert [(line.entry.system, line.rank) for line in listing.lines] == [("worse", ""), ("best", ""), ("good", "")]
    assert listing.neighbours == 0


def test_a_number_keeps_the_digits_that_its_source_printed() -> None:
    assert [share(number("attack_success", value)) for value in (0.9589, 0.005, 0.98, 1.0)] == [
        "95.89",
        "0.5",
        "98",
        "100",
    ]
    assert range_of(number("robust_accuracy", 0.98)) == ""
    assert share(number("robust_accuracy", 0.7107, 10_000)) == "71.1"
    assert range_of(number("robust_accuracy", 0.5, 1000)) == "46.9\u201353.1"


def test_only_the_same_data_set_norm_and_radius_stand_beside_a_board() -> None:
    board = made_leaderboard()[0].boards[0]
    (found,) = beside(board, [source(), source(eps="1/5"), source(text="x")])
    assert [line.entry.system for line in found.lines] == ["best", "good", "worse"]
    values = {name: of.value if of else None for name, of in found.lines[0].by_column.items()}
    assert values == {"robust": 0.75, "clean": 0.95, "claimed": None}
    conditions = replace(board.protocol.conditions, norm="l2")
    other = replace(board, protocol=replace(board.protocol, conditions=conditions))
    assert beside(other, [source()]) == []


def test_published_numbers_change_no_row_of_a_board_and_are_marked() -> None:
    leaderboard, records = made_leaderboard()
    plain = dict(render(leaderboard, records))
    files = dict(render(leaderboard, records, Extras(published=[source()])))
    boards = [path for path in plain if path.startswith("boards/")]
    for path in boards:
        if not path.endswith(".html"):
            assert files[path] == plain[path]
    measured, shown = (_rows(next(site[path] for path in boards if path.endswith(".html"))) for site in (plain, files))
    assert [re.sub(r' data-origin="measured"', "", row) for row in shown[: len(measured)]] == measured
    reported = shown[len(measured) :]
    assert [re.search(r">(best|good|worse)<", row)[1] for row in reported] == ["best", "good", "worse"]  # type: ignore[index]
    for row in reported:
        assert '<span class="flag">reported</span>' in row
        assert row.count("<td") == measured[0].count("<td")
    assert "published.html" not in plain


def test_a_reported_row_has_the_authors_own_figure_under_claimed_and_what_is_known_of_the_system() -> None:
    leaderboard, records = made_leaderboard()
    of = source()
    own = Number.model_validate({"metric": "robust_accuracy", "value": 0.9, "settings": {"by": "authors"}})
    best = of.entries[1].model_copy(
        update={
            "numbers": (*of.entries[1].numbers, own), "architecture": "WideResNet-28-10", "parameters": 36479194,
            "title": "A paper", "flags": ("additional data",),
        }
    )  # fmt: skip
    of = of.model_copy(update={"entries": (best,)})
    files = dict(render(leaderboard, records, Extras(published=[of])))
    page = next(text for path, text in files.items() if path.startswith("boards/") and path.endswith(".html"))
    assert ">Claimed</span></th>" in page
    row = _rows(page)[-1]
    for text in ("90", "75.0", "WideResNet-28-10", "36\u202f479\u202f194 parameters", "A paper", "additional data"):
        assert text in row, text


def test_a_board_takes_reported_rows_from_the_folder_beside_its_results(tmp_path: Path) -> None:
    folder = tmp_path / "reported"
    folder.mkdir()
    (folder / "made.json").write_text(source().model_dump_json(), encoding="utf-8")
    assert read_reported([tmp_path, tmp_path / "none"]) == (source(),)
    (folder / "robustbench.json").write_text(source().model_copy(update={"key": "robustbench"}).model_dump_json())
    with pytest.raises(RecordError, match=r"robustbench\.json has the key of another source, 'RobustBench"):
        read_reported([tmp_path])
    (folder / "robustbench.json").unlink()
    (folder / "made.json").write_text(source(text=NASTY).model_dump_json(), encoding="utf-8")
    with pytest.raises(RecordError, match=r"made\.json"):
        read_reported([tmp_path])


def _rows(page: str) -> list[str]:
    """Rows of the main table of a board."""
    found = re.search(r'<table id="main".*?<tbody>(.*?)</tbody>', page, re.DOTALL)
    assert found is not None
    return re.findall(r"<tr .*?</tr>", found[1], re.DOTALL)


def test_strangers_text_in_a_source_is_never_markup() -> None:
    leaderboard, records = made_leaderboard()
    files = dict(render(leaderboard, records, Extras(published=[source(text=NASTY)])))
    for path in (path for path in files if path.startswith("published") and path.endswith(".html")):
        page = Page(files[path])
        assert page.tags.count("script") == 1
        assert "img" not in page.tags
        assert not page.bad
        assert "<script>alert(1)</script>" in page.text
        assert not page.open
        assert len(page.ids) == len(set(page.ids))


def test_links_leave_the_site_only_for_https_and_say_so() -> None:
    leaderboard, records = made_leaderboard()
    files = dict(render(leaderboard, records, Extras(published=[source()])))
    for path, text in files.items():
        if path.endswith(".html"):
            away = re.findall(r'<a href="(\w+:[^"]*)"([^>]*)>', text)
            assert all(link.startswith("https://") and "noreferrer" in rest for link, rest in away), path


def test_the_download_has_a_line_for_every_number() -> None:
    of = source()
    (listing,) = listings(of)
    rows = listing_table(of, listing).rows
    assert len(rows) == 6
    assert {row["value"] for row in rows} == {0.95, 0.25, 0.72, 0.75}


def test_the_published_numbers_that_come_with_the_package_fit_on_pages() -> None:
    leaderboard, records = made_leaderboard()
    files = dict(render(leaderboard, records, Extras(published=load_published())))
    pages = {path: text for path, text in files.items() if path.startswith("published/") and path.endswith(".html")}
    assert len(pages) == len(load_published())
    for path, text in pages.items():
        assert len(text.encode()) < 300_000, path
    robustbench = next(path for path in pages if "robustbench" in path)
    lines = list(
        csv.DictReader(
            io.StringIO(
                next(t for p, t in files.items() if p.endswith(".csv") and "cifar10-linf" in p and "robustbench" in p)
            )
        )
    )
    assert len({line["system"] for line in lines}) == 99
    assert "Rank" in pages[robustbench]


@pytest.mark.parametrize("unsafe", ["http://example.org", "javascript:alert(1)", "https://a b"])
def test_a_source_has_no_other_links(unsafe: str) -> None:
    with pytest.raises(ValueError, match="url"):
        Source.model_validate({**source().model_dump(), "url": unsafe})
