"""From a leaderboard to the files of the site, as text. Nothing here reads or writes files, or knows the time.

Templates get autoescaping and strict names; the style sheet and the script stand inside every page, and a
Content-Security-Policy names them by hash, so that a page works from a folder, alone, and runs nothing else.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from jinja2 import BaseLoader, Environment, StrictUndefined, TemplateNotFound
from markupsafe import Markup

from benchmark.record import Record

from . import charts, display, figures, wording
from .badges import board_badge, row_badge
from .board import Board, Column, Curve, CurveSet, Leaderboard, Row
from .downloads import FORMATS, as_json, files
from .exchange import every_eval_ever
from .feed import feed
from .gallery import Pictures, exhibits
from .literature import beside, listing_table, listings, place, range_of, share, under
from .pairs import PAIR_ROWS, comparable, held_bits, neighbours
from .published_numbers import Source
from .review import ReviewFile
from .tables import (
    attack_table,
    attacks_table,
    board_table,
    curves_table,
    matrix_table,
    neighbours_table,
    overview_table,
    system_table,
    systems_table,
)
from .tiers import weakest

__all__ = ["MARKER", "MATRIX_CELLS", "board_names", "record_path", "render", "single_page"]

NAME = "Adversarial Benchmark"
MARKER = "site.json"
"""A file that says what the site was built from, and that it is one."""
MATRIX_CELLS = 2000
"""How many cells one page shows; a larger matrix is split over pages, and its board leaves the columns to them."""

ATTACK_ROWS = 100
"""How many systems of a board the page of an attack lists."""

STRIP_ROWS = 80
"""How many rows of a board draw their interval; the numbers stand in all of them."""

GRID_ROWS = 24
"""Up to how many systems the page of comparisons shows every pair in a table."""


class _Templates(BaseLoader):
    """Templates from the installed package, wherever it is."""

    def get_source(self, environment: Environment, template: str) -> tuple[str, str | None, None]:
        file = importlib.resources.files(__package__) / "templates" / template
        if not file.is_file():
            raise TemplateNotFound(template)
        return file.read_text(encoding="utf-8"), None, None


@dataclass(frozen=True)
class Frame:
    """What every page has. policy: the Content-Security-Policy, with the hashes of style and script."""

    name: str
    policy: str
    style: Markup
    script: Markup
    sections: tuple[tuple[str, str], ...]
    built_from: str


@dataclass(frozen=True)
class Paths:
    """Where everything stands, relative to the root of the site."""

    boards: Mapping[str, str]
    rows: Mapping[str, str]

    def board(self, key: str) -> str:
        """The page of a board."""
        return f"boards/{self.boards[key]}.html"

    def matrix(self, key: str, page: int) -> str:
        """A page of the attack-by-system matrix of a board, from 0."""
        return f"boards/{self.boards[key]}-matrix{f'-{page + 1}' if page else ''}.html"

    def anchor(self, key: str) -> str:
        """A short id on a page, of a board or a system."""
        return f"k{_digest(key)[:8]}"

    def row(self, key: str) -> str:
        """The page of a system."""
        return f"systems/{self.rows[key]}.html"

    def badge(self, board: str, row: str = "") -> str:
        """The badge of a board, or of a system on it."""
        return f"badges/{self.boards[board]}{f'--{self.rows[row]}' if row else ''}.svg"

    def export(self, row: str) -> str:
        """The document of a system in the format of Every Eval Ever."""
        return f"every_eval_ever/{self.rows[row]}.json"

    def compare(self, key: str) -> str:
        """The page that compares the systems of a board."""
        return f"boards/{self.boards[key]}-compare.html"

    def source(self, key: str) -> str:
        """The page of a publication."""
        return f"published/{wording.slug(key)}-{_digest(key)[:6]}.html"

    def listing(self, key: str, protocol: str) -> str:
        """The downloads of one table of a publication, without the ending."""
        return f"{_stem(self.source(key))}-{wording.slug(protocol)}-{_digest(protocol)[:6]}"

    def attack(self, name: str) -> str:
        """The page of an attack."""
        return f"attacks/{wording.slug(name)}-{_digest(name)[:6]}.html"

    def record(self, key: str) -> str:
        """The copy of a record."""
        return record_path(key)


def record_path(key: str) -> str:
    """Where the copy of a record stands; a key that is no hash, and might be a path, is hashed."""
    return f"records/{key if re.fullmatch('[0-9a-f]{16,64}', key) else _digest(key)[:24]}.json"


def render(
    leaderboard: Leaderboard,
    records: Mapping[str, Record],
    read: Callable[[str], Pictures | None] = lambda _: None,
    published: Sequence[Source] = (),
    reviews: Mapping[str, ReviewFile] | None = None,
) -> Iterator[tuple[str, str]]:
    """Every page and every download: (path relative to the root, text), one after the other.

    Args:
        leaderboard: what to show. records: by key, of all cells that it names; build copies them beside the pages.
        read: gives the pictures of a cell by its key, None if it has none. published: numbers of the literature.
        reviews: of cells that were submitted, by key.
    """
    paths = _paths(leaderboard)
    frame = _frame(records, bool(published))
    env = _environment(frame, paths)
    env.globals.update(reviews=reviews or {}, tier=lambda row: weakest(row, reviews or {}))

    def page(template: str, path: str, section: str, **values: object) -> tuple[str, str]:
        up = "../" * path.count("/")
        return path, env.get_template(template).render(up=up, section=section, path=path, **values)

    yield MARKER, as_json({"records": len(records), "content": _digest(" ".join(sorted(records)))})
    unfinished = [cell for board in leaderboard.boards for cell in board.unfinished] + [*leaderboard.unfinished]
    everything = {"leaderboard": leaderboard, "suites": _suites(leaderboard), "unfinished": unfinished}
    yield page("index.html", "index.html", "index.html", **everything)
    yield page("definitions.html", "definitions.html", "definitions.html")
    overviews = _overviews(leaderboard)
    yield page("matrix.html", "matrix.html", "matrix.html", overviews=overviews)
    for at, overview in enumerate(overviews, start=1):
        yield from files(f"matrix-{at}", overview_table(*overview), NAME)
    curves = {key: of for of in leaderboard.curves for key in of.boards}
    for board in leaderboard.boards:
        key = board.protocol.key
        pages = _pages(board)
        wide = len(pages) > 1
        path = paths.board(key)
        shown = {"board": board, "curves": curves.get(key), "wide": wide, "pages": len(pages)}
        yield page("board.html", path, "index.html", **shown, beside=beside(board, published))
        for at, rows in enumerate(pages):
            part = {"board": board, "rows": rows, "at": at, "pages": len(pages)}
            yield page("cells.html", paths.matrix(key, at), "matrix.html", **part)
        yield paths.badge(key), board_badge(board)
        yield from ((paths.badge(key, row.key), row_badge(board, row)) for row in board.rows)
        yield from files(_stem(path), board_table(board), NAME)
        yield from files(f"{_stem(path)}-attacks", attacks_table(board), NAME)
        yield from files(_stem(paths.matrix(key, 0)), matrix_table(board), NAME)
        yield page("compare.html", paths.compare(key), "index.html", **_comparison(board, paths))
        yield from files(_stem(paths.compare(key)), neighbours_table(board), NAME)
    for of in leaderboard.curves:
        yield from files(f"curves/{of.key}", curves_table(of), NAME)
    yield "feed.xml", feed(leaderboard, records, NAME, {key: paths.row(key) for key in paths.rows})
    yield page("systems.html", "systems.html", "systems.html", systems=_systems(leaderboard))
    yield from files("systems", systems_table(_systems(leaderboard)), NAME)
    for entries in _systems(leaderboard).values():
        row = entries[0][1]
        own = [records[key] for _, entry in entries for key in entry.keys if key in records]
        yield page(
            "system.html", paths.row(row.key), "systems.html", row=row, entries=entries,
            curves=_curves_of(leaderboard, row), commands=wording.commands(own), own=own,
            gallery=exhibits(entries, read),
        )  # fmt: skip
        yield from files(_stem(paths.row(row.key)), system_table(entries), NAME)
        yield paths.export(row.key), as_json(every_eval_ever(entries, records, NAME))
    if published:
        yield page("published.html", "published.html", "published.html", sources=published)
    for source in published:
        yield page("source.html", paths.source(source.key), "published.html", source=source)
        for listing in listings(source):
            yield from files(paths.listing(source.key, listing.name), listing_table(source, listing), NAME)
    attacks = _attacks(leaderboard)
    yield page("attacks.html", "attacks.html", "attacks.html", attacks=attacks)
    for name, uses in attacks.items():
        yield page("attack.html", paths.attack(name), "attacks.html", name=name, uses=uses)
        yield from files(_stem(paths.attack(name)), attack_table(name, uses), NAME)


def single_page(
    leaderboard: Leaderboard, records: Mapping[str, Record], sheets: Sequence[tuple[str, Markup, Markup]]
) -> str:
    """One page around the contents of many: (id, title, content) of each."""
    env = _environment(_frame(records), _paths(leaderboard))
    return env.get_template("single.html").render(up="", section="", path="single.html", sheets=sheets)


def board_names(leaderboard: Leaderboard) -> Mapping[str, str]:
    """What the pages of the boards are called, by the key of the board."""
    return _paths(leaderboard).boards


@functools.cache
def _static(name: str) -> str:
    """A file of the package without its indentation, which every page would carry."""
    text = (importlib.resources.files(__package__) / "static" / name).read_text(encoding="utf-8")
    return re.sub(r"^ +", "", text, flags=re.MULTILINE)


def _frame(records: Mapping[str, Record], published: bool = False) -> Frame:
    style, script = _static("site.css"), _static("site.js")
    policy = (
        f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return Frame(
        NAME,
        policy,
        Markup(style),
        Markup(script),
        (
            ("Boards", "index.html"),
            ("Systems", "systems.html"),
            ("Attacks", "attacks.html"),
            ("Matrix", "matrix.html"),
            *((("Published", "published.html"),) if published else ()),
            ("Definitions", "definitions.html"),
        ),
        f"Built from {display.count(len(records))} records, content {_digest(' '.join(sorted(records)))[:12]}.",
    )


def _environment(frame: Frame, paths: Paths) -> Environment:
    env = Environment(
        loader=_Templates(), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    env.filters.update(
        percent=display.percent,
        interval=display.interval,
        number=display.number,
        count=display.count,
        seconds=display.seconds,
        words=wording.words,
        breakable=wording.breakable,
        radius=wording.radius,
        conditions=wording.conditions,
        suite_title=wording.suite_title,
        resolution=wording.resolution,
        place=place,
        published=share,
        range_of=range_of,
        under=under,
        heat=lambda value: f"q{round(10 * value)}",
        p_values=lambda table: [[float(f"{p:.2g}") for p in line] for line in table.tolist()],
        inline=lambda svg: svg.replace(Markup(' xmlns="http://www.w3.org/2000/svg"'), "").strip(),
        json=lambda value: as_json(value).strip(),
        short_json=lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False),
    )
    env.globals.update(
        site=frame,
        paths=paths,
        answer=wording.answer,
        strip=figures.row_strip,
        interval_plot=figures.interval_plot,
        trade_off=figures.trade_off,
        attack_costs=figures.attack_costs,
        curve_plot=figures.curve_plot,
        attack_rows=ATTACK_ROWS,
        strip_rows=STRIP_ROWS,
        pair_rows=PAIR_ROWS,
        grid_rows=GRID_ROWS,
        card_rows=figures.CARD_ROWS,
        plot_rows=figures.PLOT_ROWS,
        letters=figures.LETTERS,
        sample=charts.sample,
        formats=FORMATS,
        badge=row_badge,
        listings=listings,
        answered=wording.answered,
        badge_of=board_badge,
    )
    return env


def _stem(path: str) -> str:
    return path.removesuffix(".html")


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _paths(leaderboard: Leaderboard) -> Paths:
    """Names that people can read, made unique by a piece of the key."""
    boards: dict[str, str] = {}
    rows: dict[str, str] = {}
    for board in leaderboard.boards:
        of = board.protocol
        named = wording.slug(f"{of.suite or 'free'} {of.dataset} {of.norm} {of.eps_exact}")
        boards[of.key] = f"{named}-{_digest(of.key)[:8]}"
        for row in board.rows:
            named = wording.slug(" ".join([row.system.dataset, row.system.model, *row.system.defenses]))
            rows[row.key] = f"{named}-{_digest(row.key)[:8]}"
    return Paths(boards, rows)


def _suites(leaderboard: Leaderboard) -> dict[str, list[Board]]:
    grouped: dict[str, list[Board]] = defaultdict(list)
    for board in leaderboard.boards:
        grouped[wording.suite_title(board.protocol)].append(board)
    return dict(grouped)


def _systems(leaderboard: Leaderboard) -> dict[str, list[tuple[Board, Row]]]:
    """Where each system stands: its boards, by the key of the row."""
    grouped: dict[str, list[tuple[Board, Row]]] = defaultdict(list)
    for board in leaderboard.boards:
        for row in board.rows:
            grouped[row.key].append((board, row))
    return dict(grouped)


def _attacks(leaderboard: Leaderboard) -> dict[str, list[tuple[Board, int, Column]]]:
    """Where each attack was used: (board, position of the column, column), by name."""
    grouped: dict[str, list[tuple[Board, int, Column]]] = defaultdict(list)
    for board in leaderboard.boards:
        for at, column in enumerate(board.columns):
            grouped[column.name].append((board, at, column))
    return dict(sorted(grouped.items()))


def _overviews(leaderboard: Leaderboard) -> list[tuple[str, list[Board], list[tuple[Row, list[Row | None]]]]]:
    """Per suite: its boards, and for each system its row on each of them, in the order of the first board."""
    overviews = []
    for title, boards in _suites(leaderboard).items():
        rows = {row.key: row for board in boards for row in board.rows}
        placed = [{row.key: row for row in board.rows} for board in boards]
        overviews.append((title, boards, [(row, [on.get(key) for on in placed]) for key, row in rows.items()]))
    return overviews


def _pages(board: Board) -> list[tuple[Row, ...]]:
    """The rows of a board, as many to a page as its columns allow."""
    size = max(1, MATRIX_CELLS // max(1, len(board.columns)))
    return [board.rows[at : at + size] for at in range(0, len(board.rows), size)]


def _comparison(board: Board, paths: Paths) -> dict[str, object]:
    """What the page of comparisons gets. duel: for the script, what it needs to compare any two rows."""
    rows = comparable(board)
    duel = {
        "total": board.protocol.total,
        "rows": [{"id": paths.anchor(row.key), "name": row.label, "held": held_bits(row)} for row in rows],
        "p": [[float(f"{p:.2g}") for p in line[: len(rows)]] for line in board.pairs.adjusted[: len(rows)].tolist()],
    }
    return {"board": board, "rows": rows, "duel": duel, "next_to": neighbours(board)}


def _curves_of(leaderboard: Leaderboard, row: Row) -> list[tuple[CurveSet, Curve]]:
    return [(of, one) for of in leaderboard.curves for one in of.curves if one.row == row.key]
