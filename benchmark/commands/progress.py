"""`benchmark status --plan`: progress of the tasks that work on a plan."""

from __future__ import annotations

import sys
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmark.records.plan import Plan, progress_of
from benchmark.records.record import Record
from benchmark.records.store import Store

__all__ = ["main", "summary"]

RECENT = 50
"""Number of most recent cells that the rate is measured from."""


def main(path: Path) -> int:
    """Print the progress of a plan; returns 1 if one of its cells failed."""
    plan = Plan.read(path)
    told = summary(plan, Store(Path(plan.root)))
    sys.stdout.write(_text(told) + "\n")
    return 1 if told["failed"] else 0


def summary(plan: Plan, store: Store) -> dict[str, Any]:
    """Number of cells per state, active tasks, cells per hour, and remaining seconds at that rate."""
    found = progress_of(plan, store)
    counts = Counter(record.status for record in found.values())
    tasks = [note for key, note in store.attempts().items() if _held(store, key)]
    left = len(plan.lines) - len(found)
    rate = _rate([_ended(record) for record in found.values()])
    return {
        "cells": len(plan.lines),
        **{status: counts[status] for status in ("complete", "failed", "refused")},
        "left": left,
        "tasks": [f"{note.get('host')}:{note.get('pid')}" for note in tasks],
        "cells_per_hour": None if rate is None else round(3600 * rate, 1),
        "seconds_left": None if rate is None else round(left / rate),
    }


def _held(store: Store, key: str) -> bool:
    """True if a process holds the cell's lock."""
    with store.free(key) as free:
        return not free


def _ended(record: Record) -> float:
    return datetime.fromisoformat(str(record.provenance["created"]).replace("Z", "+00:00")).timestamp()


def _rate(ended: list[float]) -> float | None:
    """Cells per second over the most recent ones, up to now; None if fewer than two have ended."""
    recent = sorted(ended)[-RECENT:]
    if len(recent) < 2 or recent[-1] <= recent[0]:
        return None
    idle = time.time() - recent[-1]
    span = recent[-1] - recent[0]
    return (len(recent) - 1) / (span + (idle if idle > span / len(recent) else 0.0))


def _text(told: dict[str, Any]) -> str:
    states = ", ".join(f"{told[s]} {s}" for s in ("complete", "failed", "refused", "left") if told[s])
    lines = [
        f"{told['cells']} cells: {states}",
        f"{len(told['tasks'])} active tasks {' '.join(told['tasks'])}".strip(),
    ]
    if told["cells_per_hour"] is not None and told["left"]:
        hours, minutes = divmod(told["seconds_left"] // 60, 60)
        lines.append(f"{told['cells_per_hour']:g} cells an hour, {hours} h {minutes:02d} min left at this rate")
    return "\n".join(lines)
