"""Results by example: the attacks that broke each example of a system, and its nearest known adversarial example."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..board import Board, Row
from ..cells.evidence import Answers
from ..words.display import NOTHING, number
from ..words.downloads import DownloadTable, Value
from ..words.wording import radius

__all__ = ["DRILL_EXAMPLES", "ExampleLine", "example_lines", "examples_table"]

DRILL_EXAMPLES = 1000
"""Largest number of examples for which a system has such a page, since each cell is read a second time."""


@dataclass(frozen=True)
class ExampleLine:
    """One example on one board.

    clean: correct without an attack, in every run. broken_by: labels of the attacks that broke it in some run.
    distance: of the nearest adversarial example within the radius, in the norm of the board, None if none is known;
    nearest: the attack that found it.
    """

    id: int
    clean: bool
    broken_by: tuple[str, ...]
    distance: float | None
    nearest: str


def example_lines(board: Board, row: Row, answers: Callable[[str], Answers]) -> list[ExampleLine]:
    """Examples of a row in the order of the list; empty if there are more than `DRILL_EXAMPLES`."""
    total = board.protocol.conditions.total
    if total > DRILL_EXAMPLES:
        return []
    ids: Sequence[int] = []
    clean = [True] * total
    broken: list[list[str]] = [[] for _ in range(total)]
    nearest: list[tuple[float, str]] = [(float("inf"), "")] * total
    for column, score in zip(board.columns, row.scores, strict=True):
        for key in score.keys if score else ():
            found = answers(key)
            ids = found.ids.tolist()
            for at in range(total):
                clean[at] = clean[at] and bool(found.clean[at])
                if found.broken[at]:
                    if column.label not in broken[at]:
                        broken[at].append(column.label)
                    nearest[at] = min(nearest[at], (float(found.distance[at]), column.label))
    return [
        ExampleLine(ids[at], clean[at], tuple(broken[at]), nearest[at][0] if nearest[at][1] else None, nearest[at][1])
        for at in range(len(ids))
    ]


def examples_table(found: Sequence[tuple[Board, Sequence[ExampleLine]]], label: str) -> DownloadTable:
    """Download table with one line per board and example."""
    lines = list(_lines(found))
    return DownloadTable(
        f"{label}, by example: the attacks that broke it, and the distance of the nearest adversarial example.",
        [_exact(board, line) for board, line in lines],
        ("Example", "Threat", "Clean", "Broken by", "Distance", "Found by"),
        [
            (str(line.id), radius(board.protocol), "right" if line.clean else "wrong",
             ", ".join(line.broken_by) or NOTHING, number(line.distance), line.nearest or NOTHING)
            for board, line in lines
        ],
    )  # fmt: skip


def _lines(found: Sequence[tuple[Board, Sequence[ExampleLine]]]) -> Iterator[tuple[Board, ExampleLine]]:
    return ((board, line) for board, lines in found for line in lines)


def _exact(board: Board, line: ExampleLine) -> dict[str, Value]:
    return {
        "board_key": board.protocol.key, "norm": board.protocol.conditions.norm, "eps": board.protocol.eps_exact,
        "example": line.id, "clean_correct": line.clean, "broken_by": "; ".join(line.broken_by),
        "distance": line.distance, "found_by": line.nearest,
    }  # fmt: skip
