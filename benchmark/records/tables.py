"""Tables of plain values as text, CSV, Markdown or LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from benchmark.errors import ConfigError

__all__ = ["FORMATS", "fitted", "markdown_cell", "table"]

FORMATS = ("text", "csv", "markdown", "latex")
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], form: str = "text") -> str:
    """Table in one of the formats; a LaTeX one is a `tabular` in the style of booktabs.

    Raises:
        ConfigError: if there is no such format.
    """
    if form == "csv":
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([columns, *rows])
        return out.getvalue().rstrip("\n")
    if form == "markdown":
        lines = [columns, ["---"] * len(columns), *([markdown_cell(cell) for cell in row] for row in rows)]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    if form == "latex":
        head, *body = (" & ".join(_escaped(cell) for cell in line) + r" \\" for line in (columns, *rows))
        return "\n".join([
            rf"\begin{{tabular}}{{{'l' * len(columns)}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule",
            r"\end{tabular}",
        ])  # fmt: skip
    if form != "text":
        raise ConfigError(f"the table format is {form!r}; expected one of {', '.join(FORMATS)}")
    widths = [max(len(line[at]) for line in (columns, *rows)) for at in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (columns, *rows)
    )


def fitted(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> str:
    """Text table cut into blocks of at most `width` characters; each repeats the first column.

    A block has at least one more column, so that a narrow window shows everything.
    """
    sizes = [max(len(line[at]) for line in (columns, *rows)) for at in range(len(columns))]
    blocks: list[list[int]] = [[]]
    for at in range(1, len(columns)):
        used = sizes[0] + sum(2 + sizes[other] for other in blocks[-1])
        if blocks[-1] and used + 2 + sizes[at] > width:
            blocks.append([])
        blocks[-1].append(at)
    parts = [
        table([columns[0], *(columns[at] for at in block)], [[row[0], *(row[at] for at in block)] for row in rows])
        for block in blocks
    ]
    return "\n\n".join(parts)


def markdown_cell(text: str) -> str:
    """Text escaped for a cell of a Markdown table or a list."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "'")


def _escaped(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)
