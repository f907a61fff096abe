"""`benchmark.read`: the records of a store, for analysis. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from benchmark.errors import RecordError
from benchmark.interface.result import Cell, Records
from benchmark.records.remote import fetched
from benchmark.records.store import Store
from benchmark.records.summary import in_order

__all__ = ["read"]


def read(store: str | Path = "results") -> Records:
    """Read the finished cells of a store, sorted by system, threat and attack.

    Args:
        store: a folder, or a URL such as s3://bucket/results, which is mirrored into the user's cache.

    Raises:
        RecordError: if there is no such folder. StoreError: if the URL cannot be read.
    """
    kept = Store(fetched(store))
    if not kept.root.is_dir():
        raise RecordError(f"there is no folder {kept.root}; name the store, as store.root named it")
    return Records([Cell(record, kept.cell(record.key)) for record in in_order(kept.records())])
