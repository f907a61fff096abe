"""Ledger of the records that a tracker has received: `published/<tracker>.jsonl`, one line for each."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.errors import StoreError
from benchmark.records.durable import flush
from benchmark.records.store import Store

__all__ = ["Published"]


@dataclass
class Published:
    """Contents that a tracker has, of one store; a killed publisher continues after them.

    tracker: its plugin's name. known: (key, sha256) of the contents in the first `read` bytes of the file.
    """

    store: Store
    tracker: str
    known: set[tuple[str, str]] = field(default_factory=set, init=False)
    read: int = field(default=0, init=False)

    @property
    def path(self) -> Path:
        """The file; its last line may be cut off."""
        return self.store.root / "published" / f"{self.tracker}.jsonl"

    @contextlib.contextmanager
    def once(self, key: str, sha256: str) -> Iterator[bool]:
        """Hold other publishers of the store back; True if the tracker does not have this content of `key` yet."""
        with self.store.lock(f"published-{self.tracker}"):
            self._read_on()
            yield (key, sha256) not in self.known

    def note(self, key: str, sha256: str) -> None:
        """Append a content that the tracker was told of, durably.

        Raises:
            StoreError: if the store cannot be written.
        """
        line = json.dumps({"key": key, "sha256": sha256}) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            torn = self.path.is_file() and self.path.stat().st_size > self.read
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n" * torn + line)
                file.flush()
                os.fsync(file.fileno())
            flush(self.path.parent)
        except OSError as error:
            raise StoreError(
                f"{self.path} cannot be written ({error.strerror}), so it is not known what {self.tracker} has; make "
                "the store writable, or publish a copy of it"
            ) from error

    def _read_on(self) -> None:
        """Read the whole lines that were appended since the last call, also by other publishers."""
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            if file.seek(0, os.SEEK_END) < self.read:  # another file, such as one put back from a copy
                self.known, self.read = set(), 0
            file.seek(self.read)
            text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self.read += len(whole)
            for line in whole.splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):  # of a publisher that was killed
                    entry = json.loads(line)
                    self.known.add((str(entry["key"]), str(entry["sha256"])))
