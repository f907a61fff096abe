"""`benchmark report`: report the boards and curves of a store as plain tables, and its site, to a tracker."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from benchmark import registry
from benchmark.errors import RecordError
from benchmark.hooks.events import Report, Series, Table
from benchmark.hooks.observers import Observers
from benchmark.records.document import content_key

from .board import Board, CurveSet
from .build import build
from .cells.load import read
from .ranking.aggregate import aggregate
from .site.column import exact_line
from .site.columns import board_columns

__all__ = ["main", "report_of"]


def main(store: Path, tracker: str, name: str) -> int:
    """Build the site of a store and report it to a tracker; returns 1 if the tracker failed."""
    made: Any = registry.load("tracker", tracker)()
    observers = Observers([made])
    report = report_of(store, name)
    observers.tell("benchmark_report", report=report)
    sys.stdout.write(
        f"{len(report.tables)} boards, {len(report.series)} sets of curves, {report.site / 'index.html'}\n"
    )
    return 1 if observers.problems else 0


def report_of(store: Path, name: str) -> Report:
    """Report on every cell of a store; its site is built into the store's folder `leaderboard`.

    Raises:
        RecordError: if there is no cell.
    """
    cells, problems = read([store / "cells"])
    if not cells:
        raise RecordError(f"{store} has no readable cell; name a store with --store")
    leaderboard = aggregate(cells, problems)
    site = build([store / "cells"], store / "leaderboard").parent
    return Report(
        key=content_key([cell.record.key for cell in cells]),
        name=name,
        root=store.resolve(),
        site=site,
        tables=tuple(_table(board) for board in leaderboard.boards),
        series=tuple(_series(curves) for curves in leaderboard.curves),
    )


def _table(board: Board) -> Table:
    """Board with every column of its CSV file."""
    p, of = board.protocol, board.protocol.conditions
    name = f"boards/{_slug(of.suite or 'no suite', of.dataset, of.norm, p.eps_exact, p.key[:6])}"
    rows = [exact_line(board_columns(board), row) for row in board.rows]
    return Table(name, tuple(rows[0]), tuple(tuple(row.values()) for row in rows))


def _series(curves: CurveSet) -> Series:
    lines = tuple(
        (curve.label, tuple(point[0] for point in curve.points), tuple(point[1] for point in curve.points))
        for curve in curves.curves
    )
    of = curves.conditions
    name = f"curves/{_slug(of.suite or 'no suite', of.dataset, of.norm, curves.key[:6])}"
    return Series(name, f"{of.norm} radius", "robust accuracy", lines)


def _slug(*words: str) -> str:
    return "_".join(re.sub(r"[^A-Za-z0-9.]+", "-", word) for word in words)
