"""Pages: complete without a script, nothing fetched, every link leads somewhere, strangers' text stays text."""

import base64
import csv
import hashlib
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from posixpath import dirname, join, normpath

import pytest
from benchmark_leaderboard.board import Leaderboard, Optimality, Rate, Resolution
from benchmark_leaderboard.cells.load import read
from benchmark_leaderboard.ranking.aggregate import aggregate
from benchmark_leaderboard.site.columns import BOARD_ATTACKS
from benchmark_leaderboard.site.paths import paths_of, record_path
from benchmark_leaderboard.site.render import MATRIX_CELLS, render
from benchmark_leaderboard.words.display import interval, percent
from benchmark_leaderboard.words.downloads import as_csv, as_json
from benchmark_leaderboard.words.wording import answer, breakable, commands, needed, resolution, slug

from tests.leaderboard.made_board import made_leaderboard
from tests.leaderboard.made_records import made_store

NASTY = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}"
VOID = {"meta", "link", "img", "br", "input", "hr", "wbr"}


class Page(HTMLParser):
    """The parts of a page that tests look at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.bad: list[str] = []
        self.open: list[str] = []
        self.policy = ""
        self.sources: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        if "id" in named:
            self.ids.append(named["id"])
        if tag == "a":
            self.links.append(named["href"])
        self.loads += [named[n] for n in ("src", "srcset", "data") if n in named]
        if tag == "link":
            (self.links if named["rel"] == "alternate" else self.loads).append(named["href"])
        if named.get("http-equiv") == "Content-Security-Policy":
            self.policy = named["content"]
        self.bad += [name for name in named if name.startswith("on") or name == "style"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("style", "script"):
            self.sources[self.open[-1]] = self.sources.get(self.open[-1], "") + data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def site(systems: int = 3, attacks: int = 3, text: str = "") -> dict[str, str]:
    leaderboard, records = made_leaderboard(systems, attacks, text)
    files = dict(render(leaderboard, records))
    return files | {record_path(key): "{}" for key in records} | {record_path("f" * 24): "{}"}


def pages(files: dict[str, str]) -> dict[str, Page]:
    return {path: Page(text) for path, text in files.items() if path.endswith(".html")}


@pytest.fixture(scope="module")
def plain() -> dict[str, str]:
    return site()


def test_pages_are_well_formed_and_ids_are_unique(plain: dict[str, str]) -> None:
    for path, page in pages(plain).items():
        assert not page.open, path
        assert len(page.ids) == len(set(page.ids)), path
        assert page.tags.count("h1") == 1, path
        assert page.tags.count("main") == 1, path


def test_every_link_leads_to_a_file_of_the_site_and_to_an_id_on_it(plain: dict[str, str]) -> None:
    parsed = pages(plain)
    for path, page in parsed.items():
        for link in page.links:
            target, _, anchor = link.partition("#")
            reached = normpath(join(dirname(path), target)) if target else path
            assert reached in plain, (path, link)
            assert not anchor or anchor in parsed[reached].ids, (path, link)


def test_nothing_is_fetched_and_the_policy_names_exactly_what_runs(plain: dict[str, str]) -> None:
    for path, page in pages(plain).items():
        assert all(load.startswith("data:") for load in page.loads), path
        assert page.policy.startswith("default-src 'none'; ")
        for tag in ("style", "script"):
            assert page.tags.count(tag) == 1, path
            digest = base64.b64encode(hashlib.sha256(page.sources[tag].encode()).digest()).decode()
            assert f"{tag}-src 'sha256-{digest}'" in page.policy
        assert not page.bad, path
        assert "unsafe" not in page.policy
        outside = re.sub(r"xmlns='http://www\.w3\.org/2000/svg'", "", plain[path])
        assert "http://" not in outside, path


def test_dark_colours_are_for_screens_and_never_for_paper(plain: dict[str, str]) -> None:
    style = pages(plain)["index.html"].sources["style"]
    depth, begun, dark = 0, 0, []
    for at, sign in enumerate(style):
        depth += (sign == "{") - (sign == "}")
        if sign == "}" and depth == 0:
            block = style[begun : at + 1]
            if "color-scheme: dark" in block:
                dark.append(block.partition("{")[0].strip())
            begun = at + 1
    assert dark == ["@media screen and (prefers-color-scheme: dark)", "@media screen"]
    assert "@media print" in style


def test_text_of_strangers_is_never_markup() -> None:
    for path, page in pages(site(text=NASTY)).items():
        assert page.tags.count("script") == 1, path
        assert "img" not in page.tags, path
        assert not page.bad, path
        assert "49" not in page.text or "{{ 7*7 }}" in page.text
        if path not in ("definitions.html", "about.html"):
            assert "<script>alert(1)</script>" in page.text, path


def test_the_numbers_of_the_board_stand_on_its_page_and_link_to_their_records(plain: dict[str, str]) -> None:
    leaderboard, _ = made_leaderboard()
    board = leaderboard.boards[0]
    path = next(p for p in plain if p.startswith("boards/") and p.endswith(".html") and "matrix" not in p)
    page = Page(plain[path])
    for row in board.rows:
        assert f"{100 * row.robust.value:.1f} {100 * row.robust.low:.1f}\u2013{100 * row.robust.high:.1f}" in page.text
        assert f"{100 * row.clean.value:.1f}" in page.text
        for score in row.scores:
            assert score is not None
            assert f"../records/{score.keys[0]}.json" in page.links
    assert page.text.count("1\u20132 tied") == 2
    assert "zero gradients" in page.text
    assert "2 systems are tied for first place," in page.text


def test_several_runs_are_one_row_with_their_range(tmp_path: Path) -> None:
    made_store(tmp_path, systems=1, attacks=2, examples=40, seeds=3)
    cells, problems = read([tmp_path / "cells"])
    leaderboard = aggregate(cells, problems)
    paths = paths_of(leaderboard)
    files = pages(dict(render(leaderboard, {cell.record.key: cell.record for cell in cells})))
    board = leaderboard.boards[1]
    (row,) = board.rows
    assert row.spread.deviation
    assert row.spread.low < row.robust.value < row.spread.high
    spread = interval(row.spread.low, row.spread.high)
    assert f"runs {spread}" in files[paths.board(board.protocol.key)].text
    said = f"the mean of 3 runs between {spread} (standard deviation {percent(row.spread.deviation)} points)"
    assert said in files[paths.row(row.key)].text


def test_the_pool_of_an_optimality_is_named_on_the_board() -> None:
    leaderboard, records = made_leaderboard()
    board = leaderboard.boards[0]
    standing = replace(board.attacks[0], optimality=Optimality(0.9, 0.8, 1.0, 3, "5c0d0da2ffff"))
    known = replace(leaderboard, boards=(replace(board, attacks=(standing, *board.attacks[1:])),))
    (text,) = (
        page.text
        for path, page in pages(dict(render(known, records))).items()
        if re.search(r"^boards/[^/]*-\w{8}\.html$", path)
    )
    assert "found by the pool 5c0d0da2" in text


def test_what_is_proved_stands_beside_what_was_attacked() -> None:
    leaderboard, records = made_leaderboard()
    board = leaderboard.boards[0]
    proved = replace(board.rows[0], certified=Rate(300, 500, 0.6, 0.55, 0.65))
    known = replace(leaderboard, boards=(replace(board, rows=(proved, *board.rows[1:])),))
    files = dict(render(known, records))
    shown = files[paths_of(known).board(board.protocol.key)]
    assert re.findall(r'data-col="(\w+)"', shown)[:5] == ["rank", "system", "robust", "certified", "clean"]
    assert shown.count('class="proved"') == 1  # the row's line
    assert "/></svg>certified" in files["index.html"]
    assert "certified" not in pages(dict(render(leaderboard, records)))["index.html"].text
    assert proved.ranks is not None
    first = replace(proved, ranks=replace(proved.ranks, high=1))
    alone = replace(board, rows=(first, *board.rows[1:]), ties=((0, 0), (1, 2)))
    assert answer(alone)[1].endswith(", and 60 % are certified.")


def test_a_board_of_very_many_attacks_shows_the_strongest_and_leads_to_its_matrix() -> None:
    for attacks in (BOARD_ATTACKS, BOARD_ATTACKS + 1):
        files = site(2, attacks)
        (path,) = (name for name in files if re.fullmatch(r"boards/[^/]*-\w{8}\.html", name))
        assert len(re.findall(r'data-col="a\d+"', files[path])) == BOARD_ATTACKS
        more = attacks > BOARD_ATTACKS
        assert (f"Robust accuracy under each of the {attacks} attacks" in files[path]) == more
        assert (f"The {BOARD_ATTACKS} most successful attacks" in Page(files[path]).text) == more


@pytest.mark.parametrize(("pairs", "said"), [(0, "does not separate the two"), (1, "separates the two")])
def test_two_systems_have_one_pair(pairs: int, said: str) -> None:
    assert (
        resolution(Resolution(1, pairs, 1, pairs, None, None), 50)
        == f"With 50 examples, the paired test {said} systems."
    )


def test_failed_cells_and_unusable_files_are_listed_on_the_front_page(plain: dict[str, str]) -> None:
    text = Page(plain["index.html"]).text
    assert "failed mlp pgd 0 ValueError: no" in text
    assert "cells/x/record.json it is no record" in text


def test_an_empty_leaderboard_is_a_page_that_says_so() -> None:
    files = dict(render(Leaderboard((), (), (), ()), {}))
    assert "There is no complete record yet." in Page(files["index.html"]).text


def test_a_board_of_300_systems_and_20_attacks_stays_small() -> None:
    files = site(300, 20)
    matrices = [path for path in files if "-matrix" in path and path.endswith(".html")]
    assert len(matrices) == -(-300 * 20 // MATRIX_CELLS)
    largest = max((len(text.encode()), path) for path, text in files.items() if path.endswith(".html"))
    assert largest[0] < 300_000, largest


def test_the_same_leaderboard_gives_the_same_bytes() -> None:
    assert site() == site()


def test_downloads_hold_counts_and_unrounded_numbers(plain: dict[str, str]) -> None:
    leaderboard, _ = made_leaderboard()
    path = next(p for p in plain if p.startswith("boards/") and p.endswith(".csv") and "matrix" not in p)
    rows = list(csv.DictReader(io.StringIO(plain[path])))
    assert [int(row["robust_correct"]) for row in rows] == [int(r.robust.count) for r in leaderboard.boards[0].rows]
    assert [float(row["robust_low"]) for row in rows] == [r.robust.low for r in leaderboard.boards[0].rows]
    document = json.loads(plain[path.replace(".csv", ".json")])
    assert document["protocol"]["eps_exact"] == "1/10"
    assert len(document["rows"]) == 3


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", " ="])
def test_a_formula_stays_text_in_a_spreadsheet(start: str) -> None:
    (line,) = csv.DictReader(io.StringIO(as_csv([{"name": f"{start}cmd()", "value": -1.5}]), newline=""))
    assert line == {"name": f"'{start}cmd()", "value": "-1.5"}


def test_json_refuses_what_is_no_number() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_json({"value": float("nan")})


@pytest.mark.parametrize("key", ["../../etc/passwd", "a/b", "", "..", "A" * 24, "f" * 65])
def test_a_record_cannot_be_copied_outside(key: str) -> None:
    assert re.fullmatch(r"records/[0-9a-f]{24}\.json", record_path(key))
    assert record_path("0" * 24) == f"records/{'0' * 24}.json"


def test_names_in_addresses_are_plain() -> None:
    assert slug("L\u221e \u2264 8/255 <b>..//") == "l-8-255-b"
    assert len(slug("x" * 500)) == 48


def test_what_commands_need_beside_an_installation_is_named() -> None:
    record = next(iter(made_leaderboard(1, 1)[1].values()))
    own = {
        "overrides": ["attack=my_pgd", "model=net.py:MyNet", "threat=linf_01"],
        "inputs": {"sha256:0123456789abcdef": "nets/net.py"},
    }
    assert needed([record.model_copy(update={"provenance": own})]) == [
        "the file or folder net.py (sha256:0123456789ab)",
        "attack/my_pgd.yaml in a folder named by --config-dir",
    ]
    assert needed([record.model_copy(update={"provenance": {"overrides": ["attack=pgd_10"]}})]) == []


def test_commands_become_one_sweep_only_where_the_grid_is_full() -> None:
    _, records = made_leaderboard(2, 2)
    every = [records[key] for key in sorted(records, key=lambda k: records[k].provenance["overrides"][::-1])]
    assert set(commands(every)) == {"benchmark run -m attack=noise,fgsm seed=0,1"} or len(commands(every)) == 1
    assert len(commands(every[:3])) == 3
    assert commands(every[:1]) == [f"benchmark run attack={every[0].attack.name} seed=0"]
    assert commands([every[0].model_copy(update={"provenance": {}})]) == []


def test_long_names_may_break_after_underscores_and_nowhere_else() -> None:
    assert breakable("small_cnn + gaussian_augmentation") == "small_<wbr>cnn + gaussian_<wbr>augmentation"
    assert breakable("<a_b>") == "&lt;a_<wbr>b&gt;"
    assert breakable("mlp") == "mlp"
