"""Tables as files: CSV without spreadsheet formulas, JSON with every digit, LaTeX and Markdown to paste, BibTeX."""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from .display import THIN

__all__ = [
    "FORMATS",
    "DownloadTable",
    "Value",
    "as_bibtex",
    "as_csv",
    "as_json",
    "as_latex",
    "as_markdown",
    "bibtex_entry",
    "files",
]

Value = str | int | float | bool | None
FORMATS = (("CSV", "csv"), ("JSON", "json"), ("LaTeX", "tex"), ("Markdown", "md"), ("BibTeX", "bib"))


@dataclass(frozen=True)
class DownloadTable:
    """A table for download, as data and for display.

    rows: counts and unrounded numbers, by column. head, lines: as displayed on the page, rounded; the first column is a
    name. about: further content of the JSON.
    """

    caption: str
    rows: Sequence[Mapping[str, Value]]
    head: tuple[str, ...]
    lines: Sequence[tuple[str, ...]]
    about: Mapping[str, object] = field(default_factory=dict)


def files(stem: str, table: DownloadTable, publisher: str) -> Iterator[tuple[str, str]]:
    """Table in every format: (path, text). publisher: the name of the site, for the citation."""
    exact = as_csv(table.rows)
    yield f"{stem}.csv", exact
    yield f"{stem}.json", _with_rows({**table.about, "caption": table.caption}, table.rows)
    yield f"{stem}.tex", as_latex(table)
    yield f"{stem}.md", as_markdown(table)
    yield f"{stem}.bib", as_bibtex(table.caption, hashlib.sha256(exact.encode()).hexdigest(), publisher)


def as_csv(rows: Sequence[Mapping[str, Value]]) -> str:
    """Comma-separated values (RFC 4180) with a header, one line per row, nothing for None.

    Text that a spreadsheet would take for a formula gets a leading apostrophe; numbers stay numbers, exact to the last
    bit. Rows may lack columns; the header is the union in order of appearance.
    """
    columns = list(dict.fromkeys(itertools.chain.from_iterable(rows)))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow([_harmless(name) for name in columns])
    writer.writerows(
        [_harmless(value) if isinstance(value, str) else value for value in map(row.get, columns)] for row in rows
    )
    return stream.getvalue()


def as_json(document: object) -> str:
    """JSON with sorted keys; non-finite numbers raise an error."""
    return json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_latex(table: DownloadTable) -> str:
    """Table environment in the style of the package booktabs."""
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{_latex(table.caption)}}}",
        f"\\begin{{tabular}}{{l{'r' * (len(table.head) - 1)}}}",
        "\\toprule",
        _latex_line(table.head),
        "\\midrule",
        *map(_latex_line, table.lines),
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def as_markdown(table: DownloadTable) -> str:
    """Markdown table, numbers aligned to the right, the caption below."""
    ruler = [":---", *["---:"] * (len(table.head) - 1)]
    lines = [[_markdown(cell) for cell in line] for line in (table.head, *table.lines)]
    lines.insert(1, ruler)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{_markdown(table.caption)}\n"


def as_bibtex(title: str, sha256: str, publisher: str) -> str:
    """Citation of one table, which identifies its content: the same numbers have the same entry."""
    fields = {
        "title": f"{{{_latex(title)}}}",
        "author": f"{{{_latex(publisher)}}}",
        "howpublished": "Table of measured results",
        "note": f"sha256 of the table as CSV: {sha256}",
    }
    lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    return f"@misc{{benchmark-{sha256[:12]},\n{lines}\n}}\n"


def bibtex_entry(kind: str, key: str, fields: Mapping[str, str]) -> str:
    """Entry with the fields that are not empty; the title keeps its capitals."""
    known = {name: _latex(text) for name, text in fields.items() if text}
    lines = ",\n".join(f"  {name} = {{{f'{{{text}}}' if name == 'title' else text}}}" for name, text in known.items())
    return f"@{kind}{{{key},\n{lines}\n}}\n"


def _with_rows(head: Mapping[str, object], rows: Sequence[Mapping[str, Value]]) -> str:
    """JSON with one row per line, which is faster to write and to compare than one value per line."""
    encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False, allow_nan=False).encode
    lines = map(encode, rows)
    return as_json(head).removesuffix("\n}\n") + ',\n "rows": [\n' + ",\n".join(lines) + "\n ]\n}\n"


SPLIT = re.compile(r"([;\t] *)([=+@-])")
"""Formula after a character at which a spreadsheet of another locale splits a line."""


@functools.lru_cache(1 << 14)
def _harmless(text: str) -> str:
    if text.lstrip(" ")[:1] in ("=", "+", "-", "@", "\t", "\r", "\n"):
        return f"'{text}"
    return SPLIT.sub(r"\1'\2", text)


LATEX = {
    "\\": "\\textbackslash{}", "{": "\\textbraceleft{}", "}": "\\textbraceright{}", "&": "\\&", "%": "\\%", "$": "\\$",
    "#": "\\#", "_": "\\_", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}",
    ">": "\\textgreater{}", "|": "\\textbar{}", '"': "\\textquotedbl{}", "\N{INFINITY}": "$\\infty$",
    "\N{LESS-THAN OR EQUAL TO}": "$\\le$", "\N{EN DASH}": "--", "\N{MINUS SIGN}": "$-$",
    "\N{NARROW NO-BREAK SPACE}": "\\,", "\N{HORIZONTAL ELLIPSIS}": "\\ldots{}",
}  # fmt: skip
"""Braces as commands, since BibTeX counts braces even if escaped."""
_LATEX = str.maketrans(LATEX)
LINKED = re.compile(r"(?i)\b(www|https?|ftp)([.:])")
"""Beginning of an address that Markdown dialects turn into a link by themselves."""
MARKDOWN = re.compile(r"([\\`*_{}\[\]|~&<>])")


def _latex_line(cells: Sequence[str]) -> str:
    """Line of a table; a bracket or star at its beginning would be an argument of the command before."""
    text = " & ".join(map(_latex, cells))
    return f"{'{}' if text[:1] in ('[', '*') else ''}{text} \\\\"


@functools.lru_cache(1 << 14)
def _latex(text: str) -> str:
    """Text escaped for LaTeX; unprintable characters become spaces."""
    return _plain(text).translate(_LATEX)


@functools.lru_cache(1 << 14)
def _markdown(text: str) -> str:
    """Text escaped for Markdown, on one line, without markup or HTML."""
    return (
        LINKED.sub(r"\1\\\2", MARKDOWN.sub(r"\\\1", _plain(text)))
        .replace("\\<", "&lt;")
        .replace("\\>", "&gt;")
        .replace("\\&", "&amp;")
    )


def _plain(text: str) -> str:
    """Text on one line. The thin space between thousands is kept, although Python does not call it printable."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign == THIN else " " for sign in text)
