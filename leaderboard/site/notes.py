"""Authors' notes on their systems: the file `systems.json` beside the published results, by the key of the row."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from benchmark.errors import RecordError
from benchmark.records.described import NormName

from ..board import Board, Leaderboard, Row
from ..cells.strict_json import strict_json
from ..cells.texts import check_texts
from ..words.downloads import bibtex_entry

__all__ = ["NOTES", "SystemNote", "citation", "read_notes", "with_claims"]

NOTES = "systems.json"
ROW = re.compile(r"[0-9a-f]{1,64}")
ShortText = Annotated[str, Field(max_length=300)]
Address = Annotated[str, Field(max_length=300, pattern=r"^(https://[A-Za-z0-9._~:/?#@!&*+,;=%-]+)?$")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Claim(_Model):
    """Robust accuracy reported by the authors, under attacks of their own. eps: exact, such as 8/255."""

    norm: NormName
    eps: str = Field(max_length=40, pattern=r"^\d{1,9}(/[1-9]\d{0,8})?$")
    robust_accuracy: float = Field(ge=0, le=1)


class SystemNote(_Model):
    """Statements about a system that no record proves; all are optional.

    parameters: number of the model's parameters. extra_data: other data than the training split were used. weights:
    URL, with their sha256. claims: reported robust accuracies.
    """

    title: ShortText = ""
    authors: ShortText = ""
    venue: ShortText = ""
    year: int | None = Field(default=None, ge=1950, le=2100)
    paper: Address = ""
    code: Address = ""
    architecture: ShortText = ""
    parameters: int | None = Field(default=None, ge=0, le=10**15)
    extra_data: bool | None = None
    hardware: ShortText = ""
    training_time: ShortText = ""
    licence: ShortText = ""
    weights: Address = ""
    weights_sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    claims: tuple[Claim, ...] = Field(default=(), max_length=50)


def read_notes(results: Sequence[Path]) -> dict[str, SystemNote]:
    """Notes of every folder, by the key of the row; of two on one row the first counts.

    Raises:
        RecordError: if a file is malformed, or has suspicious text.
    """
    found: dict[str, SystemNote] = {}
    for file in (folder / NOTES for folder in results if (folder / NOTES).is_file()):
        data = file.read_bytes()
        document = strict_json(data, NOTES)
        try:
            notes = TypeAdapter(dict[str, SystemNote]).validate_json(data, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the document"
            raise RecordError(f"{NOTES} is not as expected: {place}: {first['msg']}") from error
        check_texts(document, NOTES)
        if strange := [key for key in document if not ROW.fullmatch(key)]:
            raise RecordError(f"{NOTES} has the key {strange[0][:40]!r}; expected that of a row, as on its page")
        found = {**notes, **found}
    return found


def with_claims(leaderboard: Leaderboard, notes: Mapping[str, SystemNote]) -> Leaderboard:
    """Leaderboard whose rows include their authors' claims at the radius of the board."""
    if not any(note.claims for note in notes.values()):
        return leaderboard
    boards = [
        replace(board, rows=tuple(replace(row, claimed=_claimed(board, row, notes)) for row in board.rows))
        for board in leaderboard.boards
    ]
    return replace(leaderboard, boards=tuple(boards))


def _claimed(board: Board, row: Row, notes: Mapping[str, SystemNote]) -> float | None:
    of = board.protocol
    claims = notes[row.key].claims if row.key in notes else ()
    return next(
        (
            claim.robust_accuracy
            for claim in claims
            if claim.norm == of.conditions.norm and Fraction(claim.eps) == Fraction(of.eps_exact)
        ),
        None,
    )


def citation(row: Row, note: SystemNote) -> str:
    """BibTeX entry of the publication of a system, "" if the note has no title."""
    if not note.title:
        return ""
    fields = {
        "title": note.title,
        "author": " and ".join(part.strip() for part in note.authors.split(",") if part.strip()),
        "booktitle": note.venue,
        "year": str(note.year or ""),
        "url": note.paper,
    }
    return bibtex_entry("inproceedings" if note.venue else "misc", f"system-{row.key[:12]}", fields)
