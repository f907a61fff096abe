"""A cell of a leaderboard: its record and its path."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmark.records.record import Record

__all__ = ["Cell"]


@dataclass(frozen=True)
class Cell:
    """A record and its path.

    place: path with slashes, relative to the folder that was read; with that folder's name in front if several were
    read. beside: names of the files in the folder, listed once: most cells lack most of the files that may lie there.
    """

    record: Record
    folder: Path
    place: str
    beside: frozenset[str]

    @classmethod
    def at(cls, record: Record, folder: Path, place: str) -> Cell:
        """Cell in a folder that was not listed yet."""
        return cls(record, folder, place, frozenset(path.name for path in folder.iterdir()))
