"""Review of a submission: as a comment, and as a file beside each accepted record."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from benchmark import __version__
from benchmark.errors import RecordError
from benchmark.records.document import to_text
from benchmark.records.durable import file_sha256, write_atomic
from benchmark.records.record import Record

from ..cells.cell import Cell
from ..cells.load import RECORD
from ..cells.sidecar import read_sidecar
from ..ranking.grouping import base_label, recipe_key
from .check_text import quoted
from .parcel import Submitter

__all__ = [
    "RESERVED",
    "REVIEW",
    "Assessment",
    "Effect",
    "Review",
    "ReviewFile",
    "Tier",
    "comment",
    "put",
    "read_review",
    "suite_folder",
]  # fmt: skip

REVIEW = "review.json"
Tier = Literal["self-reported", "witness-verified", "re-run", "independently attacked"]
MOST_LINES = 50


@dataclass(frozen=True)
class Assessment:
    """One acceptable cell. why: basis of the tier."""

    cell: Cell
    tier: Tier
    why: str


@dataclass(frozen=True)
class Effect:
    """A row whose rank or value on a board changes. rank: interval, or not ranked. before: earlier rank and value."""

    board: str
    row: str
    rank: str
    robust: float
    total: int
    before: str


@dataclass(frozen=True)
class Review:
    """Result of a check. refusals: one sentence each, empty if the submission may be accepted.

    signed_by: principal of its signature. owned: keys of the rows that the signer owns.
    """

    refusals: tuple[str, ...] = ()
    submitter: Submitter | None = None
    note: str = ""
    assessments: tuple[Assessment, ...] = ()
    effects: tuple[Effect, ...] = ()
    warnings: tuple[str, ...] = ()
    signed_by: str = ""
    owned: frozenset[str] = frozenset()

    @property
    def accepted(self) -> bool:
        """True if there is no reason to refuse it."""
        return not self.refusals


class ReviewFile(BaseModel):
    """File beside an accepted record. record_sha256: of the checked record, so that the two cannot diverge.

    signed_by: principal of the signature, "" without one. owner: the signer owns the row, having submitted it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    schema_version: Literal[1] = 1
    key: str
    tier: Tier
    why: str
    submitter: Submitter
    record_sha256: str
    checked_with: str
    signed_by: str = ""
    owner: bool = False


def comment(review: Review) -> str:
    """Review in Markdown. The submitter's text is shown as code, on one line."""
    return "\n".join(_lines(review)) + "\n"


def _lines(review: Review) -> Iterator[str]:
    yield f"## {'Can be accepted' if review.accepted else 'Refused'}"
    yield ""
    if review.submitter is not None:
        signed = f", signed by {quoted(review.signed_by)}" if review.signed_by else ", not signed"
        note = f" Note: {quoted(review.note)}" if review.note else ""
        yield f"Submitted by {quoted(review.submitter.name)}{signed}.{note}"
        yield ""
    for sentence in review.refusals[:MOST_LINES]:
        yield f"- {quoted(sentence, 600)}"
    if len(review.refusals) > MOST_LINES:
        yield f"- and {len(review.refusals) - MOST_LINES} more"
    if review.assessments:
        yield "| cell | system | attack | robust | tier | why |"
        yield "|---|---|---|---|---|---|"
        for one in review.assessments:
            record = one.cell.record
            counts = record.counts
            share = f"{counts.robust_correct} of {counts.total}" if counts else ""
            system = base_label(record.system)
            yield (
                f"| {quoted(record.key)} | {quoted(system, 80)} | {quoted(record.attack.label, 40)} | {share} "
                f"| {one.tier} | {quoted(one.why)} |"
            )
        yield ""
    if review.effects:
        yield "| board | row | robust accuracy | rank | before |"
        yield "|---|---|---|---|---|"
        for effect in review.effects[:MOST_LINES]:
            yield (
                f"| {quoted(effect.board, 100)} | {quoted(effect.row, 80)} | {effect.robust:.4f} of {effect.total} "
                f"| {effect.rank} | {quoted(effect.before)} |"
            )
        if len(review.effects) > MOST_LINES:
            yield f"\n{len(review.effects) - MOST_LINES} more rows change."
        yield ""
    for warning in review.warnings[:MOST_LINES]:
        yield f"- note: {quoted(warning, 600)}"


def put(review: Review, into: Path) -> None:
    """Add the accepted cells to the folder, each with its review, without replacing anything.

    Cells of a suite are added to the folder of that suite.

    Raises:
        RecordError: if a cell exists already.
    """
    assert review.submitter is not None
    for one in review.assessments:
        record = one.cell.record
        final = into / suite_folder(record) / record.key
        if final.exists():
            raise RecordError(f"{final} exists already; results are never replaced: supersede the old one instead")
        final.parent.mkdir(parents=True, exist_ok=True)
        made = final.with_name(f".{record.key}.part")
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
        for name in (RECORD, *(file.path for file in record.files)):
            shutil.copyfile(one.cell.folder / name, made / name)
        sidecar = ReviewFile(
            key=record.key,
            tier=one.tier,
            why=one.why,
            submitter=review.submitter,
            record_sha256=file_sha256(made / RECORD),
            checked_with=__version__,
            signed_by=review.signed_by,
            owner=recipe_key(record.system) in review.owned,
        )
        write_atomic(made / REVIEW, to_text(sidecar))
        made.rename(final)


RESERVED = ("allowed_signers", "cells", "maintainers", "reported", "systems", "transfer", "work")
"""Names of files and folders beside published results, which no suite may have, nor one that ends with .json."""


def suite_folder(record: Record) -> str:
    """Folder of a record's suite among published results."""
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in record.suite or "no-suite").lstrip(".")


def read_review(folder: Path) -> ReviewFile | None:
    """Review beside a record; None for results that were not submitted.

    Raises:
        RecordError: if it is malformed, or belongs to another record than the one beside it.
    """
    return read_sidecar(folder, REVIEW, ReviewFile, "a review")
