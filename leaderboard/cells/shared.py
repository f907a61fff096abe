"""Equal parts of many records, kept in memory once: systems, threats, attacks, versions of packages."""

from __future__ import annotations

import marshal
from typing import Any

from benchmark.records.record import Audit, Cost, Counts, FileInfo, MetricValue, Record

__all__ = ["SharedParts"]

PARTS = ("system", "threat", "attack")
ALL_FIELDS = {kind: set(kind.model_fields) for kind in (Record, Counts, Cost, Audit, MetricValue, FileInfo)}
"""Names of the fields that were given, which pydantic keeps for each object anew: nearly always all of them."""


class SharedParts:
    """Parts seen so far. A published record takes 48 kB by itself, and a third of that beside others."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, bytes], Any] = {}

    def keep(self, record: Record) -> Record:
        """The record, with every part that an earlier one has too replaced by that equal part."""
        values = record.__dict__
        for name in PARTS:
            values[name] = self._first(name, values[name].__dict__, values[name])
        for name, split in record.splits.items():
            record.splits[name] = self._first("split", split.__dict__, split)
        for name, value in record.provenance.items():
            if isinstance(value, dict | list):
                record.provenance[name] = self._first(name, value, value)
        for part in (record, record.counts, record.cost, record.audit, *record.metrics, *record.files):
            if part is not None and part.__pydantic_fields_set__ == (names := ALL_FIELDS[type(part)]):
                object.__setattr__(part, "__pydantic_fields_set__", names)
        return record

    def _first(self, name: str, content: Any, part: Any) -> Any:
        """The first part of that content. Version 2 of marshal depends on nothing but the values."""
        return self._known.setdefault((name, marshal.dumps(content, 2)), part)
