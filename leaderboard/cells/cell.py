"""A cell of a leaderboard: its record, and where it lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmark.records.record import Record

__all__ = ["Cell"]


@dataclass(frozen=True)
class Cell:
    """A record and where it lies.

    place: its path with slashes, relative to the folder that was read; with its name in front if several were.
    """

    record: Record
    folder: Path
    place: str
