"""Records of earlier schema versions, brought up to the current one step by step when they are read.

A change of the schema that older documents do not satisfy raises `record.SCHEMA_VERSION` and adds one step here, under
the version that it starts from. Files on disk are never rewritten: results are append-only, so old documents stay as
they were written and each reading takes the same steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmark.errors import RecordError

__all__ = ["STEPS", "migrated"]

Step = Callable[[dict[str, Any]], dict[str, Any]]

STEPS: dict[int, Step] = {}
"""Migration from each earlier version to the next. It returns a new document, and does not set the version."""


def migrated(document: Mapping[str, Any], current: int, steps: Mapping[int, Step] = STEPS) -> dict[str, Any]:
    """Migrate a document to the current schema version.

    Raises:
        RecordError: if its version is not a number, is newer than `current`, or has no migration.
    """
    version = document.get("schema_version", current)
    if type(version) is not int:
        raise RecordError(f"its schema_version is {str(version)[:40]!r}; expected a whole number up to {current}")
    if version > current:
        raise RecordError(
            f"it is of schema version {version}, and this installation reads up to {current}; install a newer version"
        )
    found = dict(document)
    for at in range(version, current):
        if at not in steps:
            raise RecordError(f"it is of schema version {version}, which was never published; expected up to {current}")
        found = {**steps[at](found), "schema_version": at + 1}
    return found
