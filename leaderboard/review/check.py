"""`benchmark leaderboard check`: check a submission as data, prove its witnesses, and write the review.

Nothing in a submission is executed. Witnesses are proved by another process with bounded memory and time, which loads
only installed plugins, by name.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from benchmark import registry
from benchmark.errors import RecordError
from benchmark.records.card import Card
from benchmark.records.findings import ROUNDING
from benchmark.records.record import Finding, Record
from benchmark.sweep.suites import departure

from ..board import Alarm, Leaderboard
from ..cells.array_file import open_arrays
from ..cells.cell import Cell
from ..cells.load import read, shown
from ..ranking.aggregate import aggregate
from ..ranking.grouping import recipe_key
from ..ranking.suites import required_attacks, suites
from .check_cell import checked_card, checked_cell
from .check_outcomes import WITNESS
from .check_survivors import unfaithful_survivors
from .claims import (
    added_systems,
    contradictions,
    foreign_findings,
    foreign_surrogate,
    imitations,
    names_taken,
    only_lowers,
    owned_rows,
    unproved_certificates,
)
from .effects import effects
from .parcel import opened, read_manifest
from .proofs import Proof, prove, rerun
from .review import RESERVED, Assessment, Review, ReviewFile, Tier, comment, put, read_review, suite_folder
from .signature import is_maintainer, signer
from .tiers import TIERS, claimed

__all__ = ["check", "main"]

Part = TypeVar("Part")


def main(path: Path, results: Sequence[Path], *, store: Path | None, data: Path, into: Path | None) -> int:
    """Check a submission and print the review; returns 1 if it is refused. An accepted one is added to `into`."""
    try:
        with opened(path) as root:
            review = check(root, results, store=store, data=data)
            if into is not None and review.accepted:
                put(review, into)
    except RecordError as error:
        review = Review(refusals=(str(error),))
    sys.stdout.write(comment(review))
    return 0 if review.accepted else 1


def check(root: Path, results: Sequence[Path] = (), *, store: Path | None = None, data: Path | None = None) -> Review:
    """Review of an opened submission.

    Args:
        results: folders of the published results. store: with trained systems, besides those of the submission.
        data: with data files; None proves no witness.

    Raises:
        RecordError: if the manifest does not describe the files.
    """
    manifest, who = read_manifest(root), signer(root, results)
    ever, _ = read([folder for folder in results if folder.is_dir()], withdrawn=True)
    known = shown(ever)
    cells, refusals = _cells(root, known, ever)
    if refusals:
        return Review(tuple(refusals), manifest.submitter, manifest.note)
    reviews = _reviews(ever)
    owned = owned_rows(who, cells, ever, reviews)
    told = claimed(reviews)
    before, after = aggregate(known, claimed=told), aggregate([*known, *cells.values()], claimed=told)
    refusals += _gate(before, after, cells)
    again = {} if refusals else {key: rerun(cell, store) for key, cell in cells.items()}
    refusals += [f"{cells[key].place} differs from the cell that was run here" for key in again if again[key] is False]
    refusals += [
        sentence for key, cell in cells.items() if not again.get(key) for sentence in unproved_certificates(cell, known)
    ]
    proofs = {} if refusals else prove(root, cells, store, data)
    refusals += [f"cells/{key}: {proof.sentence}" for key, proof in proofs.items() if proof.fails]
    if not refusals:
        free = is_maintainer(who, results)
        strange = {k: cell for k, cell in cells.items() if not free and recipe_key(cell.record.system) not in owned}
        proved = {key: proof.proved or bool(again[key]) for key, proof in proofs.items()}
        refusals += list(added_systems(strange, ever)) or list(only_lowers(before, after, strange, proved))
        refusals += [s for key, cell in strange.items() for s in foreign_findings(cell, ever, proved[key])]
    if refusals:
        return Review(tuple(refusals), manifest.submitter, manifest.note)
    assessments = tuple(
        _assessment(cells[key], proofs[key], again[key], _owners(cells[key], ever, reviews), who)
        for key in sorted(cells)
    )
    unproved = {one.cell.record.key for one in assessments if one.tier == TIERS[0]}
    if unproved:  # rows of theirs alone lose the rank that they would have
        after = aggregate([*known, *cells.values()], claimed=told | unproved)
    return Review(
        submitter=manifest.submitter,
        note=manifest.note,
        assessments=assessments,
        effects=tuple(effects(before, after)),
        warnings=tuple(_warnings(cells, known)),
        signed_by=who,
        owned=owned,
    )


def _cells(root: Path, known: Sequence[Cell], ever: Sequence[Cell]) -> tuple[dict[str, Cell], list[str]]:
    """The cells of a submission by key, and why it is refused as far as its files alone tell.

    Args:
        known: published cells. ever: also those that were withdrawn, whose keys and names stay taken.
    """
    refusals: list[str] = []
    cards = _each(root / "systems", checked_card, refusals)
    cells = _each(root / "cells", checked_cell, refusals)
    if not cells and not refusals:
        refusals.append("it has no cell; expected at least one")
    installed = [*((plugin.kind, plugin.name) for plugin in registry.declared()), *(("suite", s) for s in suites())]
    taken = names_taken(ever, installed)
    for cell in cells.values():
        if cell.record.system.key in cards or not (root / "systems" / cell.record.system.key).exists():
            refusals += list(_misfits(cell, cards, cells, known, ever, taken))[:1]
    unused = sorted(set(cards) - {cell.record.system.key for cell in cells.values()})
    if unused and not refusals:
        refusals.append(f"systems/{unused[0]} belongs to no cell of the submission")
    return cells, refusals


def _each(folder: Path, look: Callable[[Path], Part], refusals: list[str]) -> dict[str, Part]:
    """Apply `look` to each folder in `folder`, by name; an error becomes a refusal."""
    made = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        try:
            made[path.name] = look(path)
        except RecordError as error:
            refusals.append(str(error))
    return made


def _misfits(
    cell: Cell,
    cards: Mapping[str, Card],
    cells: Mapping[str, Cell],
    known: Sequence[Cell],
    ever: Sequence[Cell],
    taken: Mapping[tuple[str, str], set[str]],
) -> Iterator[str]:
    """Contradictions between a valid cell and its system, its suite or the published results; see :func:`_cells`."""
    record = cell.record
    card = cards.get(record.system.key)
    if card is None:
        yield f"systems/{record.system.key}/card.json is missing, but {cell.place} needs it"
    elif card.system != record.system or card.seed != record.seed:
        yield f"{cell.place} contradicts the card in systems/{card.key} in the description of its system"
    elif card.weights_sha256 != record.weights_sha256:
        yield f"{cell.place} was made with other weights than the card in systems/{card.key} names"
    elif card.dataset_revision != record.dataset_revision:
        yield f"{cell.place} was made with another revision of the dataset than its system"
    elif _surprising(card, record):
        assert record.counts is not None
        yield (
            f"{cell.place} is correct on {record.counts.clean_correct} clean examples of {card.test_total}, but the "
            f"card of its system says {card.test_correct}"
        )
    yield from contradictions(cell, ever)
    folder = suite_folder(record).lower()
    if folder in RESERVED or folder.endswith(".json"):
        yield f"{cell.place} is of the suite {record.suite!r}, a file or folder of every board; choose another name"
    yield from unfaithful_survivors(cell, {other.record.key: other for other in (*known, *cells.values())})
    yield from imitations(record, taken)
    if record.official and required_attacks(record.suite) is None:
        yield (
            f"{cell.place} calls itself official, but no suite {record.suite} is installed; submit it as unofficial, "
            "or to a board that has its suite"
        )
    departed = departure(record, card.test_total) if card and record.official else None
    if departed:
        yield f"{cell.place} calls itself official, but {departed}; run the suite unchanged, or submit it as unofficial"
    yield from foreign_surrogate(cell, known)
    for other in (*ever, *(c for key, c in sorted(cells.items()) if key < record.key)):
        if other.record.key == record.key:
            yield f"{cell.place} is published already, as {other.place}; supersede that record if it was wrong"
        ours = (record.suite, record.system.dataset, record.dataset_revision)
        theirs = (other.record.suite, other.record.system.dataset, other.record.dataset_revision)
        lists = (record.examples_sha256, other.record.examples_sha256)
        if record.official and other.record.official and record.suite and ours == theirs and lists[0] != lists[1]:
            yield f"{cell.place} was made on another example list than the other cells of the suite"
        if record.official and other.record.official and record.suite and ours[:2] == theirs[:2] and ours != theirs:
            yield (
                f"{cell.place} was made on another revision of {record.system.dataset} than the published cells of the "
                "suite, so it would stand alone on a board of the same name"
            )


def _surprising(card: Card, record: Record) -> bool:
    """True if the clean accuracy of a deterministic system differs from its card's, on the same test examples."""
    if record.counts is None or record.counts.total != card.test_total:
        return False
    drawn = "randomized_outputs" in [finding.name for finding in record.findings]
    return (
        not drawn
        and record.threat.goal != "top5"
        and abs(record.counts.clean_correct - card.test_correct) > ROUNDING * card.test_total
    )


def _alarms(leaderboard: Leaderboard) -> Iterator[Alarm]:
    for board in leaderboard.boards:
        yield from board.alarms
        for row in board.rows:
            yield from row.alarms


def _gate(before: Leaderboard, after: Leaderboard, cells: Mapping[str, Cell]) -> Iterator[str]:
    """Errors that the board's own checks raise for the new cells."""
    for problem in after.problems:
        if problem not in before.problems:
            yield problem.sentence
    old = {(alarm.name, alarm.row) for alarm in _alarms(before)}
    for alarm in _alarms(after):
        if alarm.severity == "error" and (alarm.name, alarm.row) not in old and set(alarm.keys) & set(cells):
            yield f"the board would raise the alarm {alarm.name}: {alarm.evidence}"


def _reviews(known: Sequence[Cell]) -> dict[str, ReviewFile]:
    """Reviews of published cells, by key."""
    found = {cell.record.key: read_review(cell.folder) for cell in known}
    return {key: review for key, review in found.items() if review is not None}


def _owners(cell: Cell, known: Sequence[Cell], reviews: Mapping[str, ReviewFile]) -> list[str]:
    """Signers who submitted the row of a cell, sorted."""
    row = recipe_key(cell.record.system)
    same = [other.record.key for other in known if recipe_key(other.record.system) == row]
    return sorted({reviews[key].signed_by for key in same if key in reviews and reviews[key].owner} - {""})


def _assessment(cell: Cell, proof: Proof, again: bool | None, owners: Sequence[str], who: str) -> Assessment:
    """Strongest tier that holds: independently attacked, re-run, witness-verified or self-reported.

    Args:
        owners: of the system's row. who: signer of the cell; unsigned names do not prove independence.
    """
    if not len(open_arrays(cell.folder / WITNESS, WITNESS).read("ids")) and not again:
        return Assessment(cell, "self-reported", "it broke nothing, so there is no witness to prove")
    if who and owners and who not in owners and proof.proved:
        return Assessment(cell, "independently attacked", f"{proof.sentence}, of a system submitted by {owners[0]}")
    if again:
        return Assessment(cell, "re-run", "the reviewer's own run gives the same outcomes")
    tier: Tier = "witness-verified" if proof.proved else "self-reported"
    return Assessment(cell, tier, proof.sentence)


def _warnings(cells: Mapping[str, Cell], known: Sequence[Cell]) -> Iterator[str]:
    """Notes for the reviewer that are no reason to refuse."""
    owners = {cell.record.weights_sha256: cell for cell in known}
    for cell in cells.values():
        same = owners.get(cell.record.weights_sha256)
        if same is not None and same.record.system.key != cell.record.system.key:
            yield f"{cell.place} has the weights of {same.place} under another description"
    places: dict[Finding, list[str]] = defaultdict(list)
    for cell in cells.values():
        for finding in cell.record.findings:
            places[finding].append(cell.place)
    for finding, named in places.items():
        have = f"{named[0]} has" if len(named) == 1 else f"{named[0]} and {len(named) - 1} more have"
        yield f"{have} the finding {finding.name} ({finding.severity}): {finding.evidence}"
