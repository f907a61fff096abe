"""`benchmark compare`: two systems or attacks on the same examples, by an exact paired test. Imports no torch."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmark.errors import RecordError
from benchmark.records.paired import Kept, compared, kept_of
from benchmark.records.record import Record, read_record
from benchmark.records.remote import fetched
from benchmark.records.store import Store
from benchmark.records.summary import labelled

__all__ = ["chosen_cells", "main"]

IDS_SHOWN = 12
"""Number of example ids to list per side."""


def main(first: str, second: str, store: Path, *, threat: str = "", attack: str = "") -> int:
    """Print a paired comparison of two selections of cells, each in its worst case over its attacks; returns 0.

    Args:
        first, second: a cell's folder, a prefix of a key, or a system's name as `benchmark status` prints it.
        threat, attack: keep only cells of this threat and attack.

    Raises:
        RecordError: if a selection is empty or has several threats, or the two have different examples.
    """
    sides = [_kept(choice, store, threat, attack) for choice in (first, second)]
    found = compared(*sides)
    lines = [str(found)]
    for name, ids in (("first", found.only_first), ("second", found.only_second)):
        more = ", ..." if len(ids) > IDS_SHOWN else ""
        if len(ids):
            lines.append(f"examples robust only in the {name}: {', '.join(map(str, ids[:IDS_SHOWN].tolist()))}{more}")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _kept(choice: str, store: Path, threat: str, attack: str) -> Kept:
    cells = [
        (record, folder)
        for record, folder in chosen_cells(choice, store)
        if record.status == "complete"
        and threat in ("", record.threat.name)
        and attack in ("", record.attack.name, record.attack.label)
    ]
    threats = sorted({record.threat.name for record, _ in cells})
    if len(threats) > 1:
        raise RecordError(
            f"{choice} has cells under several threats ({', '.join(threats)}); choose one: --threat '{threats[0]}'"
        )
    seeds = sorted({record.seed for record, _ in cells})
    if len(seeds) > 1:
        raise RecordError(f"{choice} has cells of the seeds {', '.join(map(str, seeds))}; choose one by its key")
    attacks = ", ".join(sorted({record.attack.label for record, _ in cells}))
    return kept_of(f"{choice} under {attacks}" if cells else choice, cells)


def chosen_cells(choice: str, store: Path) -> list[tuple[Record, Path]]:
    """Select cells, with their folders, by folder or its URL, key prefix or system name.

    Raises:
        RecordError: if there is none, or several systems share the name.
    """
    place = fetched(choice)
    if place.exists():
        folders = sorted(path.parent for path in ([place] if place.is_file() else place.rglob("record.json")))
        found = [(read_record(folder), folder) for folder in folders]
    else:
        kept = Store(store)
        known = kept.records()
        found = [(r, kept.cell(r.key)) for r in known if len(choice) >= 4 and r.key.startswith(choice)]
        if not found:
            names = labelled(known)
            named = [(r, n.system) for r, n in zip(known, names, strict=True) if choice in (r.system.name, n.system)]
            several = sorted({label for _, label in named})
            if len(several) > 1:
                raise RecordError(f"{choice} is the name of several systems; choose one of: {'; '.join(several)}")
            found = [(record, kept.cell(record.key)) for record, _ in named]
    if not found:
        raise RecordError(
            f"{choice!r} is no folder of cells, and no key or system in {store}; benchmark status --cells lists them"
        )
    return found
