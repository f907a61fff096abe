"""Detectors on the page of a board: their table, its downloads, and the data of both curves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from benchmark.records.record import Record

from ..board import Board
from ..cells.suspicion import Suspicion
from ..ranking.detectors import Detected, Point, detected, risk_points, roc_points
from ..words.display import percent
from ..words.downloads import DownloadTable, Value, files
from ..words.wording import radius, suite_title, words
from .charts import LETTERS
from .paths import Paths, stem

__all__ = ["DETECTION_COLUMNS", "detector_files", "detector_values", "fitted"]

DETECTION_COLUMNS = (
    ("detection_rate", "Detection rate"),
    ("false_positive_rate", "FPR"),
    ("detection_auroc", "AUROC"),
    ("detection_rate_at_1_percent", "TPR at 1 % FPR"),
    ("detection_rate_at_5_percent", "TPR at 5 % FPR"),
    ("robust_accuracy_with_rejection", "Robust with rejection"),
    ("clean_accuracy_with_rejection", "Clean with rejection"),
    ("attacked_risk_area", "Risk, mean over coverage"),
)
"""Measurements of detectors by name, with their headings."""
DETECTOR_LINES = 60
"""Largest number of lines of the table on a page."""


def fitted(of: Detected) -> str:
    """Description of the data that the detectors of a system were fitted on."""
    said = {name: ", ".join(map(words, attacks)) or "clean examples" for name, attacks in of.fitted_on.items()}
    if len(said) == 1:
        return next(iter(said.values()))
    return "; ".join(f"{words(name)}: {what}" for name, what in said.items())


def detector_values(
    board: Board, records: Mapping[str, Record], suspicion: Callable[[str], Suspicion | None]
) -> dict[str, Any]:
    """Values for the page of a board; each curve is of a system under the first attack of its lines."""
    lines = detected(board, records)
    rocs: list[tuple[str, list[Point]]] = []
    risks: list[tuple[str, list[Point]]] = []
    first = {one.row.key: one for one in reversed(lines)}
    for one in (line for line in lines if first[line.row.key] is line):
        scores = suspicion(one.score.keys[0]) if len(rocs) < len(LETTERS) else None
        if scores is not None and (points := roc_points(scores)):
            label = f"{one.row.label}, {one.column.label}"
            rocs.append((label, points))
            risks.append((label, risk_points(scores.attacked, scores.attacked_wrong)))
    return {"detected_lines": lines[:DETECTOR_LINES], "detected_of": len(lines), "rocs": rocs, "risks": risks}


def detector_files(board: Board, records: Mapping[str, Record], paths: Paths, site: str) -> Iterator[tuple[str, str]]:
    """Table of the detectors for download, if the board has any."""
    lines = detected(board, records)
    if lines:
        yield from files(f"{stem(paths.board(board.protocol.key))}-detectors", _table(board, lines), site)


def _table(board: Board, lines: list[Detected]) -> DownloadTable:
    return DownloadTable(
        f"Detectors at {radius(board.protocol)} ({suite_title(board.protocol)}), shares in percent.",
        [
            {
                "system": one.row.label,
                "system_key": one.row.key,
                "fitted_on": fitted(one),
                "attack": one.column.label,
                "seen": "seen" if one.seen else "unseen",
                **_exact(one),
            }
            for one in lines
        ],
        ("System", "Fitted on", "Attack", "Seen", *(title for _, title in DETECTION_COLUMNS)),
        [
            (one.row.label, fitted(one), one.column.label, "seen" if one.seen else "unseen", *map(str, _shown(one)))
            for one in lines
        ],
        {"protocol": board.protocol.document},
    )


def _exact(one: Detected) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for name, _ in DETECTION_COLUMNS:
        of = one.measured(name)
        found.update({name: of.value if of else None, f"{name}_low": of.low if of else None,
                      f"{name}_high": of.high if of else None})  # fmt: skip
    return found


def _shown(one: Detected) -> list[str]:
    measured = [one.measured(name) for name, _ in DETECTION_COLUMNS]
    return [percent(of.value, of.low, of.high) if of else percent(None) for of in measured]
