"""Rendering of a leaderboard to the files of the site, as text, without file access and clock."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from markupsafe import Markup

from benchmark.records.record import Record

from ..board import AttackColumn, Board, Curve, CurveSet, Leaderboard, Row
from ..cells.gallery import exhibits
from ..literature.literature import beside, listing_table, listings
from ..literature.published_numbers import Source
from ..ranking.changes import changes, changes_table, tally
from ..ranking.corruption import corruption_errors, corruption_table
from ..ranking.history import events, history_table, withdrawn_by_row
from ..ranking.pairs import comparable, held_bits, neighbours
from ..ranking.transfer import Exchange, exchanges, furthest
from ..words import wording
from ..words.downloads import as_json, files
from .badges import board_badge, row_badge
from .budget import error_budget
from .column import ATTACKS, on_page
from .columns import BOARD_ATTACKS, BOARD_PAGE, board_columns
from .dataset import dataset_files, index_file
from .detection import detector_files, detector_values
from .examples import example_lines, examples_table
from .exchange import every_eval_ever
from .extras import Extras
from .feed import feed
from .pages import GRID_ROWS, SITE_NAME, Pages
from .paths import Paths, digest, paths_of, stem
from .registers import (
    attack_lines,
    attacks_register,
    published_register,
    reviews_register,
    runs_register,
    unfinished_register,
)
from .tables import (
    attack_table,
    attacks_table,
    board_table,
    curves_table,
    matrix_table,
    neighbours_table,
    overview_table,
    pairs_table,
    system_table,
    systems_table,
    transfer_table,
)
from .tried_columns import ATTACKS_PAGE, attack_columns

__all__ = ["MARKER", "MATRIX_CELLS", "PAGE_ROWS", "Extras", "board_names", "render", "single_page"]

Files = Iterator[tuple[str, str]]
MARKER = "site.json"
"""File that marks a site and lists the records that it was built from."""
TRANSFER_ROWS = 24
"""Largest number of systems on the page of a transfer matrix."""
PAGE_ROWS = 250
"""Largest number of systems in a table of a page: the list of systems continues on the next, a board on its matrix."""
BOARD_CELLS = 1200
"""Largest number of table cells of a board on its page: four per system, and one for each attack shown."""
MATRIX_CELLS = 1600
"""Largest number of table cells per page; a larger matrix is split, and its board omits the columns of attacks."""


def render(leaderboard: Leaderboard, records: Mapping[str, Record], extras: Extras | None = None) -> Files:
    """Every page and every download: (path relative to the root, text), one after the other.

    Args:
        leaderboard: to show. records: by key, of all cells that it names; build copies them beside the pages.
    """
    extras = extras or Extras()
    paths = paths_of(leaderboard)
    shared = exchanges(leaderboard.boards, extras.transfers)
    pages = Pages(
        paths, records, extras.reviews,
        published=bool(extras.published), changed=extras.before is not None, transfer=tuple(shared),
        releases=tuple(extras.releases), notes=extras.notes,
    )  # fmt: skip
    yield MARKER, as_json({"records": len(records), "content": digest(" ".join(sorted(records)))})
    systems = _systems(leaderboard)
    yield "api.json", index_file(leaderboard, paths, systems)
    yield from dataset_files(leaderboard, systems, SITE_NAME)
    yield pages.page("about.html", "about.html", "about.html")
    yield "feed.xml", feed(leaderboard, records, SITE_NAME, {key: paths.row(key) for key in paths.rows})
    yield from _overview_files(leaderboard, pages)
    for board in leaderboard.boards:
        yield from _board_files(leaderboard, board, pages, paths, extras)
        yield from detector_files(board, records, paths, SITE_NAME)
    yield from _transfer_files(leaderboard, shared, pages, paths)
    for of in leaderboard.curves:
        yield from files(f"curves/{of.key}", curves_table(of), SITE_NAME)
    yield from _system_files(leaderboard, records, pages, paths, extras)
    yield from _published_files(extras.published, pages, paths)
    if extras.before is not None:
        moved = changes(extras.before, leaderboard)
        counted = tally(extras.before, leaderboard)
        yield pages.page("changes.html", "changes.html", "changes.html", changed=moved, tally=counted)
        yield from files("changes", changes_table(moved), SITE_NAME)
    attacks = _attacks(leaderboard)
    yield pages.page("attacks.html", "attacks.html", "attacks.html", lines=attack_lines(attacks), most=PAGE_ROWS)
    yield from files("attacks", attacks_register(attacks), SITE_NAME)
    for name, uses in attacks.items():
        yield pages.page("attack.html", paths.attack(name), "attacks.html", name=name, uses=uses)
        yield from files(stem(paths.attack(name)), attack_table(name, uses), SITE_NAME)


def single_page(
    leaderboard: Leaderboard, records: Mapping[str, Record], sheets: Sequence[tuple[str, Markup, Markup]]
) -> str:
    """One page around the contents of many: (id, title, content) of each."""
    return Pages(paths_of(leaderboard), records).page("single.html", "single.html", "", sheets=sheets)[1]


def board_names(leaderboard: Leaderboard) -> Mapping[str, str]:
    """Names of the pages of the boards, by the key of the board."""
    return paths_of(leaderboard).boards


def _overview_files(leaderboard: Leaderboard, pages: Pages) -> Files:
    """Front page, definitions, and the table of every system under every threat."""
    unfinished = [cell for board in leaderboard.boards for cell in board.unfinished] + [*leaderboard.unfinished]
    everything = {"leaderboard": leaderboard, "suites": _suites(leaderboard), "unfinished": unfinished}
    yield pages.page("index.html", "index.html", "index.html", **everything)
    if unfinished:
        yield from files("unfinished", unfinished_register(unfinished), SITE_NAME)
    metrics = any(board.metrics for board in leaderboard.boards)
    yield pages.page("definitions.html", "definitions.html", "definitions.html", metrics=metrics)
    overviews = _overviews(leaderboard)
    yield pages.page("matrix.html", "matrix.html", "matrix.html", overviews=overviews, most=PAGE_ROWS)
    for at, overview in enumerate(overviews, start=1):
        yield from files(f"matrix-{at}", overview_table(*overview), SITE_NAME)


def _board_files(leaderboard: Leaderboard, board: Board, pages: Pages, paths: Paths, extras: Extras) -> Files:
    """Pages of a board: the board, its matrix, its comparisons and its badges."""
    key = board.protocol.key
    parts = _pages(board)
    path = paths.board(key)
    curves = next((of for of in leaderboard.curves if key in of.boards), None)
    corrupted = corruption_errors(board)
    columned = len(parts) == 1
    shown = min(BOARD_ATTACKS, len(board.columns)) if columned else 0
    most = min(PAGE_ROWS, BOARD_CELLS // (4 + shown))
    reported = beside(board, extras.published)
    claims = any(line.by_column["claimed"] for found in reported for line in found.lines)
    yield pages.page(
        "board.html", path, "index.html", board=board, rows=board.rows[:most], curves=curves,
        wide=len(parts) > 1, columned=columned,
        columns=on_page(
            board_columns(board, claims=claims), [name for name in BOARD_PAGE if columned or name != ATTACKS]
        ),
        standings=on_page(attack_columns(), ATTACKS_PAGE), pages=len(parts),
        beside=reported, corrupted=corrupted,
        budget=error_budget(board, extras.reviews, leaderboard.problems, extras.replays),
        **detector_values(board, pages.records, extras.suspicion),
    )  # fmt: skip
    for at, rows in enumerate(parts):
        part = {"board": board, "rows": rows, "at": at, "pages": len(parts)}
        yield pages.page("cells.html", paths.matrix(key, at), "matrix.html", **part)
    yield paths.badge(key), board_badge(board)
    yield from ((paths.badge(key, row.key), row_badge(board, row)) for row in board.rows)
    yield from files(stem(path), board_table(board), SITE_NAME)
    yield from files(f"{stem(path)}-attacks", attacks_table(board), SITE_NAME)
    yield from files(stem(paths.matrix(key, 0)), matrix_table(board), SITE_NAME)
    if corrupted is not None:
        yield from files(f"{stem(path)}-corruptions", corruption_table(board, corrupted), SITE_NAME)
    compared = comparable(board)
    yield pages.page("compare.html", paths.compare(key), "index.html", **_comparison(board, paths, compared))
    if 1 < len(compared) <= GRID_ROWS:
        yield from files(f"{stem(paths.compare(key))}-pairs", pairs_table(board, compared), SITE_NAME)
    yield from files(stem(paths.compare(key)), neighbours_table(board), SITE_NAME)


def _transfer_files(leaderboard: Leaderboard, shared: Mapping[str, Exchange], pages: Pages, paths: Paths) -> Files:
    """Transfer matrix of each board that has one; the first is the page of the section."""
    section = next((paths.transfer(key) for key in shared), "")
    boards = [board for board in leaderboard.boards if board.protocol.key in shared]
    for board in boards:
        of = shared[board.protocol.key]
        path = paths.transfer(board.protocol.key)
        yield pages.page(
            "transfer.html", path, section, board=board, others=boards, members=of.members[:TRANSFER_ROWS],
            shares=of.shares, best=furthest(of), left=max(0, len(of.members) - TRANSFER_ROWS), early=of.early,
        )  # fmt: skip
        yield from files(stem(path), transfer_table(board, of), SITE_NAME)


def _system_files(
    leaderboard: Leaderboard,
    records: Mapping[str, Record],
    pages: Pages,
    paths: Paths,
    extras: Extras,
) -> Files:
    """List of systems, and the page of each."""
    systems = _systems(leaderboard)
    listed = list(systems.values())
    parts = [listed[at : at + PAGE_ROWS] for at in range(0, len(listed), PAGE_ROWS)] or [[]]
    for at, part in enumerate(parts):
        shown = {"listed": part, "at": at, "pages": len(parts), "total": len(listed)}
        yield pages.page("systems.html", paths.systems(at), "systems.html", **shown)
    yield from files("systems", systems_table(systems), SITE_NAME)
    yield from files("runs", runs_register(systems), SITE_NAME)
    if extras.reviews:
        yield from files("reviews", reviews_register(extras.reviews, records), SITE_NAME)
    released = _systems(extras.before) if extras.before else {}
    curves, withdrawn = _curves(leaderboard), withdrawn_by_row(leaderboard.problems)
    for entries in listed:
        row = entries[0][1]
        found = [] if extras.answers is None else [(b, example_lines(b, r, extras.answers)) for b, r in entries]
        found = [(board, lines) for board, lines in found if lines]
        told = events(entries, withdrawn.get(row.key, ()))
        own = [records[key] for _, entry in entries for key in entry.keys if key in records]
        yield pages.page(
            "system.html", paths.row(row.key), "systems.html", row=row, entries=entries,
            curves=curves.get(row.key, []), commands=wording.commands(own), needed=wording.needed(own), own=own,
            by_example=bool(found),
            gallery=exhibits(entries, extras.pictures), events=told, released=released.get(row.key, []),
        )  # fmt: skip
        names = [wording.radius(event.board.protocol) if event.board else "" for event in told]
        yield from files(f"{stem(paths.row(row.key))}-history", history_table(entries, told, names), SITE_NAME)
        yield from files(stem(paths.row(row.key)), system_table(entries), SITE_NAME)
        if found:
            most = max(20, PAGE_ROWS // len(found))
            yield pages.page("examples.html", paths.examples(row.key), "systems.html", row=row, found=found, most=most)
            yield from files(stem(paths.examples(row.key)), examples_table(found, row.label), SITE_NAME)
        yield paths.export(row.key), as_json(every_eval_ever(entries, records, SITE_NAME))


def _published_files(published: Sequence[Source], pages: Pages, paths: Paths) -> Files:
    """Numbers from the literature, a page for each source, the latest first."""
    published = sorted(published, key=lambda source: (-(source.year or 0), source.title))
    if published:
        yield pages.page("published.html", "published.html", "published.html", sources=published)
        yield from files("published", published_register(published), SITE_NAME)
    for source in published:
        yield pages.page("source.html", paths.source(source.key), "published.html", source=source)
        for listing in listings(source):
            yield from files(paths.listing(source.key, listing.name), listing_table(source, listing), SITE_NAME)


def _suites(leaderboard: Leaderboard) -> dict[str, list[Board]]:
    grouped: dict[str, list[Board]] = defaultdict(list)
    for board in leaderboard.boards:
        grouped[wording.suite_title(board.protocol)].append(board)
    return dict(grouped)


def _systems(leaderboard: Leaderboard) -> dict[str, list[tuple[Board, Row]]]:
    """Boards of each system with its row, by the key of the row."""
    grouped: dict[str, list[tuple[Board, Row]]] = defaultdict(list)
    for board in leaderboard.boards:
        for row in board.rows:
            grouped[row.key].append((board, row))
    return dict(grouped)


def _attacks(leaderboard: Leaderboard) -> dict[str, list[tuple[Board, int, AttackColumn]]]:
    """Uses of each attack: (board, position of the column, column), by name."""
    grouped: dict[str, list[tuple[Board, int, AttackColumn]]] = defaultdict(list)
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
    """Rows of a board, split into pages according to the number of columns."""
    size = max(1, min(PAGE_ROWS, MATRIX_CELLS // max(1, len(board.columns))))
    return [board.rows[at : at + size] for at in range(0, len(board.rows), size)]


def _comparison(board: Board, paths: Paths, rows: Sequence[Row]) -> dict[str, object]:
    """Values for the comparison page. duel: data with which the script compares any two rows."""
    duel = {
        "total": board.protocol.conditions.total,
        "rows": [{"id": paths.anchor(row.key), "name": row.label, "held": held_bits(row)} for row in rows],
        "p": [[float(f"{p:.2g}") for p in line[: len(rows)]] for line in board.pairs.adjusted[: len(rows)].tolist()],
    }
    return {"board": board, "rows": rows, "duel": duel, "next_to": neighbours(board)[:PAGE_ROWS]}


def _curves(leaderboard: Leaderboard) -> dict[str, list[tuple[CurveSet, Curve]]]:
    """Curves of each system, by the key of its row."""
    grouped: dict[str, list[tuple[CurveSet, Curve]]] = defaultdict(list)
    for of in leaderboard.curves:
        for one in of.curves:
            grouped[one.row].append((of, one))
    return grouped
