"""Charts of the site: the numbers of a board in each chart, and its description."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from ..board import Board, Curve, CurveSet, Row
from ..ranking.detectors import Point
from ..words.display import number, percent
from ..words.wording import norm_sign, radius, rank
from .charts import LETTERS, Bar, Dot, Series, costs, curves, intervals, scatter, strip

__all__ = ["CARD_ROWS", "LETTERS", "attack_costs", "curve_plot", "interval_plot", "risk_plot",
           "roc_plot", "row_strip", "trade_off"]  # fmt: skip

CARD_ROWS = 6
CURVES = len(LETTERS)


def interval_plot(board: Board, name: str, rows: int, width: int) -> Markup:
    """First rows of a board with their intervals."""
    bars = [
        Bar(rank(row), row.label, row.robust.value, row.robust.low, row.robust.high, row.clean.value, _certified(row),
            place < board.front)
        for place, row in enumerate(board.rows[:rows])
    ]  # fmt: skip
    first = "; ".join(f"{bar.rank}: {bar.label} {percent(bar.value, bar.low, bar.high)} %" for bar in bars[:3])
    more = "" if len(board.rows) <= rows else f" The first {rows} of {len(board.rows)} systems."
    return intervals(
        name,
        bars,
        f"Robust accuracy at {radius(board.protocol)}",
        "Ranks, and shares of examples classified correctly under every attack with 95 % intervals; ticks mark clean "
        "accuracy. "
        f"{first}.{more}",
        width,
    )


def row_strip(row: Row, front: bool) -> Markup:
    """Small interval plot of one row."""
    return strip(row.robust.value, row.robust.low, row.robust.high, row.clean.value, _certified(row), front)


def _certified(row: Row) -> float | None:
    return row.certified.value if row.certified else None


def trade_off(board: Board, name: str) -> Markup:
    """Clean against robust accuracy."""
    dots = [
        Dot(
            row.label,
            row.clean.value,
            row.clean.low,
            row.clean.high,
            row.robust.value,
            row.robust.low,
            row.robust.high,
            place < board.front,
        )
        for place, row in enumerate(board.rows[: board.ranked])
    ]
    return scatter(
        name,
        dots,
        f"Clean against robust accuracy at {radius(board.protocol)}",
        "Each point is a system with both 95 % intervals; the dashed line joins the systems that no other exceeds "
        "in both. The numbers are in the table of the board.",
        "clean accuracy",
        "robust accuracy",
    )


def attack_costs(board: Board, name: str) -> Markup:
    """Success of each attack against its cost."""
    best = max((standing.success.value for standing in board.attacks), default=0.0)
    dots = [
        Dot(
            board.columns[standing.column].label,
            passes,
            passes,
            passes,
            standing.success.value,
            standing.success.low,
            standing.success.high,
            standing.success.value == best,
        )
        for standing in board.attacks
        for passes in [standing.forwards + standing.backwards]
    ]
    return costs(
        name,
        dots,
        f"Success against cost of the attacks at {radius(board.protocol)}",
        "Each point is an attack with the 95 % interval of its success; the dashed line joins the attacks that no "
        "other exceeds in both. The numbers are in the table of the attacks.",
        "passes per example",
        "success",
    )


def curve_plot(of: CurveSet, chosen: Sequence[Curve], name: str, mark: float) -> Markup:
    """Accuracy against radius for up to six systems."""
    shown = list(chosen)[:CURVES]
    said = "; ".join(f"{one.label} has a mean robust accuracy of {percent(one.area)} %" for one in shown[:3])
    return curves(
        name,
        [Series(one.label, one.points) for one in shown],
        f"Robust accuracy against the {norm_sign(of.conditions.norm)} radius",
        f"Step curves from the smallest distance found for each example, up to eps {number(of.eps0)}, with "
        f"simultaneous 95 % bands. Over these radii {said}.",
        "eps",
        mark,
    )


def roc_plot(board: Board, name: str, curves_of: Sequence[tuple[str, Sequence[Point]]]) -> Markup:
    """Receiver operating characteristic of up to six systems with detectors; a line marks 5 %."""
    return curves(
        name,
        [Series(label, tuple(points)) for label, points in curves_of[:CURVES]],
        f"Receiver operating characteristic of the detectors at {radius(board.protocol)}",
        "The share of deceptive candidates refused by each detector, against the share of clean inputs refused, over "
        "all thresholds. The numbers are in the table of the detectors.",
        "false positive rate",
        0.05,
    )


def risk_plot(board: Board, name: str, curves_of: Sequence[tuple[str, Sequence[Point]]]) -> Markup:
    """Risk-coverage curves of up to six systems with detectors; a line marks 95 %."""
    return curves(
        name,
        [Series(label, tuple(points)) for label, points in curves_of[:CURVES]],
        f"Risk against coverage at {radius(board.protocol)}",
        "The share of wrong answers among the answered inputs, the least suspicious first, against the share of "
        "answered inputs. The numbers are in the table of the detectors.",
        "coverage",
        0.95,
    )
