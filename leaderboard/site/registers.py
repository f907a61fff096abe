"""Download tables of the whole site: attacks, runs, reviews, sources, missing results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmark.records.record import Record

from ..board import AttackColumn, AttackStanding, Board, Rate, Row, Unfinished
from ..literature.literature import listings, place
from ..literature.published_numbers import Source
from ..review.review import ReviewFile
from ..words.display import count, interval, percent
from ..words.downloads import DownloadTable
from ..words.wording import radius, suite_title
from .column import used

__all__ = [
    "attack_lines",
    "attacks_register",
    "published_register",
    "reviews_register",
    "runs_register",
    "unfinished_register",
]


Uses = Mapping[str, Sequence[tuple[Board, int, AttackColumn]]]
"""Uses of each attack by name: boards, with the position of the attack's column."""


@dataclass(frozen=True)
class AttackLine:
    """An attack with its settings on one board.

    name: of the attack. key: of the board. passes: forward and backward, per example. best: no attack succeeds more
    often.
    """

    name: str
    label: str
    key: str
    board: str
    distribution: str
    access: str
    systems: int
    passes: float
    success: Rate
    best: bool


def attack_lines(attacks: Uses) -> list[AttackLine]:
    """One line per attack, settings and board, the most successful of a board first."""
    made = []
    for board, column, standing in _standings(attacks):
        top = max(other.success.value for other in board.attacks)
        made.append(
            AttackLine(
                name=column.name,
                label=column.label,
                key=board.protocol.key,
                board=f"{suite_title(board.protocol)}, {radius(board.protocol)}",
                distribution=column.distribution,
                access=used(column),
                systems=standing.rows,
                passes=standing.forwards + standing.backwards,
                success=standing.success,
                best=standing.success.value == top,
            )
        )
    places = {line.board: place for place, line in reversed(list(enumerate(made)))}
    return sorted(made, key=lambda line: (places[line.board], -line.success.value, line.label))


def _standings(attacks: Uses) -> list[tuple[Board, AttackColumn, AttackStanding]]:
    return [
        (board, column, standing)
        for uses in attacks.values()
        for board, at, column in uses
        for standing in board.attacks
        if standing.column == at
    ]


def attacks_register(attacks: Uses) -> DownloadTable:
    """One line per attack, settings and board."""
    found = _standings(attacks)
    return DownloadTable(
        "Success of every attack on every board, in percent of the examples correct without an attack.",
        [
            {
                "attack": column.label,
                "distribution": column.distribution,
                "access": column.access,
                "access_used": used(column),
                "suite": board.protocol.conditions.suite,
                "dataset": board.protocol.conditions.dataset,
                "norm": board.protocol.conditions.norm,
                "eps": board.protocol.eps_exact,
                "systems": standing.rows,
                "success": standing.success.value,
                "success_low": standing.success.low,
                "success_high": standing.success.high,
                "broken_by_it_alone": standing.alone,
                "forwards_per_example": standing.forwards,
                "backwards_per_example": standing.backwards,
            }
            for board, column, standing in found
        ],
        ("Attack", "Access", "Board", "Success", "95 %"),
        [
            (
                column.label,
                used(column),
                f"{radius(board.protocol)} ({suite_title(board.protocol)})",
                percent(of.value, of.low, of.high),
                interval(of.low, of.high),
            )
            for board, column, standing in found
            for of in [standing.success]
        ],
    )


def runs_register(systems: Mapping[str, Sequence[tuple[Board, Row]]]) -> DownloadTable:
    """One line per trained system and board."""
    found = [(board, row, run) for entries in systems.values() for board, row in entries for run in row.runs]
    return DownloadTable(
        "Every trained system on every board, in percent.",
        [
            {
                "system": row.label,
                "system_key": row.key,
                "run_key": run.system_key,
                "seed": run.seed,
                "weights_sha256": run.weights_sha256,
                "suite": board.protocol.conditions.suite,
                "dataset": board.protocol.conditions.dataset,
                "norm": board.protocol.conditions.norm,
                "eps": board.protocol.eps_exact,
                "total": run.robust.total,
                "clean_correct": run.clean.count,
                "clean_accuracy": run.clean.value,
                "robust_correct": run.robust.count,
                "robust_accuracy": run.robust.value,
            }
            for board, row, run in found
        ],
        ("System", "Seed", "Board", "Clean", "Robust"),
        [
            (
                row.label,
                str(run.seed),
                f"{radius(board.protocol)} ({suite_title(board.protocol)})",
                percent(run.clean.value, run.clean.low, run.clean.high),
                percent(run.robust.value, run.robust.low, run.robust.high),
            )
            for board, row, run in found
        ],
    )


def reviews_register(reviews: Mapping[str, ReviewFile], records: Mapping[str, Record]) -> DownloadTable:
    """One line per submitted record."""
    found = [(records[key], reviews[key]) for key in sorted(reviews) if key in records]
    return DownloadTable(
        "Submitted records, and the extent of their verification.",
        [
            {
                "record": record.key,
                "system": record.system.name,
                "attack": record.attack.label,
                "tier": review.tier,
                "because": review.why,
                "submitter": review.submitter.name,
            }
            for record, review in found
        ],
        ("Record", "System", "Attack", "Tier", "Submitted by"),
        [
            (record.key, record.system.name, record.attack.label, review.tier, review.submitter.name)
            for record, review in found
        ],
    )


def unfinished_register(cells: Sequence[Unfinished]) -> DownloadTable:
    """One line per cell without a result."""
    return DownloadTable(
        "Cells without a result.",
        [
            {
                "record": cell.key,
                "status": cell.status,
                "system": cell.system,
                "attack": cell.attack,
                "seed": cell.seed,
                "error": cell.error or None,
            }
            for cell in cells
        ],
        ("System", "Attack", "Seed", "Status", "Reason"),
        [(cell.system, cell.attack, str(cell.seed), cell.status, cell.error) for cell in cells],
    )


def published_register(sources: Sequence[Source]) -> DownloadTable:
    """One line per table of a publication."""
    found = [(source, listing) for source in sources for listing in listings(source)]
    return DownloadTable(
        "Results from the literature, not reproduced here: every source with its tables.",
        [
            {
                "source": source.title,
                "authors": source.authors,
                "year": source.year,
                "url": source.url,
                "table": place(listing),
                "entries": len(listing.lines),
            }
            for source, listing in found
        ],
        ("Source", "Year", "Table", "Entries"),
        [
            (source.title, str(source.year or "unknown"), place(listing), count(len(listing.lines)))
            for source, listing in found
        ],
    )
