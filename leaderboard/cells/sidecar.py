"""Documents beside a record, such as a review, that name the record by its sha256."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, TypeVar, cast

from pydantic import BaseModel, ValidationError

from benchmark.errors import RecordError
from benchmark.records.durable import file_sha256

__all__ = ["read_sidecar"]

Sidecar = TypeVar("Sidecar", bound=BaseModel)


class _OfRecord(Protocol):
    record_sha256: str


def read_sidecar(folder: Path, name: str, kind: type[Sidecar], what: str, *, strict: bool = False) -> Sidecar | None:
    """Document `name` beside the record in `folder`; None if there is none.

    Args:
        kind: model of the document, with `record_sha256`. what: such as "a review", for errors.

    Raises:
        RecordError: if it is malformed, or belongs to another record than the one beside it.
    """
    path = folder / name
    if not path.is_file():
        return None
    try:
        found = kind.model_validate_json(path.read_bytes(), strict=strict or None)
    except ValidationError as error:
        raise RecordError(f"{folder.name}/{name} is not {what}: {error.errors()[0]['msg']}") from error
    if cast(_OfRecord, found).record_sha256 != file_sha256(folder / "record.json"):
        raise RecordError(f"{folder.name}/{name} does not belong to the record.json beside it")
    return found
