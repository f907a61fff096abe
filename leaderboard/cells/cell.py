"""A cell of a leaderboard: its record and its path."""

from __future__ import annotations

import functools
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmark.records.record import Record

__all__ = ["Cell"]


@dataclass(frozen=True)
class Cell:
    """A record and its path.

    place: path with slashes, relative to the folder that was read; with that folder's name in front if several were
    read.
    """

    record: Record
    folder: Path
    place: str

    @functools.cached_property
    def beside(self) -> frozenset[str]:
        """Names of the files in the folder, read once: most cells lack most of the files that may lie there."""
        return frozenset(map(sys.intern, os.listdir(self.folder)))
