"""`benchmark status`: the matrix of a store, with missing, failed and refused cells and every error."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from benchmark.errors import ConfigError, StoreError
from benchmark.records.document import KEY_SHOWN
from benchmark.records.findings import across
from benchmark.records.naming import natural
from benchmark.records.record import Record
from benchmark.records.store import Store
from benchmark.records.summary import COLUMNS, named_in_order, named_rows, robust_of
from benchmark.records.tables import fitted, table

__all__ = ["main", "matrix"]

MARKS = {"complete": "done", "failed": "FAILED", "refused": "refused"}

UNBROKEN = 1 << 20
"""Width that keeps the matrix in one block."""


def main(
    store: Path, *, as_json: bool = False, at_least: float | None = None, old: bool = False, cells: bool = False
) -> int:
    """Print the matrix, errors and findings of a store; returns 1 if any cell failed or has no readable record.

    Args:
        at_least: also judge the store like `benchmark gate --at-least`, and return its exit code if no cell failed.
        old: also list the cells whose key differs under today's code. cells: a line per cell instead of the matrix.

    Raises:
        StoreError: if there is no such folder, or it cannot be read.
        ConfigError: if `at_least` is not a share between 0 and 1.
    """
    if at_least is not None and not 0.0 <= at_least <= 1.0:
        raise ConfigError(f"--at-least is {at_least}; expected a share between 0 and 1, such as 0.4 for 40 %")
    if not _is_folder(store) and (at_least is not None or store != Path("results")):
        raise StoreError(f"there is no folder {store}; name the store with --store, as store.root named it")
    kept = Store(store)
    records, unreadable = kept.records(), {**kept.unreadable(), **kept.unreadable_systems()}
    unfinished = [note for note in kept.unfinished() if kept.record(str(note.get("key"))) is None]
    code, short = (0, []) if at_least is None else _gated(store, at_least)
    if as_json:
        told = {**_plain(kept, records, unfinished, short), "unreadable": unreadable}
        if old:
            told["stale"] = {record.key: why for record, why in _stale(records)}
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
    else:
        _print(store, records, unfinished, unreadable, short, cells=cells)
        if old:
            _print_stale(records)
    return 1 if unreadable or any(r.status == "failed" for r in records) else code


def _is_folder(path: Path) -> bool:
    """True if `path` is a folder.

    Raises:
        StoreError: if its parent may not be read.
    """
    try:
        return path.is_dir()
    except OSError as error:
        raise StoreError(f"the store {path} cannot be read: {error.strerror}; ask its owner for access") from error


def _stale(records: list[Record]) -> list[tuple[Record, list[str]]]:
    from benchmark.commands.stale import stale  # which imports the plugins

    return stale(records)


def _print_stale(records: list[Record]) -> None:
    """Print the stale cells and the reasons."""
    found = _stale(records)
    for record, why in found:
        sys.stdout.write(f"stale  {record.key}  {record.name}: {'; '.join(why)}\n")
    sys.stdout.write(f"{len(found)} of {len(records)} cells have another key under today's code\n")


def _gated(store: Path, share: float) -> tuple[int, list[str]]:
    """Exit code of `benchmark gate` for the robust accuracy of each system, and its sentences if it is not 0."""
    from benchmark_leaderboard.gate.checks import Goals

    from benchmark.commands.gate import CODES, verdict_of

    verdict = verdict_of(store, Path("data"), Goals(robust=share), None, None)
    short = [check.sentence for check in verdict.checks if check.decision.outcome != "pass"]
    return CODES[verdict.outcome], [*verdict.problems, *short] or (
        [verdict.reason] if verdict.outcome != "pass" else []
    )


def _robust(record: Record) -> float | None:
    """Robust accuracy over all examples."""
    return None if record.counts is None else record.counts.robust_correct / record.counts.total


def _plain(kept: Store, records: list[Record], unfinished: list[dict[str, Any]], short: list[str]) -> dict[str, Any]:
    """JSON report; the record.json in each `folder` has more."""
    cells = [
        {
            "key": r.key,
            "status": r.status,
            "error": r.error,
            "traceback": r.provenance.get("traceback"),
            "suite": r.suite,
            "official": r.official,
            "seed": r.seed,
            "system": r.system.model_dump(exclude={"config"}),
            "threat": r.threat.model_dump(),
            "attack": r.attack.model_dump(exclude={"params"}),
            "survivors_of": r.survivors_of,
            "counts": None if r.counts is None else r.counts.model_dump(),
            "robust_accuracy": _robust(r),
            "findings": [f.model_dump() for f in r.findings],
            "folder": str(kept.cell(r.key)),
        }
        for r in records
    ]
    findings = [f.model_dump() for f in across(records, kept.broken)]
    return {"cells": cells, "interrupted": unfinished, "findings": findings, "below": short}


def _print(
    store: Path,
    records: list[Record],
    unfinished: list[dict[str, Any]],
    unreadable: dict[str, str],
    short: list[str],
    *,
    cells: bool,
) -> None:
    """Print the matrix, the errors, the findings and the totals."""
    if not records and not unfinished and not unreadable:
        sys.stdout.write(f"{store} holds no cells yet; compute some with `benchmark run`\n")
        return
    if records:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else UNBROKEN
        sys.stdout.write((_lines(records) if cells else matrix(records, width)) + "\n")
    for record in records:
        if record.error:
            sys.stdout.write(f"{record.status}  {record.key}  {record.name}: {record.error}\n")
    for key, reason in unreadable.items():
        sys.stdout.write(f"unreadable  {key}: {reason}\n")
    for note in unfinished:
        where = f"benchmark run {' '.join(note['overrides'])}" if note.get("overrides") else "its command"
        sys.stdout.write(f"partial  {note.get('key')}  {note.get('name')}: interrupted; resume it with {where}\n")
    for finding in _findings(records, Store(store)):
        sys.stdout.write(finding + "\n")
    for sentence in short:
        sys.stdout.write(f"below  {sentence}\n")
    counts = Counter(r.status for r in records)
    parts = [f"{counts[s]} {s}" for s in ("complete", "failed", "refused") if counts[s]]
    parts += [f"{len(unreadable)} unreadable"] if unreadable else []
    parts += [f"{len(unfinished)} interrupted"] if unfinished else []
    sys.stdout.write(", ".join(parts) + "\n")


def _lines(records: list[Record]) -> str:
    """A table with a line per cell."""
    named = named_in_order(records)
    rows = [[record.key[:KEY_SHOWN], *row] for (record, _), row in zip(named, named_rows(named), strict=True)]
    return table(("key", *COLUMNS), rows)


def _findings(records: list[Record], kept: Store) -> list[str]:
    cells: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        for finding in record.findings:
            cells.setdefault((finding.severity, finding.name, finding.evidence), []).append(record)
    own = []
    for (severity, name, evidence), of in cells.items():
        more = f" and {len(of) - 1} more cells" if len(of) > 1 else ""
        own.append(f"{severity}  {of[0].key}  {of[0].name}{more}: {name}: {evidence}")
    return [*own, *(f"{f.severity}  {f.name}: {f.evidence}" for f in across(records, kept.broken))]


def matrix(records: list[Record], width: int = UNBROKEN) -> str:
    """Robust accuracy in %: a row per system, a column per attack and threat, radii in numerical order.

    If an attack ran only on the survivors of others, it is the joint robust accuracy, marked "after others". A single
    cell is shown with its 95 % interval, several (over seeds) by their mean and number. An entry that only other
    systems have is shown as missing. Cells whose settings differ have different names.

    Args:
        width: characters per line, beyond which the columns continue in another block.
    """
    named = named_in_order(records)
    order = {(n.attack, n.threat): (r.threat.norm, r.threat.eps) for r, n in named}
    columns = sorted(order, key=lambda column: (natural(column[0]), *order[column], natural(column[1])))
    places: dict[tuple[str, str, str], list[Record]] = {}
    for record, name in named:
        places.setdefault((name.system, name.attack, name.threat), []).append(record)
    rows = [
        [system, *(_place(places.get((system, *column), [])) for column in columns)]
        for system in dict.fromkeys(name.system for _, name in named)
    ]
    return fitted(["system", *(" ".join(column) for column in columns)], rows, width)


def _place(records: list[Record]) -> str:
    """Robust accuracy of the cells of one entry, and the number of those without one by status."""
    if not records:
        return "missing"
    values = [found for record in records if (found := robust_of(record)) is not None]
    said = []
    if len(values) == 1:
        said.append(f"{100 * values[0].value:.1f} ({100 * values[0].low:.1f} to {100 * values[0].high:.1f})")
    elif values:
        said.append(f"{100 * sum(v.value for v in values) / len(values):.1f} (mean of {len(values)})")
    if values and any(record.survivors_of for record in records):
        said[0] += " after others"
    rest = Counter(record.status for record in records if record.counts is None)
    return ", ".join([*said, *(f"{n} {MARKS[s]}" if n > 1 else MARKS[s] for s, n in sorted(rest.items()))])
