"""The store of results: plain files under content hashes, written atomically, safe for any number of workers.

=======================  ==========================================================================================
cells/<key>/             record.json, outcomes.safetensors, witness.safetensors, for images also
                         gallery.safetensors: appears whole or not at all
systems/<key>/           card.json, weights.safetensors: appears whole or not at all; probed-<hash>.json: results of
                         the probes on a list of examples
work/<key>/              partial results of an unfinished cell or training, which plan.json describes
transfer/<key>.json      transfer of others' adversarial examples to a system, :mod:`benchmark.commands.transfer`
index/<hash>.json        the cell of a line of a sweep, so that a finished one need not be composed again
locks/                   one worker at a time per cell and per training
=======================  ==========================================================================================
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.errors import RecordError, StoreError
from benchmark.records.card import Card
from benchmark.records.content import stamp
from benchmark.records.document import to_text
from benchmark.records.durable import file_sha256, flush, settle, write_atomic
from benchmark.records.record import Record, read_record

__all__ = ["DEATHS", "Store"]

ATTEMPT = "attempt.json"
FATES = "deaths.json"

DEATHS = 2
"""Number of processes that may die on a cell before it is recorded as failed."""


@dataclass(frozen=True)
class Store:
    """The files of one results folder."""

    root: Path

    def cell(self, key: str) -> Path:
        """Folder of a finished cell."""
        return self.root / "cells" / key

    def system(self, key: str) -> Path:
        """Folder of a trained system."""
        return self.root / "systems" / key

    def work(self, key: str) -> Path:
        """Scratch folder of an unfinished cell or training."""
        return self.root / "work" / key

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Exclusive lock over all processes; the operating system frees it when the holder dies."""
        from filelock import FileLock

        folder = self.root / "locks"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / f"{key}.lock")
            lock.acquire()
        except OSError as error:
            raise StoreError(
                f"the store {self.root} cannot be written: {error}; set store.root to a writable folder"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def record(self, key: str) -> Record | None:
        """Record of a cell, or None if there is no readable one."""
        try:
            return read_record(self.cell(key))
        except RecordError:
            return None

    def records(self) -> list[Record]:
        """All readable records, by key; :meth:`unreadable` has the reasons for the others.

        Raises:
            StoreError: if the folder of the cells cannot be read.
        """
        return [record for record in map(self.record, self._keys()) if record is not None]

    def unreadable(self) -> dict[str, str]:
        """Reason for every cell whose record cannot be read, by key."""
        reasons = {}
        for key in self._keys():
            try:
                read_record(self.cell(key))
            except RecordError as error:
                reasons[key] = str(error)
        return reasons

    def unreadable_systems(self) -> dict[str, str]:
        """Reason for every trained system whose card is missing or unreadable, by key."""
        reasons = {}
        for folder in sorted((self.root / "systems").glob("[!.]*")):
            if folder.is_dir() and self.card(folder.name) is None:
                there = (folder / "card.json").is_file()
                reasons[folder.name] = f"{folder / 'card.json'} {'cannot be read' if there else 'is missing'}"
        return reasons

    def _keys(self) -> list[str]:
        """Names of all folders of cells, sorted."""
        try:
            with os.scandir(self.root / "cells") as found:
                return sorted(entry.name for entry in found if entry.is_dir() and not entry.name.startswith("."))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(
                f"the store {self.root} cannot be read ({error.strerror}: {error.filename}); ask its owner for "
                "access, or name another store"
            ) from error

    def broken(self, record: Record) -> list[bool] | None:
        """True for each broken example of a cell, in order; None if its outcomes are not available."""
        from safetensors.numpy import load_file  # without torch

        path = self.cell(record.key) / "outcomes.safetensors"
        return [bool(value) for value in load_file(str(path))["broken"]] if path.is_file() else None

    def card(self, key: str) -> Card | None:
        """Card of a trained system, or None if it is not in the store or unreadable."""
        path = self.system(key) / "card.json"
        try:
            card = Card.model_validate_json(path.read_bytes()) if path.is_file() else None
        except ValueError:
            return None
        return card if card is None or card.sha256 in ("", card.sealed().sha256) else None

    def differs(self, card: Card) -> str:
        """First file of a trained system that differs from its card, in words; "" if none does."""
        for name, sha in (("weights.safetensors", card.weights_sha256), ("poison.safetensors", card.poison_sha256)):
            path = self.system(card.key) / name
            if sha and (not path.is_file() or file_sha256(path) != sha):
                return f"has a {name} that does not match its card"
        return ""

    def damage(self, record: Record) -> str:
        """First file beside a record whose size differs from the record, in words; "" if none does."""
        for file in record.files:
            path = self.cell(record.key) / file.path
            size = path.stat().st_size if path.is_file() else None
            if size != file.bytes:
                return f"has {file.path} of {size} bytes, but its record says {file.bytes}"
        return ""

    def scratch(self, key: str, plan: dict[str, Any]) -> Path:
        """Scratch folder of `key`, with a note about its purpose."""
        folder = self.work(key)
        folder.mkdir(parents=True, exist_ok=True)
        note = folder / "plan.json"
        if not note.is_file():
            write_atomic(note, json.dumps(plan, sort_keys=True, indent=2) + "\n")
        return folder

    # --- attempts, and how they ended ---

    @contextlib.contextmanager
    def attempt(self, key: str) -> Iterator[None]:
        """Context for work on a cell, under its lock, with a note that stays only if the process dies."""
        note = self.work(key) / ATTEMPT
        write_atomic(note, json.dumps({"host": platform.node(), "pid": os.getpid(), "begun": time.time()}) + "\n")
        try:
            yield
        finally:
            note.unlink(missing_ok=True)

    def attempts(self) -> dict[str, dict[str, Any]]:
        """Cells in progress, or whose process died, by key: host, pid and start time."""
        found = {}
        for path in sorted((self.root / "work").glob(f"*/{ATTEMPT}")):
            with contextlib.suppress(OSError, ValueError):
                found[path.parent.name] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def bury(self, reason: str, *, final: bool = False) -> list[str]:
        """Note why processes died that worked on cells and no longer hold their locks; returns the keys of those cells.

        Args:
            reason: such as "signal 11 (SIGSEGV)". final: do not try again, since it would end the same way.
        """
        buried = []
        for key in self.attempts():
            with self.free(key) as free:
                note = self.work(key) / ATTEMPT
                if free and note.is_file():
                    known = [*self.deaths(key), *([reason] * (DEATHS if final else 1))]
                    write_atomic(self.work(key) / FATES, json.dumps(known) + "\n")
                    note.unlink(missing_ok=True)
                    buried.append(key)
        return buried

    def deaths(self, key: str) -> list[str]:
        """Known causes of death of the processes that worked on a cell."""
        try:
            return [str(reason) for reason in json.loads((self.work(key) / FATES).read_text(encoding="utf-8"))]
        except (OSError, ValueError, TypeError):
            return []

    def forgive(self, key: str) -> None:
        """Forget the deaths of a cell, so that it is tried again."""
        (self.work(key) / FATES).unlink(missing_ok=True)

    @contextlib.contextmanager
    def free(self, key: str) -> Iterator[bool]:
        """True if no process works on a cell; none can start inside the block."""
        from filelock import FileLock, Timeout

        (self.root / "locks").mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.root / "locks" / f"{key}.lock")
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def put(self, source: Path, final: Path) -> None:
        """Move a complete folder to its place, replacing an older one."""
        _follow_umask(source)
        settle(source)
        final.parent.mkdir(parents=True, exist_ok=True)
        old = final.with_name(f".old-{final.name}")
        if final.exists():
            shutil.rmtree(old, ignore_errors=True)
            final.rename(old)
        source.rename(final)
        flush(final.parent)
        shutil.rmtree(old, ignore_errors=True)

    def put_record(self, record: Record, source: Path) -> Path:
        """Write the record beside its files in `source`, move the folder to its place and return that."""
        write_atomic(source / "record.json", to_text(record))
        final = self.cell(record.key)
        self.put(source, final)
        return final

    def unfinished(self) -> list[dict[str, Any]]:
        """Notes of unfinished cells and trainings."""
        notes = []
        for path in sorted((self.root / "work").glob("*/plan.json")):
            with contextlib.suppress(OSError, ValueError):
                notes.append(json.loads(path.read_text(encoding="utf-8")))
        return notes

    # --- the index of sweep lines ---

    def sweep_of(self, lines: str, new: str) -> str:
        """Id under which a sweep of these lines (by their hash) started in this store; `new` if it starts now."""
        path = self.root / "index" / f"sweep-{lines}.json"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return str(json.loads(path.read_text(encoding="utf-8"))["sweep"])
        write_atomic(path, json.dumps({"sweep": new}) + "\n")
        return new

    def remember(self, line: str, key: str, inputs: list[Path]) -> None:
        """Index the key of a sweep line's cell (by the line's hash), valid as long as the inputs do not change."""
        stamps = {str(p): stamp(p) for p in inputs}
        write_atomic(self.root / "index" / f"{line}.json", json.dumps({"key": key, "inputs": stamps}) + "\n")

    def recall(self, line: str) -> str | None:
        """Key of a sweep line's cell, or None if it is unknown or an input changed."""
        path = self.root / "index" / f"{line}.json"
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            if all(stamp(Path(name)) == known_stamp for name, known_stamp in known["inputs"].items()):
                return str(known["key"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return None


def _follow_umask(folder: Path) -> None:
    """Apply the umask to the files of a folder, since safetensors makes them readable for their owner alone."""
    probe = folder / ".umask"
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(mode)
