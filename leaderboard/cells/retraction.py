"""Withdrawal of results, which are never deleted: a file beside the record gives the reason.

``retracted.json`` removes a record from the boards; ``superseded.json`` replaces it by another record.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmark.errors import RecordError
from benchmark.records.document import to_text

from .strict_json import strict_json

__all__ = ["RETRACTED", "SUPERSEDED", "Withdrawal", "withdraw", "withdrawal"]

RETRACTED = "retracted.json"
SUPERSEDED = "superseded.json"


class Withdrawal(BaseModel):
    """Withdrawal of a record. by: key of its successor, "" if it was retracted."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    schema_version: Literal[1] = 1
    reason: str = Field(min_length=1, max_length=2000)
    by: str = Field(default="", pattern=r"^([0-9a-f]{24})?$")
    date: str = Field(pattern=r"^20\d{2}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$")

    @property
    def sentence(self) -> str:
        """Status of the record, as a predicate."""
        what = f"superseded by {self.by}" if self.by else "retracted"
        return f"was {what} on {self.date}: {self.reason}"


def withdraw(folder: Path, reason: str, *, by: str = "") -> Path:
    """Write a withdrawal beside the record in `folder`; returns its path.

    Raises:
        RecordError: if there is no record, it was withdrawn before, or `by` is not the key of another record.
    """
    if not (folder / "record.json").is_file():
        raise RecordError(f"{folder} has no record.json; give the folder of a published cell")
    if any((folder / name).exists() for name in (RETRACTED, SUPERSEDED)):
        raise RecordError(f"{folder} was withdrawn before; a withdrawal cannot be changed")
    try:
        made = Withdrawal(reason=reason, by=by, date=datetime.datetime.now(datetime.UTC).date().isoformat())
    except ValidationError as error:
        fault = error.errors()[0]
        raise RecordError(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error
    if by == folder.name:
        raise RecordError(f"{by} cannot supersede itself")
    path = folder / (SUPERSEDED if by else RETRACTED)
    with path.open("x", encoding="utf-8") as stream:
        stream.write(to_text(made))
    return path


def withdrawal(folder: Path) -> Withdrawal | None:
    """Withdrawal beside the record in `folder`, None if there is none.

    Raises:
        RecordError: if it is malformed, or in a file of the wrong name.
    """
    for name in (RETRACTED, SUPERSEDED):
        path = folder / name
        if path.is_file():
            data = path.read_bytes()
            strict_json(data, f"{folder.name}/{name}")
            try:
                found = Withdrawal.model_validate_json(data, strict=True)
            except ValidationError as error:
                raise RecordError(f"{folder.name}/{name} cannot be read: {error.errors()[0]['msg']}") from error
            if bool(found.by) != (name == SUPERSEDED):
                raise RecordError(f"{folder.name}/{name} {'names' if found.by else 'lacks'} a successor")
            return found
    return None
