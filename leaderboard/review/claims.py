"""Claims of a submission about published results: a key names one system for ever, and strangers only lower a row."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmark.records.content import PREFIX
from benchmark.records.described import SystemInfo
from benchmark.records.document import content_key, system_key
from benchmark.records.findings import FINDINGS, ROUNDING
from benchmark.records.record import Record

from ..board import Leaderboard, Row
from ..cells.cell import Cell
from ..cells.evidence import certified_radii, clean_answers
from ..ranking.alarms import TRANSFER
from ..ranking.grouping import base_label, recipe_key
from .check_text import folded
from .review import ReviewFile

__all__ = [
    "added_systems",
    "contradictions",
    "foreign_findings",
    "foreign_surrogate",
    "imitations",
    "key_of",
    "names_files",
    "names_taken",
    "only_lowers",
    "owned_rows",
    "reads_files",
    "unproved_certificates",
]

DRAWN = 0.05
"""Share of clean predictions that may differ between two cells of a randomised system."""
FILE = re.compile(r"[/\\]|\.[A-Za-z]\w{0,9}$")


def key_of(system: SystemInfo, seed: int, revision: str) -> str | None:
    """Content address of a system, from its card; None for one of 0.1 that reads its user's files."""
    if "harness" in system.config:  # inputs stand in the settings by their content
        return system_key(system.config, seed, revision)
    if reads_files(system):
        return None
    data = content_key({"dataset": revision, "files": {}})
    return content_key({"system": system.config, "seed": seed, "data": data})


def reads_files(system: SystemInfo) -> bool:
    """True if a setting of the system looks like the path of a file, whose content is part of its key."""
    return any(FILE.search(text) for text in _settings(system.config))


def names_files(settings: Any) -> bool:
    """True if a setting is the path of a file, or identifies one by its content."""
    return any(text.startswith(PREFIX) or FILE.search(text) for text in _settings(settings))


def _settings(config: Any) -> Iterator[str]:
    if isinstance(config, dict):
        for name, value in config.items():
            if name not in ("version", "distribution"):
                yield from _settings(value)
    elif isinstance(config, list):
        for value in config:
            yield from _settings(value)
    elif isinstance(config, str) and not re.fullmatch(r"\d+/\d+", config):
        yield config


def contradictions(cell: Cell, known: Sequence[Cell]) -> Iterator[str]:
    """Contradictions between a cell and its system's published cells: description, weights, labels."""
    record = cell.record
    same = [other for other in known if other.record.system.key == record.system.key]
    for other in same:
        theirs = other.record
        if theirs.system != record.system or theirs.seed != record.seed:
            yield f"{cell.place} contradicts {other.place} in the description of the system {record.system.key}"
        elif theirs.weights_sha256 != record.weights_sha256:
            yield (
                f"{cell.place} has other weights than {other.place}, but the key {record.system.key} belongs to the "
                "published ones; a retrained system needs another seed or setting"
            )
        elif theirs.dataset_revision != record.dataset_revision:
            yield f"{cell.place} was made on another revision of the dataset than {other.place}"
    complete = [other for other in same if other.record.status == "complete"]
    yield from list(_clean_contradictions(cell, complete))[:1]


def _clean_contradictions(cell: Cell, known: Sequence[Cell]) -> Iterator[str]:
    """Sentences about clean predictions that differ from the published ones.

    An example that every published cell classifies correctly cannot be wrong in another cell of the same weights: each
    such example would lower the row without any attack. A randomised system may differ in a few.
    """
    drawn = any(f.name == "randomized_outputs" for other in known for f in other.record.findings)
    ids, right = clean_answers(cell)
    for other in known:
        their_ids, their_right = clean_answers(other)
        _, mine, theirs = np.intersect1d(ids, their_ids, return_indices=True)
        lost = ids[mine][their_right[theirs] & ~right[mine]]
        differing = int(np.count_nonzero(their_right[theirs] != right[mine]))
        allowed = (DRAWN if drawn else ROUNDING) * len(mine)
        if (len(lost) and not drawn) or differing > allowed:
            first = int(lost[0]) if len(lost) else int(ids[mine][their_right[theirs] != right[mine]][0])
            yield (
                f"{cell.place} has other clean predictions than {other.place} for {differing} of {len(mine)} examples "
                f"(first example {first}); the weights are the same, so run the cell again on the same kind of device"
            )


def owned_rows(
    who: str, cells: Mapping[str, Cell], known: Sequence[Cell], reviews: Mapping[str, ReviewFile]
) -> frozenset[str]:
    """Keys of the rows that a signer owns, through earlier submissions and this one.

    Args:
        who: the signer, "" for nobody, who owns nothing. reviews: of published cells, by key.
    """
    if not who:
        return frozenset()
    there = {recipe_key(cell.record.system) for cell in known}
    mine = {
        recipe_key(cell.record.system)
        for cell in known
        if (review := reviews.get(cell.record.key)) is not None and review.owner and review.signed_by == who
    }
    here = {recipe_key(cell.record.system) for cell in cells.values()}
    return frozenset((here & mine) | (here - there))


def unproved_certificates(cell: Cell, known: Sequence[Cell]) -> Iterator[str]:
    """A sentence about certified radii beyond the published ones, which no witness proves: only another run does."""
    ids, radius = certified_radii(cell)
    beyond = radius > 0
    for other in known:
        same = other.record.system.key == cell.record.system.key and other.record.status == "complete"
        if same and other.record.threat.norm == cell.record.threat.norm:
            their_ids, their_radius = certified_radii(other)
            _, mine, theirs = np.intersect1d(ids, their_ids, return_indices=True)
            beyond[mine] &= radius[mine] > their_radius[theirs]
    if beyond.any():
        yield (
            f"{cell.place} certifies {int(beyond.sum())} examples, but no witness proves a radius; certificates are "
            "accepted once the reviewer's own run, in the store of --store, has the same outcomes"
        )


def foreign_surrogate(cell: Cell, known: Sequence[Cell]) -> Iterator[str]:
    """A sentence about an official cell from another surrogate than the published ones of its suite.

    It would be a column of its own, which every ranked row of the suite must have.
    """
    record = cell.record
    if not record.official or not record.threat.surrogate:
        return
    others = [other.record for other in known if other.record.official and other.record.suite == record.suite]
    same = {other.threat.surrogate for other in others}
    if record.threat.access != TRANSFER or (same and record.threat.surrogate not in same):
        yield (
            f"{cell.place} calls itself official, but was made on another surrogate than the published cells of the "
            "suite; submit it as unofficial"
        )


def names_taken(known: Sequence[Cell], installed: Iterable[tuple[str, str]]) -> dict[tuple[str, str], set[str]]:
    """Installed and published names, by kind and by skeleton (:func:`.check_text.folded`).

    Args:
        installed: (kind, name) of every plugin.
    """
    taken: dict[tuple[str, str], set[str]] = defaultdict(set)
    for kind, name in {*installed, *(pair for cell in known for pair in _names(cell.record))}:
        taken[kind, folded(name)].add(name)
    return taken


def imitations(record: Record, taken: Mapping[tuple[str, str], set[str]]) -> Iterator[str]:
    """Sentences about names of the record that look like another existing name."""
    for kind, name in _names(record):
        others = taken.get((kind, folded(name)), {name})
        if name not in others:
            yield (f"the {kind} {name!r} looks like the {kind} {min(others)!r}; choose another name")


def _names(record: Record) -> Iterator[tuple[str, str]]:
    system = record.system
    yield from [("suite", record.suite)] if record.suite else []
    yield from (("dataset", system.dataset), ("model", system.model), ("attack", record.attack.name))
    yield from (("defense", name) for name in system.defenses)
    yield from (("poison", name) for name in system.poison)


def added_systems(cells: Mapping[str, Cell], known: Sequence[Cell]) -> Iterator[str]:
    """Sentences about trained systems that a stranger's cells add to published rows, on whatever board."""
    published: dict[str, set[str]] = defaultdict(set)
    for cell in known:
        published[recipe_key(cell.record.system)].add(cell.record.system.key)
    for _, cell in sorted(cells.items()):
        system = cell.record.system
        if system.key not in published.get(recipe_key(system), {system.key}):
            yield (
                f"{cell.place} adds the trained system {system.key} to the published row {base_label(system)}; only "
                "its owner adds seeds to a row, in a signed submission"
            )


def foreign_findings(cell: Cell, known: Sequence[Cell], proved: bool) -> Iterator[str]:
    """A sentence about findings that a stranger would put on a published row: nobody has verified them.

    Args:
        proved: the witness was proved on the system, and the derived findings with it.
    """
    row = recipe_key(cell.record.system)
    if not any(recipe_key(other.record.system) == row for other in known):
        return
    for finding in cell.record.findings:
        if not proved or finding.name not in FINDINGS:
            yield (
                f"{cell.place} would put the finding {finding.name} on a published row; findings about the system of "
                "somebody else are accepted if the harness makes them and the weights prove the cell"
            )
            return


def only_lowers(
    before: Leaderboard, after: Leaderboard, cells: Mapping[str, Cell], proved: Mapping[str, bool]
) -> Iterator[str]:
    """Sentences about published rows that a stranger's cells change by anything but proved adversarial examples.

    A cell changes rows of other boards too: of larger radii, and of attackers who know more.

    Args:
        cells: those of the submission, by key. proved: True if the witness of a cell was proved on the system.
    """
    theirs: dict[str, list[str]] = defaultdict(list)
    for key, cell in sorted(cells.items()):
        theirs[recipe_key(cell.record.system)].append(key)
    rows = {(board.protocol.key, row.key): row for board in after.boards for row in board.rows}
    for board in before.boards:
        for old in board.rows:
            new = rows.get((board.protocol.key, old.key))
            if old.key in theirs and new is not None:
                yield from list(_changes(old, new, [key for key in theirs[old.key] if not proved.get(key)]))[:1]


def _changes(old: Row, new: Row, unproved: Sequence[str]) -> Iterator[str]:
    if new.robust.count > old.robust.count or new.clean.count != old.clean.count:
        yield (
            f"it would move {old.label} from {old.robust.count:g} to {new.robust.count:g} robust and from "
            f"{old.clean.count:g} to {new.clean.count:g} correct examples; only its owner may do more than lower a "
            "row by adversarial examples"
        )
    if new.robust.count < old.robust.count and unproved:
        yield (
            f"cells/{unproved[0]} would lower the published row {old.label}, but its witness was not proved; provide "
            "the weights or the data for that"
        )
