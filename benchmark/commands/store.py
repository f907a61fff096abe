"""`benchmark store`: check, clean, move and merge stores of results."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmark.errors import BenchmarkError, RecordError, StoreError
from benchmark.records.durable import BROKEN, file_sha256, flush, set_aside, settle
from benchmark.records.record import Record, cell_key, read_record
from benchmark.records.remote import fetched, is_url, send
from benchmark.records.store import Store

__all__ = ["check_store", "clean", "merge", "move", "tidy"]

PASSING = 3600.0
"""Seconds after which a temporary file counts as abandoned."""


MERGED = ("systems", "cells")
"""Folders that `merge` copies, in this order: what a cell names comes before it."""

LOG_HEADER = 7
"""Size in bytes of the header of a W&B log."""


def check_store(root: Path) -> int:
    """Read every file of a store and list what is broken, orphaned or left over; returns 1 if anything is broken."""
    store = _existing(root)
    broken = [*_broken_cells(store), *_broken_systems(store)]
    for path, why in broken:
        sys.stdout.write(f"broken  {path}: {why}\n")
    orphans = list(_orphans(store))
    for path, why in orphans:
        sys.stdout.write(f"orphaned  {path}: {why}\n")
    leftovers = list(_leftovers(store))
    for path in leftovers:
        sys.stdout.write(f"left over  {path}\n")
    cells, systems = len(_folders(store, "cells")), len(_folders(store, "systems"))
    found = f"{len(broken)} broken, {len(orphans)} orphaned, {len(leftovers)} left over"
    sys.stdout.write(f"{cells} cells and {systems} systems: {found}\n")
    return 1 if broken else 0


def clean(root: Path, *, failed: bool = False, orphans: bool = False) -> int:
    """Set broken files aside for recomputation and remove leftovers of interrupted processes; returns 0.

    Args:
        failed: also drop the records of failed cells. orphans: also remove systems of no cell, and work of no plan.
    """
    store = _existing(root)
    gone, before = 0, list(_leftovers(store))
    for path, why in [*_broken_cells(store), *_broken_systems(store)]:
        set_aside(path, why)
    dropped = [store.cell(record.key) for record in store.records() if failed and record.status == "failed"]
    extra = [path for path, _ in _orphans(store)] if orphans else []
    for path in (*before, *dropped, *extra):
        key = path.name.removeprefix(".old-").removeprefix(BROKEN).partition(".")[0]
        with store.free(key) as free, store.free(f"system-{key}") as also:
            if free and also:
                _remove(path)
                gone += 1
    for path in dropped:
        store.forgive(path.name)
    sys.stdout.write(f"{gone} removed\n")
    return 0


def tidy(store: Store) -> None:
    """Remove old leftovers of interrupted processes: replaced folders, unfinished sites, empty W&B logs."""
    for path in (*_leftovers(store), *_empty_logs(store)):
        passing = path.name.startswith((".old-", ".leaderboard.", "offline-run-", "run-"))
        if passing and time.time() - path.stat().st_mtime > PASSING:
            _remove(path)


def move(root: Path, to: Path) -> int:
    """Move a store, also to another file system; returns 0.

    Raises:
        StoreError: if the destination exists, or a process is using the store.
    """
    store = _existing(root)
    if to.exists():
        raise StoreError(f"{to} exists already; use benchmark store merge to copy into an existing store")
    _check_unused(store)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        root.rename(to)
    except OSError:  # another file system
        unfinished = to.with_name(f".{to.name}.moving")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(root, unfinished, symlinks=True)
        settle(unfinished)
        unfinished.rename(to)
        flush(to.parent)
        shutil.rmtree(root)
    sys.stdout.write(f"{root} is now {to}\n")
    return 0


def merge(other: str | Path, to: str | Path) -> int:
    """Copy the cells and systems of another store into this one; returns 1 if two differ under one key (both are kept).

    A complete cell replaces one that failed or was refused; the other store is not changed. Either may be a URL; of a
    store at a URL that is copied into, only what both have is read.
    """
    source = _existing(fetched(other, systems=True))
    keys = {folder.name for kind in MERGED for folder in _folders(source, kind)}
    root = fetched(to, systems=True, only=keys.__contains__, new=True)
    store, arrived = Store(root), []
    problems = dict([*_broken_cells(source), *_broken_systems(source)])
    same, conflicts = 0, [f"{path} {why}, and was not copied" for path, why in problems.items()]
    for kind in MERGED:
        for folder in _folders(source, kind):
            if folder in problems:
                continue
            key, final = folder.name, root / kind / folder.name
            with store.lock(key if kind == "cells" else f"system-{key}"):
                if final.exists() and not _outranked(final, folder):
                    difference = _difference(final, folder)
                    same += not difference
                    conflicts += [f"{kind}/{key} {difference}"] if difference else []
                    continue
                scratch = root / "work" / f"{key}-merged"
                shutil.rmtree(scratch, ignore_errors=True)
                scratch.parent.mkdir(parents=True, exist_ok=True)
                shutil.copytree(folder, scratch)
                store.put(scratch, final)
                arrived.append(final)
    if is_url(to):
        send(root, arrived, str(to))
    for conflict in conflicts:
        sys.stdout.write(f"conflict  {conflict}\n")
    sys.stdout.write(f"{len(arrived)} copied, {same} there already, {len(conflicts)} in conflict\n")
    return 1 if conflicts else 0


def _existing(root: Path) -> Store:
    if not root.is_dir():
        raise StoreError(f"there is no folder {root}; name the store with --store, as store.root named it")
    return Store(root.absolute())


def _folders(store: Store, kind: str) -> list[Path]:
    """Folders of cells or systems, sorted, without hidden ones."""
    return sorted(p for p in (store.root / kind).glob("*") if p.is_dir() and not p.name.startswith("."))


def _broken_cells(store: Store) -> Iterator[tuple[Path, str]]:
    for folder in _folders(store, "cells"):
        try:
            why = _wrong(folder, read_record(folder))
        except RecordError as error:
            why = str(error)
        if why:
            yield folder, why


def _wrong(folder: Path, record: Record) -> str:
    """Fault of a cell, "" if it has none."""
    if record.key != folder.name:
        return f"holds the record of another cell, {record.key}"
    if record.status == "complete" and cell_key(record) != record.key:
        return "has a record whose key does not match its content"
    for file in record.files:
        path = folder / file.path
        if not path.is_file() or file_sha256(path) != file.sha256:
            return f"has {file.path} missing, or with a sha256 that differs from its record"
    return ""


def _broken_systems(store: Store) -> Iterator[tuple[Path, str]]:
    for folder in _folders(store, "systems"):
        card = store.card(folder.name)
        why = "has no readable card" if card is None else store.differs(card)
        if why:
            yield folder, why


def _orphans(store: Store) -> Iterator[tuple[Path, str]]:
    """Systems that no record names, and unfinished work of cells that are complete or not planned."""
    records = store.records()
    used = {record.system.key for record in records}
    cards = [card for card in map(store.card, used) if card is not None]
    used |= {card.init_from for card in cards if card.init_from}
    used |= {key for record in records for key in (record.threat.surrogate or "").split(",")}
    for folder in _folders(store, "systems"):
        if folder.name not in used:
            yield folder, "no cell names it"
    complete = {record.key for record in records if record.status == "complete"}
    for folder in sorted((store.root / "work").glob("*")):
        if folder.name in complete or not (folder / "plan.json").is_file():
            yield folder, "no cell or plan resumes it"


def _leftovers(store: Store) -> Iterator[Path]:
    """Leftovers of interrupted processes, and files that were set aside."""
    for kind in ("cells", "systems"):
        for path in sorted((store.root / kind).glob("*")):
            if path.name.startswith((".old-", BROKEN)) or path.is_file():
                yield path
    yield from sorted(p for p in store.root.glob(".*") if p.name.startswith((BROKEN, ".leaderboard.")))


def _empty_logs(store: Store) -> Iterator[Path]:
    """Folders of W&B runs with an empty log, which stop `wandb sync` from uploading the runs beside them."""
    for path in sorted((store.root / "wandb").glob("*run-*")):
        logs = list(path.glob("run-*.wandb"))
        if logs and all(log.stat().st_size <= LOG_HEADER for log in logs):
            yield path


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _check_unused(store: Store) -> None:
    for key in store.attempts():
        with store.free(key) as free:
            if not free:
                raise StoreError(f"a process is working on cell {key} in {store.root}; wait until it ends")


def _outranked(mine: Path, other: Path) -> bool:
    """True if the other cell is complete and this one is not, or cannot be read."""
    if not (other / "record.json").is_file():
        return False
    try:
        return read_record(other).status == "complete" and read_record(mine).status != "complete"
    except BenchmarkError:
        return True


def _difference(mine: Path, other: Path) -> str:
    """Difference between the results in two folders under one key, "" if there is none."""
    one, two = ({p.name: file_sha256(p) for p in f.glob("*.safetensors")} for f in (mine, other))
    differing = sorted(name for name in {**one, **two} if one.get(name) != two.get(name))
    if differing:
        return f"differs in {', '.join(differing)}"
    if (mine / "record.json").is_file():
        ours, theirs = read_record(mine), read_record(other)
        same = ours.counts == theirs.counts and ours.metrics == theirs.metrics
        return "" if same or ours.status != "complete" or theirs.status != "complete" else "differs in its record"
    return ""
