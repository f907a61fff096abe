"""Results of trying one system's adversarial examples on another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    pass

__all__ = ["FOLDER", "Arrivals", "Pair", "read_arrivals"]


FOLDER = "transfer"
"""Folder of transfer measurements in a store, beside its cells."""


MOST_EXAMPLES = 10_000_000


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Pair(_Model):
    """Transfer from one system, `source`, to another.

    tried, transferred: number of examples tried, and transferred, from any cell of the source. cells: the same two
    numbers of each cell alone, by its key. witnesses_sha256: over the witness files, in the order of the keys.
    """

    source: str
    cells: dict[str, tuple[int, int]]
    witnesses_sha256: str
    tried: int = Field(ge=0, le=MOST_EXAMPLES)
    transferred: int = Field(ge=0, le=MOST_EXAMPLES)


class Arrivals(_Model):
    """Transfer from all other systems to one, under one threat: a column of the matrix, in one file.

    key: content address of threat and system. target, weights_sha256: of the system. pairs: by source.
    """

    schema_version: Literal[1] = 1
    key: str
    target: str
    weights_sha256: str
    examples_sha256: str
    pairs: list[Pair]


def read_arrivals(path: Path) -> Arrivals | None:
    """Read an earlier measurement; None if it is missing or unreadable."""
    try:
        found = Arrivals.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None
    sound = all(pair.transferred <= pair.tried for pair in found.pairs) and found.key == path.stem
    return found if sound else None
