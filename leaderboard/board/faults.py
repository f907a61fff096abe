"""Records on no board, cells without a result, and findings across cells."""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.records.record import Record

__all__ = ["Alarm", "Problem", "Unfinished", "Withdrawn"]


@dataclass(frozen=True)
class Problem:
    """A record on no board. path: see `load.Cell.place`. sentence: the reason."""

    path: str
    sentence: str


@dataclass(frozen=True)
class Withdrawn(Problem):
    """A retracted or superseded record. by: key of its successor, "" if there is none."""

    record: Record
    date: str
    reason: str
    by: str


@dataclass(frozen=True)
class Alarm:
    """A finding with the cells that show it. row: key of the row concerned, "" for the whole board.

    severity: info, warning or error. keys: of the cells, sorted.
    """

    name: str
    severity: str
    evidence: str
    keys: tuple[str, ...]
    row: str = ""


@dataclass(frozen=True)
class Unfinished:
    """A cell without a result: partial, failed or refused. error: the reason, "" if not recorded."""

    key: str
    status: str
    system: str
    attack: str
    seed: int
    error: str
