"""Records that are on no board, cells without a result, and findings across cells."""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.records.record import Record

__all__ = ["Alarm", "Problem", "Unfinished", "Withdrawn"]


@dataclass(frozen=True)
class Problem:
    """A record that is on no board. path: see `load.Cell.place`. sentence: what is wrong with it."""

    path: str
    sentence: str


@dataclass(frozen=True)
class Withdrawn(Problem):
    """A record that was retracted or superseded. by: the key of the one that took its place, "" if none did."""

    record: Record
    date: str
    reason: str
    by: str


@dataclass(frozen=True)
class Alarm:
    """A finding with the cells that show it. row: the key of the row it concerns, "" if it concerns the board.

    severity: info, warning or error. keys: of the cells, sorted.
    """

    name: str
    severity: str
    evidence: str
    keys: tuple[str, ...]
    row: str = ""


@dataclass(frozen=True)
class Unfinished:
    """A cell without a result: partial, failed or refused. error: why, "" if the record does not say."""

    key: str
    status: str
    system: str
    attack: str
    seed: int
    error: str
