"""Documents of the store: models that refuse unknown fields, their JSON text and their content addresses."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict

from benchmark.tasks.task import CLASSIFICATION

__all__ = ["KEY_SHOWN", "Document", "Json", "canonical", "content_key", "system_key", "to_text"]

KEY_SHOWN = 8
"""Number of characters of a key that are displayed."""

Json = dict[str, Any]
"""A JSON object."""


class Document(BaseModel):
    """Part of a document: numbers must be finite, and unknown fields are an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def canonical(value: Any) -> str:
    """Canonical JSON text: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def system_key(config: Json, seed: int, revision: str) -> str:
    """Content address of a trained system, from its record: settings, seed and revision of the data."""
    return content_key({"system": config, "seed": seed, "data": revision})


def content_key(value: Any) -> str:
    """Content address of a configuration: 24 hexadecimal digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:24]


def to_text(document: BaseModel) -> str:
    """JSON text of a record or card: sorted keys, two spaces of indentation, a final newline."""
    values = document.model_dump(mode="json")
    if values.get("task") == CLASSIFICATION:  # as in records that were made before there were other tasks
        del values["task"]
    return json.dumps(values, sort_keys=True, indent=2, allow_nan=False) + "\n"
