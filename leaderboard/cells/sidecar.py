"""Documents beside a record, such as a review, that name the record by its sha256."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Protocol, TypeVar, cast

from pydantic import BaseModel, ValidationError

from benchmark.errors import RecordError
from benchmark.records.durable import file_sha256

from .strict_json import strict_json
from .texts import check_texts

__all__ = ["read_sidecar"]

Sidecar = TypeVar("Sidecar", bound=BaseModel)


class _OfRecord(Protocol):
    key: str
    record_sha256: str


def read_sidecar(folder: Path, name: str, kind: type[Sidecar], what: str) -> Sidecar | None:
    """Document `name` beside the record in `folder`; None if there is none.

    Args:
        kind: model of the document, with `key` and `record_sha256`. what: such as "a review", for errors.

    Raises:
        RecordError: if it is malformed, has suspicious text, or belongs to another record than the one beside it.
    """
    path = folder / name
    if not path.is_file():
        return None
    data = path.read_bytes()
    document = strict_json(data, f"{folder.name}/{name}")
    try:
        found = kind.model_validate_json(data, strict=True)
    except ValidationError as error:
        raise RecordError(f"{folder.name}/{name} is not {what}: {error.errors()[0]['msg']}") from error
    check_texts(document, f"{folder.name}/{name}")
    own = cast(_OfRecord, found)
    if own.record_sha256 != file_sha256(folder / "record.json"):
        raise RecordError(f"{folder.name}/{name} does not belong to the record.json beside it")
    key = json.loads((folder / "record.json").read_bytes())["key"]
    if own.key != key:
        raise RecordError(f"{folder.name}/{name} has the key {own.key[:40]!r}, but the record beside it has {key}")
    return found
