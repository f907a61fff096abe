"""A column of a table: its name and content, and the numeric columns of every table."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from ..board import AttackColumn, Measured, Metric, Rate, Row
from ..words.display import interval, number, percent
from ..words.downloads import Value
from ..words.wording import words

__all__ = [
    "ATTACKS",
    "METRICS",
    "Column",
    "Of",
    "amount_column",
    "count_column",
    "exact_line",
    "interval_of",
    "metric_columns",
    "on_page",
    "rate_column",
    "share_of",
    "used",
    "value_of",
]

Of = TypeVar("Of")

METRICS = "metrics"

ATTACKS = "attacks alone"

METRIC_COLUMNS = 8
"""Largest number of plugins' metrics on a page; the downloads have all of them."""

OF_DETECTORS = re.compile(
    r"detection_\w+|false_positive_rate|(clean|attacked)_risk_\w+|clean_accuracy_with_rejection|clean_refused"
    r"|robust_accuracy_(with_rejection|answered)|robust_by_refusal"
)
"""Metrics shown only in the table of the detectors."""


@dataclass(frozen=True)
class Column(Generic[Of]):
    """A column of a table with one line per `Of`.

    name: identifier in the script and in the URL of a sorted table. title: heading. label: full name, "" for the title.
    value: exact value for sorting. text: displayed value, rounded. span: its interval, None for none.
    exact: values for CSV, JSON and trackers, by name. explanation: tooltip of the heading. css: class of the heading.
    kind, first, unit: how the script sorts and compares it; "" if not. group: position on the page of columns of
    variable number. hidden: only in the downloads. cell: the macro that draws it.
    """

    name: str
    title: str
    value: Callable[[Of], Value]
    text: Callable[[Of], str]
    exact: Callable[[Of], Mapping[str, Value]]
    span: Callable[[Of], str] | None = None
    label: str = ""
    explanation: str = ""
    css: Literal["", "num", "pin"] = "num"
    kind: Literal["", "number", "text"] = "number"
    first: Literal["", "asc"] = ""
    unit: Literal["", "share"] = ""
    group: str = ""
    hidden: bool = False
    cell: str = "number"


def on_page(columns: Sequence[Column[Of]], names: Sequence[str]) -> list[Column[Of]]:
    """Columns of those names or groups, in the order of the names."""
    return [c for name in names for c in columns if name in (c.name, c.group) and not c.hidden]


def exact_line(columns: Sequence[Column[Of]], one: Of) -> dict[str, Value]:
    """Counts and unrounded numbers of one line, by name."""
    return {name: value for column in columns for name, value in column.exact(one).items()}


def metric_columns(
    metrics: Sequence[Metric], found: Callable[[Metric], Callable[[Of], Measured | None]], which: str
) -> list[Column[Of]]:
    """Columns of plugins' metrics, those shown on a page first."""
    shown = [metric for metric in metrics if not OF_DETECTORS.fullmatch(metric.name)][:METRIC_COLUMNS]
    return [
        metric_column(at, metric, found(metric), which, hidden=metric not in shown) for at, metric in enumerate(metrics)
    ]


def used(column: AttackColumn) -> str:
    """Access that the attack used; that of the threat if no pass was counted."""
    return column.used or column.access


def rate_column(
    name: str,
    title: str,
    rate: Callable[[Row], Rate | None],
    exact: Callable[[Row], Mapping[str, Value]],
    *,
    label: str,
    hidden: bool = False,
    cell: str = "number",
) -> Column[Row]:
    """A share of the examples with its interval."""
    return Column(
        name, title, lambda row: value_of(rate(row)), lambda row: share_of(rate(row)), exact,
        lambda row: interval_of(rate(row)), label=label, unit="share", hidden=hidden, cell=cell,
    )  # fmt: skip


def count_column(name: str, title: str, count: Callable[[Row], float]) -> Column[Row]:
    """A column of counts, without decimals."""
    return Column(name, title, count, lambda row: number(count(row)), lambda row: {name: count(row)})


def amount_column(
    name: str, title: str, amount: Callable[[Of], float | None], exact: str, explanation: str = "", label: str = ""
) -> Column[Of]:
    """A number without an interval."""
    first: Literal["", "asc"] = "asc" if name in ("forwards", "backwards") else ""
    return Column(
        name, title, amount, lambda one: number(amount(one)), lambda one: {exact: amount(one)},
        label=label, explanation=explanation, first=first,
    )  # fmt: skip


def metric_column(
    at: int, metric: Metric, found: Callable[[Of], Measured | None], which: str, *, hidden: bool
) -> Column[Of]:
    """A plugin's metric; a share is shown in percent, like all shares."""
    share = metric.unit == "fraction"
    direction = {True: "higher is better", False: "lower is better", None: ""}[metric.higher_is_better]
    told = ", ".join(part for part in (metric.unit, direction, which) if part)
    key = f"metric {metric.name}{f' [{metric.unit}]' if metric.unit else ''}"

    def part(one: Of, name: str) -> float | None:
        of = found(one)
        return None if of is None else getattr(of, name)

    def span(one: Of) -> str:
        low, high = part(one, "low"), part(one, "high")
        if low is None or high is None:
            return ""
        return interval(low, high) if share else f"{number(low)}\N{EN DASH}{number(high)}"

    def text(one: Of) -> str:
        value = part(one, "value")
        return percent(value, part(one, "low"), part(one, "high")) if share else number(value)

    unit = "%" if share else metric.unit
    return Column(
        f"m{at + 1}", f"{words(metric.name)}{f', {unit}' if unit else ''}", lambda one: part(one, "value"), text,
        lambda one: {key: part(one, "value"), f"{key} low": part(one, "low"), f"{key} high": part(one, "high")},
        span, explanation=told, unit="share" if share else "", group=METRICS, hidden=hidden,
    )  # fmt: skip


def value_of(rate: Rate | None) -> float | None:
    """Value of a share, None without one."""
    return rate.value if rate else None


def share_of(rate: Rate | None) -> str:
    """A share in percent, empty without one."""
    return percent(rate.value, rate.low, rate.high) if rate else percent(None)


def interval_of(rate: Rate | None) -> str:
    """Interval of a share in percent, empty without one."""
    return interval(rate.low, rate.high) if rate else ""
