"""`benchmark leaderboard check`: check a submission as data, prove its witnesses, and write the review.

Nothing in a submission is executed. Witnesses are proved by another process with bounded memory and time, which loads
only installed plugins, by name.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from benchmark import registry
from benchmark.errors import RecordError
from benchmark.records.card import Card
from benchmark.records.findings import ROUNDING
from benchmark.records.record import GIVEN, Record, read_record
from benchmark.sweep.suites import departure

from ..board import Alarm, Board, Leaderboard, Row
from ..cells.array_file import open_arrays
from ..cells.cell import Cell
from ..cells.load import RECORD, read, same_outcomes
from ..ranking.aggregate import aggregate
from ..ranking.grouping import recipe_key
from ..ranking.suites import required_attacks
from .check_cell import MASK, WEIGHTS, checked_card, checked_cell
from .check_outcomes import WITNESS
from .check_survivors import unfaithful_survivors
from .claims import contradictions, imitations, names_taken, only_lowers, owned_rows, unproved_certificates
from .parcel import opened, read_manifest
from .review import Assessment, Effect, Review, ReviewFile, Tier, comment, put, read_review
from .signature import is_maintainer, signer
from .tiers import TIERS, claimed

__all__ = ["check", "main"]

SECONDS = 1800
MEMORY = 16 << 30
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
    manifest = read_manifest(root)
    who = signer(root, results)
    refusals: list[str] = []
    cards = _each(root / "systems", checked_card, refusals)
    cells = _each(root / "cells", checked_cell, refusals)
    if not cells and not refusals:
        refusals.append("it has no cell; expected at least one")
    known, _ = read([folder for folder in results if folder.is_dir()])
    taken = names_taken(known, ((plugin.kind, plugin.name) for plugin in registry.declared()))
    for cell in cells.values():
        if cell.record.system.key in cards or not (root / "systems" / cell.record.system.key).exists():
            refusals += list(_misfits(cell, cards, cells, known, taken))[:1]
    unused = sorted(set(cards) - {cell.record.system.key for cell in cells.values()})
    if unused and not refusals:
        refusals.append(f"systems/{unused[0]} belongs to no cell of the submission")
    if refusals:
        return Review(tuple(refusals), manifest.submitter, manifest.note)
    reviews = _reviews(known)
    owned = owned_rows(who, cells, known, reviews)
    told = claimed(reviews)
    before, after = aggregate(known, claimed=told), aggregate([*known, *cells.values()], claimed=told)
    refusals += _gate(before, after, cells)
    again = {} if refusals else {key: _rerun(cell, store) for key, cell in cells.items()}
    refusals += [f"{cells[key].place} differs from the cell that was run here" for key in again if again[key] is False]
    refusals += [
        sentence for key, cell in cells.items() if not again.get(key) for sentence in unproved_certificates(cell, known)
    ]
    proofs = {} if refusals else _proved(root, cells, store, data)
    refusals += [f"cells/{key}: {proof.sentence}" for key, proof in proofs.items() if proof.fails]
    if not refusals:
        free = is_maintainer(who, results)
        strange = {k: cell for k, cell in cells.items() if not free and recipe_key(cell.record.system) not in owned}
        refusals += only_lowers(before, after, strange, {key: proof.proved for key, proof in proofs.items()})
    if refusals:
        return Review(tuple(refusals), manifest.submitter, manifest.note)
    assessments = tuple(
        _assessment(cells[key], proofs[key], again[key], _owners(cells[key], known, reviews), who)
        for key in sorted(cells)
    )
    unproved = {one.cell.record.key for one in assessments if one.tier == TIERS[0]}
    if unproved:  # rows of theirs alone lose the rank that they would have
        after = aggregate([*known, *cells.values()], claimed=told | unproved)
    return Review(
        submitter=manifest.submitter,
        note=manifest.note,
        assessments=assessments,
        effects=tuple(_effects(before, after)),
        warnings=tuple(_warnings(cells, known)),
        signed_by=who,
        owned=owned,
    )


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
    taken: Mapping[tuple[str, str], set[str]],
) -> Iterator[str]:
    """Contradictions between a valid cell and its system, its suite or the published results."""
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
    yield from contradictions(cell, known)
    yield from unfaithful_survivors(cell, {other.record.key: other for other in (*known, *cells.values())})
    yield from imitations(record, taken)
    if record.official and required_attacks(record.suite) is None:
        yield (
            f"{cell.place} calls itself official, but no suite {record.suite} is installed; submit it as unofficial, "
            "or to a board that has its suite"
        )
    departed = departure(record, card.test_total) if card and record.official and record.attack.name != GIVEN else None
    if departed:
        yield f"{cell.place} calls itself official, but {departed}; run the suite unchanged, or submit it as unofficial"
    for other in (*known, *(c for key, c in sorted(cells.items()) if key < record.key)):
        if other.record.key == record.key:
            yield f"{cell.place} is published already, as {other.place}; supersede that record if it was wrong"
        ours = (record.suite, record.system.dataset, record.dataset_revision)
        theirs = (other.record.suite, other.record.system.dataset, other.record.dataset_revision)
        lists = (record.examples_sha256, other.record.examples_sha256)
        if record.official and other.record.official and record.suite and ours == theirs and lists[0] != lists[1]:
            yield f"{cell.place} was made on another example list than the other cells of the suite"


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


# --- proofs ---


@dataclass(frozen=True)
class Proof:
    """Result of proving a witness. fails: it was disproved. sentence: the reason, or the proof."""

    proved: bool
    fails: bool
    sentence: str


def _proved(root: Path, cells: Mapping[str, Cell], store: Path | None, data: Path | None) -> dict[str, Proof]:
    """Prove every witness whose system can be loaded, by `benchmark verify` in another process."""
    found = {}
    by_store: dict[Path | None, list[str]] = {}
    known = {plugin.name for plugin in registry.declared() if plugin.kind == "dataset"}
    for key, cell in cells.items():
        if data is None or cell.record.system.dataset not in known:
            found[key] = Proof(False, False, "its data are not available")
        elif cell.record.threat.region.startswith("file") and not (cell.folder / MASK).is_file():
            found[key] = Proof(False, False, "its region is a mask file, which is not available")
        else:
            by_store.setdefault(_store_of(cell, root, store), []).append(key)
    for place, keys in by_store.items():
        found.update(_verified(root, keys, place, data or Path()))
    for key in [key for key in found if cells[key].record.system.brings_code and not found[key].fails]:
        found[key] = replace(found[key], sentence=f"{found[key].sentence}; {NOT_RUN}")
    return found


NOT_RUN = "its model is the submitter's own code, which no check runs"


def _store_of(cell: Cell, root: Path, store: Path | None) -> Path | None:
    """Store with the system's weights; None if there is none, or rebuilding it would run a submitter's code."""
    if cell.record.system.brings_code:
        return None
    places = [root, *([store] if store else [])]
    return next((p for p in places if (p / "systems" / cell.record.system.key / WEIGHTS).is_file()), None)


def _verified(root: Path, keys: Sequence[str], store: Path | None, data: Path) -> dict[str, Proof]:
    """Run `benchmark verify` on these cells: a proof with weights from the store, or distances without weights."""
    command = [sys.executable, "-m", "benchmark", "verify", "--data", str(data)]
    command += ["--store", str(store)] if store else ["--distances"]
    command += [str(root / "cells" / key) for key in keys]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=SECONDS, preexec_fn=_bound_memory
        )
    except subprocess.TimeoutExpired:
        sentence = f"its witness was not proved within {SECONDS} seconds"
        return {key: Proof(False, False, sentence) for key in keys}
    said = {}
    for line in done.stdout.splitlines():
        word, _, rest = line.partition(" ")
        key, _, sentence = rest.strip().partition(" ")
        said[key] = Proof(word == "verified", word == "FAILED", sentence.strip())
    if store is None:
        said = {key: replace(proof, sentence=_without_weights(proof)) for key, proof in said.items()}
    missing = Proof(False, True, "its witness could not be proved: the proving process died")
    return {key: said.get(key, missing) for key in keys}


def _without_weights(proof: Proof) -> str:
    return proof.sentence if proof.fails else f"{proof.sentence}; its system's weights are not available"


def _bound_memory() -> None:
    """Limit the memory of the proving process, and forbid it large files."""
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))


def _rerun(cell: Cell, store: Path | None) -> bool | None:
    """True if the cell equals the reviewer's own run; None if the store has none."""
    folder = store / "cells" / cell.record.key if store else None
    if folder is None or not (folder / RECORD).is_file():
        return None
    return same_outcomes(cell.record, read_record(folder))


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


# --- effects ---


def _effects(before: Leaderboard, after: Leaderboard) -> Iterator[Effect]:
    """Every row whose rank interval or robust accuracy differs."""
    old = {(board.protocol.key, row.key): (row, board) for board in before.boards for row in board.rows}
    for board in after.boards:
        for row in board.rows:
            was = old.get((board.protocol.key, row.key))
            if was is None or _place(was[0]) != _place(row):
                yield Effect(
                    board=_name(board),
                    row=row.label,
                    rank=_rank(row),
                    robust=row.robust.value,
                    total=row.robust.total,
                    before="new" if was is None else f"{_rank(was[0])}, {was[0].robust.value:.4f}",
                )


def _place(row: Row) -> tuple[int | None, int | None, float]:
    return (row.ranks.low, row.ranks.high, row.robust.value) if row.ranks else (None, None, row.robust.value)


def _rank(row: Row) -> str:
    of = row.ranks
    if of is None:
        return "not ranked"
    return str(of.low) if of.low == of.high else f"{of.low} to {of.high}"


def _name(board: Board) -> str:
    p = board.protocol
    of = p.conditions
    suite = f"{of.suite}{'' if of.official else ' (changed)'}" if of.suite else "no suite"
    return f"{suite}, {of.dataset}, {of.norm} {p.eps_exact}"


def _warnings(cells: Mapping[str, Cell], known: Sequence[Cell]) -> Iterator[str]:
    """Notes for the reviewer that are no reason to refuse."""
    owners = {cell.record.weights_sha256: cell for cell in known}
    for cell in cells.values():
        same = owners.get(cell.record.weights_sha256)
        if same is not None and same.record.system.key != cell.record.system.key:
            yield f"{cell.place} has the weights of {same.place} under another description"
        for finding in cell.record.findings:
            yield f"{cell.place} has the finding {finding.name} ({finding.severity}): {finding.evidence}"
