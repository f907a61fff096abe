"""Published numbers as shown on the site: with their source, and on boards as rows that are marked and unranked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from ..board import Board
from ..ranking.statistics import wilson
from ..words.display import NOTHING, interval, percent
from ..words.downloads import DownloadTable, Value
from ..words.wording import norm_sign, words
from .published_numbers import Entry, Number, PublishedProtocol, Source
from .published_ranks import PublishedBoard, best_known, ranked_entries

__all__ = [
    "Beside",
    "Line",
    "Listing",
    "ReportedRow",
    "beside",
    "listing_table",
    "listings",
    "place",
    "range_of",
    "share",
    "under",
]

MOST_COLUMNS = 6
"""Largest number of kinds of numbers shown as columns; with more, each number has its own line."""
ROWS_BESIDE = 10
"""Largest number of published entries beside a board."""


@dataclass(frozen=True)
class Line:
    """One line of a listing. rank: among the published entries by unpaired tests, "" if its counts are unknown.

    numbers: one per column of the listing.
    """

    entry: Entry
    rank: str
    numbers: tuple[Number | None, ...]


@dataclass(frozen=True)
class ReportedRow:
    """An entry as a row of a board. by_column: its numbers, by the name of the board's column."""

    entry: Entry
    by_column: Mapping[str, Number | None]


@dataclass(frozen=True)
class Listing:
    """Entries of one protocol. columns: kinds of their numbers; empty if each number has its own line.

    alike: number of `neighbours` that one unpaired test at 5 % does not separate, without correction.
    """

    name: str
    protocol: PublishedProtocol
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    alike: int
    neighbours: int


@dataclass(frozen=True)
class Beside:
    """Published entries for the dataset, norm and radius of a board. name: their protocol. more: number not shown."""

    source: Source
    name: str
    lines: tuple[ReportedRow, ...]
    more: int


def listings(source: Source) -> list[Listing]:
    """Every protocol of a source with its entries, those with known counts first, by value."""
    return [_listing(source, name) for name in source.protocols]


def beside(board: Board, sources: Sequence[Source]) -> list[Beside]:
    """Published entries for the dataset, norm and radius of a board, as rows without a rank."""
    of = board.protocol
    found = []
    for source in sources:
        for name, protocol in source.protocols.items():
            here = (of.conditions.dataset, of.conditions.norm)
            same = (protocol.dataset, protocol.norm) == here and protocol.eps_exact is not None
            if same and Fraction(protocol.eps_exact or "0") == Fraction(of.eps_exact):
                lines = [_reported(line.entry) for line in _ordered(source, ranked_entries(source, name), name)]
                found.append(Beside(source, name, tuple(lines[:ROWS_BESIDE]), max(0, len(lines) - ROWS_BESIDE)))
    return found


def listing_table(source: Source, listing: Listing) -> DownloadTable:
    """Download table with one line per published number."""
    numbers = [(line, number) for line in listing.lines for number in line.entry.numbers]
    return DownloadTable(
        f"{source.title}: {listing.protocol.description}. Published, not reproduced.",
        [_number_line(source, listing, line.entry, number) for line, number in numbers],
        ("System", "Quantity", "Percent", "Examples", "Location"),
        [
            (line.entry.system, under(number), share(number), str(number.total or NOTHING), number.place or NOTHING)
            for line, number in numbers
        ],
        {"source": source.key, "url": source.url, "licence": source.licence, "retrieved": source.retrieved},
    )


def under(number: Number) -> str:
    """Name of a number, with the attack it was measured under."""
    return f"{words(number.metric)}, {words(number.attack)}" if number.attack else words(number.metric)


def share(number: Number) -> str:
    """Published number in percent, with the digits that its count allows, or those printed."""
    if number.count is not None and number.total is not None:
        return percent(number.value, *wilson(number.count, number.total))
    return f"{100 * number.value:.2f}".rstrip("0").rstrip(".")


def range_of(number: Number) -> str:
    """95 % Wilson interval of a number with known counts."""
    if number.count is None or number.total is None:
        return ""
    return interval(*wilson(number.count, number.total))


def place(listing: Listing) -> str:
    """Dataset and threat of a listing; its name, such as "cifar10 corruptions", without a norm."""
    of = listing.protocol
    if of.norm is None:
        return words(listing.name)
    radius = f" \N{LESS-THAN OR EQUAL TO} {of.eps_exact}" if of.eps_exact else ""
    return f"{words(of.dataset)}, {norm_sign(of.norm)}{radius}"


def _listing(source: Source, name: str) -> Listing:
    board = ranked_entries(source, name)
    lines = _ordered(source, board, name)
    kinds = list(dict.fromkeys(under(number) for line in lines for number in line.entry.numbers))
    plain = all(len({under(n) for n in line.entry.numbers}) == len(line.entry.numbers) for line in lines)
    wide = plain and len(kinds) <= MOST_COLUMNS
    if wide:
        lines = [Line(line.entry, line.rank, _by_kind(line.entry, kinds)) for line in lines]
    return Listing(
        name=name,
        protocol=source.protocols[name],
        columns=tuple(kinds) if wide else (),
        lines=tuple(lines),
        alike=board.alike,
        neighbours=max(0, len(board.entries) - 1),
    )


def _ordered(source: Source, board: PublishedBoard, name: str) -> list[Line]:
    """Entries of a protocol: those with a value, by value, then the others in the order of the source."""
    ranked = [
        Line(entry, str(low) if low == high else f"{low}\N{EN DASH}{high}", ())
        for entry, (low, high) in zip(board.entries, board.ranks, strict=True)
    ]
    rest = [Line(e, "", ()) for e in source.entries if e.protocol == name and e not in board.entries]
    return ranked + rest


def _by_kind(entry: Entry, kinds: Sequence[str]) -> tuple[Number | None, ...]:
    found = {under(number): number for number in entry.numbers}
    return tuple(found.get(kind) for kind in kinds)


def _reported(entry: Entry) -> ReportedRow:
    """Row of an entry: lowest robust accuracy measured by others, clean accuracy, and the authors' own figure."""
    own = next((n for n in entry.numbers if n.metric == "robust_accuracy" and n.settings.get("by") == "authors"), None)
    clean = entry.number("clean_accuracy")
    return ReportedRow(entry, {"robust": best_known(entry), "clean": clean, "claimed": own})


def _number_line(source: Source, listing: Listing, entry: Entry, number: Number) -> dict[str, Value]:
    return {
        "source": source.key,
        "protocol": listing.name,
        "dataset": listing.protocol.dataset,
        "norm": listing.protocol.norm,
        "eps": entry.eps_exact or listing.protocol.eps_exact,
        "system": entry.system,
        "architecture": entry.architecture,
        "metric": number.metric,
        "attack": number.attack,
        "value": number.value,
        "count": number.count,
        "total": number.total,
        "settings": " ".join(f"{key}={value}" for key, value in sorted(number.settings.items())),
        "evidence": number.evidence,
        "place": number.place,
        "note": number.note,
        "flags": ", ".join(entry.flags),
        "title": entry.title,
        "venue": entry.venue,
        "url": entry.url,
    }
