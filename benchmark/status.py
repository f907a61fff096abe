"""`benchmark status`: the matrix of a store: what is done, missing, failed or refused, with every error."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

from benchmark.findings import across
from benchmark.record import Record
from benchmark.store import Store

__all__ = ["main", "matrix"]

MARKS = {"complete": "done", "failed": "FAILED", "refused": "refused", "partial": "partial"}


def main(store: str) -> int:
    """Print the matrix, the errors and the findings of a store; 1 if any cell failed."""
    kept = Store(Path(store))
    records = kept.records()
    unfinished = [note for note in kept.unfinished() if kept.record(str(note.get("key"))) is None]
    if not records and not unfinished:
        sys.stdout.write(f"{store} holds no cells yet; `benchmark run` makes some\n")
        return 0
    sys.stdout.write(matrix(records) + "\n")
    for record in records:
        if record.error:
            sys.stdout.write(f"{record.status}  {record.key}  {_cell(record)}: {record.error}\n")
    for note in unfinished:
        where = f"benchmark run {' '.join(note['overrides'])}" if note.get("overrides") else "its command"
        sys.stdout.write(f"partial  {note.get('key')}  {note.get('name')}: interrupted; {where} goes on with it\n")
    for finding in _findings(records):
        sys.stdout.write(finding + "\n")
    counts = Counter(r.status for r in records)
    parts = [f"{counts[s]} {s}" for s in ("complete", "failed", "refused") if counts[s]]
    parts += [f"{len(unfinished)} interrupted"] if unfinished else []
    sys.stdout.write(", ".join(parts) + "\n")
    return 1 if counts["failed"] else 0


def _findings(records: list[Record]) -> list[str]:
    own = [f"{f.severity}  {r.key}  {_cell(r)}: {f.name}: {f.evidence}" for r in records for f in r.findings]
    return [*own, *(f"{f.severity}  {f.name}: {f.evidence}" for f in across(records))]


def _system(record: Record) -> str:
    system = record.system
    return "+".join([f"{system.dataset}/{system.model}", *system.defenses, *system.poison])


def _cell(record: Record) -> str:
    return f"{_system(record)} {_column(record)} seed {record.seed}"


def _column(record: Record) -> str:
    return f"{record.attack.name} {record.threat.norm} {record.threat.eps_exact}"


def matrix(records: list[Record]) -> str:
    """Systems down, attacks and threats across; in each place how many cells are in which state.

    A place that other systems have and this one lacks is shown as missing.
    """
    columns = sorted({_column(r) for r in records})
    rows = sorted({_system(r) for r in records})
    places: dict[tuple[str, str], Counter[str]] = {}
    for record in records:
        places.setdefault((_system(record), _column(record)), Counter())[record.status] += 1

    def text(row: str, column: str) -> str:
        found: Any = places.get((row, column))
        if not found:
            return "missing"
        return ", ".join(f"{n} {MARKS[s]}" if n > 1 else MARKS[s] for s, n in sorted(found.items()))

    table = [["system", *columns], *([row, *(text(row, column) for column in columns)] for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(columns) + 1)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in table)
