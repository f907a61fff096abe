"""Text in a submission. The site escapes all of it; what has no business in a record is refused all the same."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from benchmark.errors import RecordError
from benchmark.records.record import Record

__all__ = ["check_names", "check_texts", "quoted"]

LONGEST = 20_000
PLAIN_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.+:@/ -]{0,98}[A-Za-z0-9_.+])?")
MARKUP = re.compile(r"<\s*[A-Za-z/!?]|&#|(?:javascript|vbscript|data)\s*:\s*[^\s/]*[,(/]", re.IGNORECASE)
HIDDEN = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")
BLANK = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters and signs that show nothing."""
PILED = re.compile(r"[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]{5}")
FORMULA = re.compile(r"\s*(?:[=@]|[+-].*[(|!])", re.DOTALL)


def check_texts(document: Any, name: str) -> None:
    """Look at every text and every key of a JSON document.

    Raises:
        RecordError: if one holds markup, a spreadsheet formula, or characters that hide or reorder text.
    """
    for place, text in _texts(document, ""):
        if len(text) > LONGEST:
            raise RecordError(f"{place} in {name} has {len(text)} characters; expected at most {LONGEST}")
        hidden = next((c for c in text if (unicodedata.category(c) in HIDDEN or c in BLANK) and c not in "\n\t"), "")
        if hidden:
            raise RecordError(
                f"{place} in {name} holds the invisible character U+{ord(hidden):04X}; expected plain text"
            )
        if PILED.search(unicodedata.normalize("NFD", text)):
            raise RecordError(f"{place} in {name} piles accents up; expected plain text")
        if MARKUP.search(text):
            raise RecordError(f"{place} in {name} holds markup or a script; expected plain text")
        if FORMULA.match(text):
            raise RecordError(f"{place} in {name} begins like a spreadsheet formula; expected plain text")


def _texts(document: Any, place: str) -> Iterator[tuple[str, str]]:
    """(where, text) of every string; places are made of names that were looked at before."""
    if isinstance(document, str):
        yield place or "a text", document
    elif isinstance(document, dict):
        for key, value in document.items():
            yield f"a key of {place or 'the document'}", key
            yield from _texts(value, f"{place}.{key}" if place else key)
    elif isinstance(document, list):
        for value in document:
            yield from _texts(value, place)


def check_names(record: Record) -> None:
    """The names that become headings, labels and file names.

    Raises:
        RecordError: if one is not made of letters, digits and a few signs.
    """
    system, attack = record.system, record.attack
    named = {
        "suite": [record.suite or "none"],
        "system": [system.dataset, system.model, *system.defenses, *system.poison],
        "attack": [attack.name, attack.distribution, attack.version],
        "threat": [record.threat.goal, record.threat.region, record.threat.surrogate or "none"],
        "metrics": [text for metric in record.metrics for text in (metric.name, metric.unit or "none")],
        "findings": [finding.name for finding in record.findings],
        "splits": list(record.splits),
    }
    for place, names in named.items():
        for name in names:
            if not PLAIN_NAME.fullmatch(name):
                raise RecordError(f"{place} holds the name {name[:60]!r}; expected letters, digits and . _ + : @ / -")


def quoted(text: str, longest: int = 300) -> str:
    """Text of a stranger for Markdown: one line of code in which nothing is interpreted."""
    plain = "".join(c if c.isprintable() else " " for c in text).replace("`", "'").replace("|", "\u00a6")
    plain = " ".join(plain.split())
    return f"`{plain[:longest]}{'...' if len(plain) > longest else ''}`" if plain else "(empty)"
