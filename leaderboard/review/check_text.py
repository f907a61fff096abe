"""Check of the text in a submission. The site escapes all of it, but suspicious text is refused anyway."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from benchmark.errors import RecordError
from benchmark.records.record import Record

__all__ = ["check_names", "check_texts", "folded", "quoted"]

LONGEST = 20_000
PLAIN_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.+:@/ -]{0,98}[A-Za-z0-9_.+])?")
COMPONENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,62}")
"""Pattern of a plugin's name; names are joined by characters that it excludes, so that none looks like two."""
APPROVAL = re.compile(
    r"verif|official|independ|approv|trust|certif|proved|review|re_?run|endors|attested", re.IGNORECASE
)
"""Words of approval, which no finding contains."""
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
FOLDS = (("rn", "m"), ("vv", "w"), ("i", "l"), ("1", "l"), ("0", "o"), ("5", "s"))
FORMULA = re.compile(r"\s*(?:[=@]|[+-].*[(|!])", re.DOTALL)


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
        if FORMULA.match(text):
            raise RecordError(f"{place} in {name} begins like a spreadsheet formula; expected plain text")


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


def folded(name: str) -> str:
    """Skeleton of a name, equal for names that look alike, such as mlp and mIp."""
    plain = re.sub(r"[^a-z0-9]", "", name.replace("I", "l").lower())
    for sign, alike in FOLDS:
        plain = plain.replace(sign, alike)
    return plain


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


def check_names(record: Record) -> None:
    """Check the names that become headings, labels and file names.

    Raises:
        RecordError: if one contains other characters than letters, digits and a few signs.
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
                raise RecordError(f"{place} has the name {name[:60]!r}; expected letters, digits and . _ + : @ / -")
    for name in (*named["system"], attack.name):
        if not COMPONENT.fullmatch(name):
            raise RecordError(f"a plugin is called {name[:60]!r}; expected letters, digits and . _ : - alone")
    for name in named["findings"]:
        if APPROVAL.search(name):
            raise RecordError(f"a finding is called {name[:60]!r}; expected a name that reports a fault, not approval")


def quoted(text: str, longest: int = 300) -> str:
    """A stranger's text as Markdown: one line of code in which nothing is interpreted."""
    plain = "".join(c if c.isprintable() else " " for c in text).replace("`", "'").replace("|", "\u00a6")
    plain = " ".join(plain.split())
    return f"`{plain[:longest]}{'...' if len(plain) > longest else ''}`" if plain else "(empty)"
