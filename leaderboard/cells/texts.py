"""Text from strangers in JSON documents. The site escapes all of it, but suspicious text is refused anyway."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from benchmark.errors import RecordError

from .strict_json import strict_json

__all__ = ["check_texts", "checked_json"]

LONGEST = 20_000
MARKUP = re.compile(
    r"<\s{0,9}[A-Za-z/!?]|&#|(?:javascript|vbscript|data)\s{0,9}:\s{0,9}[^\s/]{0,99}[,(/]", re.IGNORECASE
)
"""Patterns of markup and scripts; every part is bounded, so that the search is linear in the text."""
HIDDEN = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")
BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
"""Invisible characters."""
VARIANT = re.compile("[\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Variation selectors: invisible characters that make equal texts differ."""
STYLED = re.compile("[\u2100-\u2115\u2119-\u2121\u2460-\u24ff\uff01-\uff5e\U0001d400-\U0001d7ff\U0001f100-\U0001f1ff]")
"""Stylised letters and digits: mathematical, circled, full-width."""
PILED = re.compile(r"[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]{5}")
WORD = re.compile(r"[^\W\d_]+")
FORMULA = re.compile(r"\s*(?:[=@]|[+-].*[(|!])", re.DOTALL)
INNER_FORMULA = re.compile(r"[;\t][ ]{0,9}(?:[=@]|[+-][^;\t]{0,99}[(|!])")
"""Formula after a character at which a spreadsheet of another locale splits a line."""


def checked_json(data: bytes, name: str) -> Any:
    """Parse a document, and check its structure and every text in it; errors call it `name`.

    Raises:
        RecordError: see :func:`.strict_json.strict_json` and :func:`check_texts`.
    """
    document = strict_json(data, name)
    check_texts(document, name)
    return document


def check_texts(document: Any, name: str) -> None:
    """Check every string and every key of a JSON document.

    Raises:
        RecordError: if one contains markup, a spreadsheet formula, or characters that hide or reorder text.
    """
    for place, text in _texts(document, ""):
        if len(text) > LONGEST:
            raise RecordError(f"{place} in {name} has {len(text)} characters; expected at most {LONGEST}")
        hidden = next((c for c in text if _invisible(c)), "")
        if hidden:
            raise RecordError(
                f"{place} in {name} contains the invisible character U+{ord(hidden):04X}; expected plain text"
            )
        if PILED.search(unicodedata.normalize("NFD", text)):
            raise RecordError(f"{place} in {name} has stacked accents; expected plain text")
        disguised = STYLED.search(text) or next((w for w in WORD.finditer(text) if _of_two_scripts(w[0])), None)
        if disguised:
            raise RecordError(
                f"{place} in {name} contains {disguised[0][:40]!r}, letters that look like others; expected plain text"
            )
        if MARKUP.search(text):
            raise RecordError(f"{place} in {name} contains markup or a script; expected plain text")
        if FORMULA.match(text) or INNER_FORMULA.search(text):
            begins = "begins" if FORMULA.match(text) else "has a part that begins"
            raise RecordError(f"{place} in {name} {begins} like a spreadsheet formula; expected plain text")


def _invisible(sign: str) -> bool:
    category = unicodedata.category(sign)
    if sign in " \n\t":
        return False
    return category in HIDDEN or category == "Zs" or sign in BLANK or VARIANT.fullmatch(sign) is not None


def _of_two_scripts(word: str) -> bool:
    """True if a word of several scripts has letters that Unicode's list of confusables maps to Latin ones."""
    if word.isascii():
        return False
    from confusable_homoglyphs import confusables

    return bool(confusables.is_dangerous(word, preferred_aliases=["latin"]))


def _texts(document: Any, place: str) -> Iterator[tuple[str, str]]:
    """Location and text of every string; locations consist of names that were checked before."""
    if isinstance(document, str):
        yield place or "a text", document
    elif isinstance(document, dict):
        for key, value in document.items():
            yield f"a key of {place or 'the document'}", key
            yield from _texts(value, f"{place}.{key}" if place else key)
    elif isinstance(document, list):
        for value in document:
            yield from _texts(value, place)
