"""Charts as SVG, written when the site is built: without scripts or dependencies, the same bytes for the same numbers.

Colours come from the style sheet by class, so that a chart follows light, dark and print. Colour is never the only cue:
curves differ in dashes and have letters, the top group is also bold. Every chart has a title and a description.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from ..words.display import THIN, percent
from .drawing import (
    GLYPH,
    apart,
    circle,
    coordinate,
    frame,
    group,
    line,
    path,
    place_label,
    proved,
    room,
    scale,
    share_ticks,
    short,
    stairway,
    steps,
    svg,
    tick_label,
    written,
)

__all__ = ["LETTERS", "Bar", "Dot", "Series", "costs", "curves", "intervals", "pareto", "sample", "scatter", "strip"]

LETTERS = "ABCDEF"

NAMED = 60
"""Largest number of labelled dots of a scatter plot, besides those of its Pareto front."""

CROWD = 60
"""Number of dots above which they are drawn small and without their intervals."""


@dataclass(frozen=True)
class Bar:
    """One row of an interval plot. value, low, high, clean, certified: shares. front: in the top group."""

    rank: str
    label: str
    value: float
    low: float
    high: float
    clean: float | None
    certified: float | None
    front: bool


@dataclass(frozen=True)
class Series:
    """A curve: (eps, share, low, high), eps ascending. The share holds from its eps to the next one: a step curve."""

    label: str
    points: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class Dot:
    """A system in a scatter plot: x and y with their intervals, all shares."""

    label: str
    x: float
    x_low: float
    x_high: float
    y: float
    y_low: float
    y_high: float
    front: bool


def intervals(name: str, bars: Sequence[Bar], title: str, sentence: str, width: int = 480) -> Markup:
    """Interval plot: rank, name and number above a line from 0 to 100 %, with the clean accuracy as a tick."""
    row, top = 40, 6
    height = top + row * len(bars) + 22
    left, right = 4.0, width - 4.0
    place = scale(0, 1, left, right)
    bottom = height - 20
    parts = [
        line("grid", place(tick / 4), top, place(tick / 4), bottom) + tick_label(place(tick / 4), height - 4, tick)
        for tick in range(5)
    ]
    for at, bar in enumerate(bars):
        base = top + row * at
        y = base + 27
        said = f"{percent(bar.value, bar.low, bar.high)} %"
        kind = "t-front" if bar.front else "t-ink"
        letters = int((right - left) / GLYPH[bar.front]) - len(bar.rank) - len(said) - 2
        name_of = Markup('<tspan class="rank">{}</tspan> {}').format(bar.rank, short(bar.label, letters))
        row_parts = [
            written(kind, left, base + 13, name_of, size=13),
            written(kind, right, base + 13, said, size=13, anchor="end"),
            line("axis", left, y, right, y),
            line("band", place(bar.low), y, place(bar.high), y),
        ]
        if bar.clean is not None:
            row_parts.append(line("tick", place(bar.clean), y - 6, place(bar.clean), y + 6))
        if bar.certified is not None:
            row_parts.append(proved(place(bar.certified), y + 5))
        row_parts.append(circle("dot", place(bar.value), y, 5))
        parts.append(group("front" if bar.front else "", row_parts))
    return svg(name, width, height, title, sentence, parts)


def strip(value: float, low: float, high: float, clean: float | None, certified: float | None, front: bool) -> Markup:
    """Interval of one table row on a line of 100 units, decorative because the number is beside it."""
    tick = Markup('<path class="tick" d="M{} 2v8"/>').format(coordinate(100 * clean)) if clean is not None else ""
    mark = proved(100 * certified, 8) if certified is not None else ""
    return Markup(
        '<svg class="strip{}" viewBox="-4 0 108 12" aria-hidden="true"><path class="band" d="M{} 6H{}"/>{}{}'
        '<circle class="dot" cx="{}" cy="6" r="3"/></svg>'
    ).format(
        " front" if front else "", coordinate(100 * low), coordinate(100 * high), tick, mark, coordinate(100 * value)
    )


def curves(name: str, series: Sequence[Series], title: str, sentence: str, eps_label: str, mark: float) -> Markup:
    """Accuracy against eps: a step curve with its band for each of up to six systems; `mark` is the board's eps."""
    width, height, left, right, top, bottom = 520, 320, 40, 496, 12, 276
    furthest = max([mark, *(p[0] for one in series for p in one.points)])
    across, up = scale(0, furthest, left, right), scale(0, 1, bottom, top)
    parts = [frame(furthest, left, right, top, bottom)]
    parts.append(written("", (left + right) / 2, height - 6, eps_label, size=12, anchor="middle"))
    parts.append(line("now", across(mark), top, across(mark), bottom))
    drawn = list(zip(series, LETTERS, strict=False))
    for at, (one, _) in enumerate(drawn, start=1):
        upper = steps([(across(p[0]), up(p[3])) for p in one.points], right)
        lower = steps([(across(p[0]), up(p[2])) for p in one.points], right)
        parts.append(stairway(f"area f{at}", upper, lower))
    for at, (one, _) in enumerate(drawn, start=1):
        parts.append(stairway(f"curve s{at} d{at}", steps([(across(p[0]), up(p[1])) for p in one.points], right)))
    ends = apart([up(one.points[-1][1]) + 4 for one, _ in drawn], 13, bottom)
    for at, ((_, letter), y) in enumerate(zip(drawn, ends, strict=True), start=1):
        parts.append(written(f"f{at} t-front", right + 6, y, letter, size=12))
    return svg(name, width, height, title, sentence, parts)


def scatter(name: str, dots: Sequence[Dot], title: str, sentence: str, x_label: str, y_label: str) -> Markup:
    """Scatter plot of two shares with both intervals, and the Pareto front as a staircase."""
    low, high = room([dot.x_low for dot in dots], [dot.x_high for dot in dots])
    ticks = tuple((tick, f"{round(100 * tick)} %") for tick in share_ticks(low, high))
    return _plane(name, dots, title, sentence, _Axis(low, high, ticks, x_label, rising=True), y_label)


def costs(name: str, dots: Sequence[Dot], title: str, sentence: str, x_label: str, y_label: str) -> Markup:
    """Scatter plot of a share against a cost, where lower is better, with the Pareto front as a staircase.

    The cost is drawn as log(1 + cost), so that a cost of 0 has a place too.
    """
    turned = [replace(dot, x=-_log(dot.x), x_low=-_log(dot.x_high), x_high=-_log(dot.x_low)) for dot in dots]
    powers = range(1 + max((math.ceil(math.log10(max(1.0, 1.05 * dot.x_high))) for dot in dots), default=1))
    ticks = ((0.0, "0"), *((-_log(10.0**power), f"{10**power:,}".replace(",", THIN)) for power in powers))
    return _plane(name, turned, title, sentence, _Axis(ticks[-1][0], 0, ticks, x_label, rising=False), y_label)


@dataclass(frozen=True)
class _Axis:
    """Horizontal axis of a scatter plot. rising: drawn from low to high; False for high to low, low being worse."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    label: str
    rising: bool


def _log(cost: float) -> float:
    return math.log10(1 + cost)


def _plane(name: str, dots: Sequence[Dot], title: str, sentence: str, axis: _Axis, y_label: str) -> Markup:
    """Dots with intervals and labels, a grid, and the Pareto front as a staircase."""
    width, height, left, right, top, bottom = 520, 360, 40, 500, 24, 310
    y_low, y_high = room([dot.y_low for dot in dots], [dot.y_high for dot in dots])
    across = scale(axis.low, axis.high, *((left, right) if axis.rising else (right, left)))
    up = scale(y_low, y_high, bottom, top)
    parts: list[Markup] = []
    for tick, said in axis.ticks:
        parts.append(line("grid", across(tick), top, across(tick), bottom))
        parts.append(written("", across(tick), bottom + 17, said, size=12, anchor="middle"))
    for tick in share_ticks(y_low, y_high):
        parts.append(line("grid", left, up(tick), right, up(tick)))
        parts.append(written("", left - 6, up(tick) + 4, f"{round(100 * tick)}", size=12, anchor="end"))
    parts.append(written("", right, height - 8, f"{axis.label} \N{RIGHTWARDS ARROW}", size=12, anchor="end"))
    parts.append(written("", 0, 12, f"\N{UPWARDS ARROW} {y_label}", size=12))
    few = len(dots) <= CROWD
    front = pareto(dots)
    stairs = _staircase(front, axis.low, y_low)
    if stairs:
        parts.append(path("pareto", [(across(x), up(y)) for x, y in stairs]))
    boxes = [(across(d.x) - 6, up(d.y) - 6, across(d.x) + 6, up(d.y) + 6) for d in dots]
    labels: list[Markup] = []
    named = [dot for at, dot in enumerate(dots) if at < NAMED or dot in front]
    rest = [(across(dot.x), up(dot.y)) for dot in dots if dot not in named]
    if rest:
        parts.append(_cloud(rest))
    for dot in named:
        x, y = across(dot.x), up(dot.y)
        mark = [Markup("<title>{}</title>").format(dot.label), circle("dot", x, y, 5 if few else 3.5)]
        if few:
            mark.insert(1, line("cross", across(dot.x_low), y, across(dot.x_high), y))
            mark.insert(2, line("cross", x, up(dot.y_low), x, up(dot.y_high)))
        parts.append(group("front" if dot.front else "", mark))
        label = None
        if few or dot in front:
            label = place_label(short(dot.label, 34), x, y, (left, top, right, bottom), boxes, dot in front)
        if label is not None:
            labels.append(label)
    return svg(name, width, height, title, sentence, parts + labels)


def _cloud(points: Sequence[tuple[float, float]]) -> Markup:
    """Many dots as one path, without names."""
    return Markup('<path class="cloud" d="{}"/>').format(
        "".join(f"M{coordinate(x)} {coordinate(y)}h0" for x, y in points)
    )


def sample(at: int) -> Markup:
    """Line of curve number `at`, from 0, for a legend."""
    kind = f"curve s{at + 1} d{at + 1}"
    return Markup('<svg viewBox="0 0 32 14" aria-hidden="true">{}</svg>').format(line(kind, 0, 7, 32, 7))


def pareto(dots: Iterable[Dot]) -> list[Dot]:
    """Pareto front: dots that no other equals or beats in both directions and beats in one, by falling y."""
    kept: list[Dot] = []
    for dot in sorted(dots, key=lambda d: (-d.y, -d.x, d.label)):
        if not kept or dot.x > kept[-1].x or (dot.x, dot.y) == (kept[-1].x, kept[-1].y):
            kept.append(dot)
    return kept


def _staircase(front: Sequence[Dot], x_low: float, y_low: float) -> list[tuple[float, float]]:
    """Corner points of the front, from the left edge to the bottom edge."""
    if not front:
        return []
    corners = [(x_low, front[0].y)]
    for one, after in zip(front, [*front[1:], None], strict=True):
        corners.append((one.x, one.y))
        corners.append((one.x, after.y if after else y_low))
    return corners
