"""Check of names and settings in a submitted record: rows are labelled by them, so they are short and claim nothing."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

from benchmark import registry
from benchmark.errors import RecordError
from benchmark.records.record import Record

__all__ = ["check_settings"]

MOST_SETTINGS = 1000
LONGEST_SETTING = 300
SHOWN = 60
PRAISE = re.compile(r"verified|official|independently|approved|trusted|reviewed|endorsed|attested", re.IGNORECASE)
"""Words of approval. Unlike a finding, a setting may be certified or improved."""


def check_settings(record: Record, place: str) -> None:
    """Check number, length and words of the settings; errors call the record `place`.

    Raises:
        RecordError: naming the first setting that is too long or contains a word of approval.
    """
    names = [record.system.dataset, record.system.model, *record.system.defenses, *record.system.poison,
             record.attack.name, record.suite]  # fmt: skip
    parts = {
        "the names of plugins and suite": names,
        "system.config": record.system.config,
        "attack.params": record.attack.params,
        "certifiers": record.certifiers,
        "measured_by": record.measured_by,
    }
    for part, settings in parts.items():
        found = list(_texts(settings))
        if len(found) > MOST_SETTINGS:
            raise RecordError(f"{place} has {len(found)} settings in {part}; expected at most {MOST_SETTINGS}")
        for text in found:
            if len(text) > LONGEST_SETTING:
                raise RecordError(
                    f"{place} has a setting of {len(text)} characters in {part}; expected at most {LONGEST_SETTING}"
                )
            if PRAISE.search(text) and text not in _known():
                raise RecordError(f"{place} has {text[:SHOWN]!r} in {part}; expected no words of approval")


def _texts(settings: Any) -> Iterator[str]:
    """Every name and every value of nested settings, as text."""
    if isinstance(settings, dict):
        for name, value in settings.items():
            yield name
            yield from _texts(value)
    elif isinstance(settings, list):
        for value in settings:
            yield from _texts(value)
    else:
        yield str(settings)


@functools.cache
def _known() -> frozenset[str]:
    """Names of installed plugins."""
    return frozenset(plugin.name for plugin in registry.declared())
