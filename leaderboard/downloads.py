"""Tables as files: CSV that no spreadsheet runs, and JSON that keeps every digit."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence

__all__ = ["Value", "as_csv", "as_json"]

Value = str | int | float | bool | None


def as_csv(rows: Sequence[Mapping[str, Value]]) -> str:
    """Comma-separated values (RFC 4180) with a header, one line per row, nothing for None.

    Text that a spreadsheet would take for a formula gets an apostrophe in front; numbers stay numbers, exact to the
    last bit. Rows may lack columns; the header is the union in order of appearance.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow([_harmless(name) for name in columns])
    writer.writerows([[_harmless(row.get(name)) for name in columns] for row in rows])
    return stream.getvalue()


def as_json(document: object) -> str:
    """JSON with sorted keys, and a refusal of what is not a finite number."""
    return json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _harmless(value: Value) -> Value:
    if isinstance(value, str) and value.lstrip(" ")[:1] in ("=", "+", "-", "@", "\t", "\r", "\n"):
        return f"'{value}"
    return value
