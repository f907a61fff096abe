"""Charts as SVG, written when the site is built: no script, no dependency, the same bytes for the same numbers.

Colours come from the style sheet by class, so that a chart follows light, dark and print. Nothing is told by colour
alone: curves differ in dashes and carry letters, the top group is also bold. Every chart has a title and a sentence.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup, escape

from ..words.display import THIN, number, percent

__all__ = ["LETTERS", "Bar", "Dot", "Series", "costs", "curves", "intervals", "pareto", "sample", "scatter", "strip"]

LETTERS = "ABCDEF"
COLUMN = 2.0
NAMED = 60
"""Dots of a plane with a name of their own, at most; those of its front always have one."""
CROWD = 60
"""More dots than this are drawn small and without their intervals."""
GLYPH = (8.4, 9.4)
"""Width of a letter of an interval plot, regular and bold: letters are larger on narrow screens."""


@dataclass(frozen=True)
class Bar:
    """One row of an interval plot. rank: for people. value, low, high, clean, certified: shares. front: in the
    top group."""

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
    """An interval plot: rank, name and number above a line from 0 to 100 %, with the clean accuracy as a tick."""
    row, top = 40, 6
    height = top + row * len(bars) + 22
    left, right = 4.0, width - 4.0
    place = _scale(0, 1, left, right)
    bottom = height - 20
    parts = [
        _line("grid", place(tick / 4), top, place(tick / 4), bottom) + _tick_label(place(tick / 4), height - 4, tick)
        for tick in range(5)
    ]
    for at, bar in enumerate(bars):
        base = top + row * at
        y = base + 27
        said = f"{percent(bar.value, bar.low, bar.high)} %"
        kind = "t-front" if bar.front else "t-ink"
        letters = int((right - left) / GLYPH[bar.front]) - len(bar.rank) - len(said) - 2
        name_of = Markup('<tspan class="rank">{}</tspan> {}').format(bar.rank, _short(bar.label, letters))
        row_parts = [
            _text(kind, left, base + 13, name_of, size=13),
            _text(kind, right, base + 13, said, size=13, anchor="end"),
            _line("axis", left, y, right, y),
            _line("band", place(bar.low), y, place(bar.high), y),
        ]
        if bar.clean is not None:
            row_parts.append(_line("tick", place(bar.clean), y - 6, place(bar.clean), y + 6))
        if bar.certified is not None:
            row_parts.append(_proved(place(bar.certified), y + 5))
        row_parts.append(_dot("dot", place(bar.value), y, 5))
        parts.append(_group("front" if bar.front else "", row_parts))
    return _svg(name, width, height, title, sentence, parts)


def strip(value: float, low: float, high: float, clean: float | None, certified: float | None, front: bool) -> Markup:
    """The interval of one table row as a line of 100 units; the number stands beside it, so it is decoration."""
    tick = Markup('<path class="tick" d="M{} 2v8"/>').format(_at(100 * clean)) if clean is not None else ""
    mark = _proved(100 * certified, 8) if certified is not None else ""
    return Markup(
        '<svg class="strip{}" viewBox="-4 0 108 12" aria-hidden="true"><path class="band" d="M{} 6H{}"/>{}{}'
        '<circle class="dot" cx="{}" cy="6" r="3"/></svg>'
    ).format(" front" if front else "", _at(100 * low), _at(100 * high), tick, mark, _at(100 * value))


def curves(name: str, series: Sequence[Series], title: str, sentence: str, eps_label: str, mark: float) -> Markup:
    """Accuracy against eps, a step curve with its band for each of up to six systems; `mark` is the board's eps."""
    width, height, left, right, top, bottom = 520, 320, 40, 496, 12, 276
    furthest = max([mark, *(p[0] for one in series for p in one.points)])
    across, up = _scale(0, furthest, left, right), _scale(0, 1, bottom, top)
    parts = [_frame(furthest, left, right, top, bottom)]
    parts.append(_text("", (left + right) / 2, height - 6, eps_label, size=12, anchor="middle"))
    parts.append(_line("now", across(mark), top, across(mark), bottom))
    drawn = list(zip(series, LETTERS, strict=False))
    for at, (one, _) in enumerate(drawn, start=1):
        upper = _steps([(across(p[0]), up(p[3])) for p in one.points], right)
        lower = _steps([(across(p[0]), up(p[2])) for p in one.points], right)
        parts.append(_stairs(f"area f{at}", upper, lower))
    for at, (one, _) in enumerate(drawn, start=1):
        parts.append(_stairs(f"curve s{at} d{at}", _steps([(across(p[0]), up(p[1])) for p in one.points], right)))
    ends = _spread([up(one.points[-1][1]) + 4 for one, _ in drawn], 13, bottom)
    for at, ((_, letter), y) in enumerate(zip(drawn, ends, strict=True), start=1):
        parts.append(_text(f"f{at} t-front", right + 6, y, letter, size=12))
    return _svg(name, width, height, title, sentence, parts)


def scatter(name: str, dots: Sequence[Dot], title: str, sentence: str, x_label: str, y_label: str) -> Markup:
    """Two shares against each other with both intervals, and the staircase of systems that none beats in both."""
    low, high = _room([dot.x_low for dot in dots], [dot.x_high for dot in dots])
    ticks = tuple((tick, f"{round(100 * tick)} %") for tick in _share_ticks(low, high))
    return _plane(name, dots, title, sentence, _Axis(low, high, ticks, x_label, rising=True), y_label)


def costs(name: str, dots: Sequence[Dot], title: str, sentence: str, x_label: str, y_label: str) -> Markup:
    """A share against a cost, which is better when it is small: the staircase of what nothing beats in both.

    The cost is drawn as log(1 + cost), so that what costs nothing has a place too.
    """
    turned = [replace(dot, x=-_log(dot.x), x_low=-_log(dot.x_high), x_high=-_log(dot.x_low)) for dot in dots]
    powers = range(1 + max((math.ceil(math.log10(max(1.0, 1.05 * dot.x_high))) for dot in dots), default=1))
    ticks = ((0.0, "0"), *((-_log(10.0**power), f"{10**power:,}".replace(",", THIN)) for power in powers))
    return _plane(name, turned, title, sentence, _Axis(ticks[-1][0], 0, ticks, x_label, rising=False), y_label)


@dataclass(frozen=True)
class _Axis:
    """The horizontal axis of a plane. rising: drawn from low to high; if not, from high to low, low being worse."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    label: str
    rising: bool


def _log(cost: float) -> float:
    return math.log10(1 + cost)


def _plane(name: str, dots: Sequence[Dot], title: str, sentence: str, axis: _Axis, y_label: str) -> Markup:
    """Dots with intervals and labels, grid, and the staircase of the Pareto front."""
    width, height, left, right, top, bottom = 520, 360, 40, 500, 24, 310
    y_low, y_high = _room([dot.y_low for dot in dots], [dot.y_high for dot in dots])
    across = _scale(axis.low, axis.high, *((left, right) if axis.rising else (right, left)))
    up = _scale(y_low, y_high, bottom, top)
    parts: list[Markup] = []
    for tick, said in axis.ticks:
        parts.append(_line("grid", across(tick), top, across(tick), bottom))
        parts.append(_text("", across(tick), bottom + 17, said, size=12, anchor="middle"))
    for tick in _share_ticks(y_low, y_high):
        parts.append(_line("grid", left, up(tick), right, up(tick)))
        parts.append(_text("", left - 6, up(tick) + 4, f"{round(100 * tick)}", size=12, anchor="end"))
    parts.append(_text("", right, height - 8, f"{axis.label} \N{RIGHTWARDS ARROW}", size=12, anchor="end"))
    parts.append(_text("", 0, 12, f"\N{UPWARDS ARROW} {y_label}", size=12))
    few = len(dots) <= CROWD
    front = pareto(dots)
    stairs = _staircase(front, axis.low, y_low)
    if stairs:
        parts.append(_path("pareto", [(across(x), up(y)) for x, y in stairs]))
    boxes = [(across(d.x) - 6, up(d.y) - 6, across(d.x) + 6, up(d.y) + 6) for d in dots]
    labels: list[Markup] = []
    named = [dot for at, dot in enumerate(dots) if at < NAMED or dot in front]
    rest = [(across(dot.x), up(dot.y)) for dot in dots if dot not in named]
    if rest:
        parts.append(_cloud(rest))
    for dot in named:
        x, y = across(dot.x), up(dot.y)
        mark = [Markup("<title>{}</title>").format(dot.label), _dot("dot", x, y, 5 if few else 3.5)]
        if few:
            mark.insert(1, _line("cross", across(dot.x_low), y, across(dot.x_high), y))
            mark.insert(2, _line("cross", x, up(dot.y_low), x, up(dot.y_high)))
        parts.append(_group("front" if dot.front else "", mark))
        label = None
        if few or dot in front:
            label = _place_label(_short(dot.label, 34), x, y, (left, top, right, bottom), boxes, dot in front)
        if label is not None:
            labels.append(label)
    return _svg(name, width, height, title, sentence, parts + labels)


def _cloud(points: Sequence[tuple[float, float]]) -> Markup:
    """Many dots as one path, without names."""
    return Markup('<path class="cloud" d="{}"/>').format("".join(f"M{_at(x)} {_at(y)}h0" for x, y in points))


def sample(at: int) -> Markup:
    """The line of curve number `at`, from 0, for a legend."""
    kind = f"curve s{at + 1} d{at + 1}"
    return Markup('<svg viewBox="0 0 32 14" aria-hidden="true">{}</svg>').format(_line(kind, 0, 7, 32, 7))


def pareto(dots: Iterable[Dot]) -> list[Dot]:
    """The dots that no other equals or beats in both directions and beats in one, by falling y."""
    kept: list[Dot] = []
    for dot in sorted(dots, key=lambda d: (-d.y, -d.x, d.label)):
        if not kept or dot.x > kept[-1].x or (dot.x, dot.y) == (kept[-1].x, kept[-1].y):
            kept.append(dot)
    return kept


def _staircase(front: Sequence[Dot], x_low: float, y_low: float) -> list[tuple[float, float]]:
    """The corner points of the front, from the left edge to the bottom edge."""
    if not front:
        return []
    corners = [(x_low, front[0].y)]
    for one, after in zip(front, [*front[1:], None], strict=True):
        corners.append((one.x, one.y))
        corners.append((one.x, after.y if after else y_low))
    return corners


def _steps(points: Sequence[tuple[float, float]], end: float) -> list[tuple[float, float]]:
    """The corners of a step function on the page: each height is kept until the next x, the last one up to `end`.

    Steps that begin within the same COLUMN of the page are drawn as one: the last of them.
    """
    kept: list[tuple[float, float]] = []
    for x, y in points:
        if len(kept) > 1 and x - kept[-1][0] < COLUMN:
            kept[-1] = (kept[-1][0], y)
        elif not kept or y != kept[-1][1]:
            kept.append((x, y))
    corners: list[tuple[float, float]] = []
    for (x, y), (after, _) in zip(kept, [*kept[1:], (end, 0.0)], strict=True):
        corners += [(x, y), (after, y)]
    return corners


def _stairs(kind: str, upper: Sequence[tuple[float, float]], lower: Sequence[tuple[float, float]] = ()) -> Markup:
    """A path through corners that differ in one direction at a time; with `lower`, the area between the two."""
    text = ""
    for here, corners in enumerate((upper, lower[::-1])):
        for at, (x, y) in enumerate(corners):
            if at == 0:
                text += f"{'L' if here else 'M'}{_at(x)} {_at(y)}"
            elif x != corners[at - 1][0]:
                text += f"H{_at(x)}"
            elif y != corners[at - 1][1]:
                text += f"V{_at(y)}"
    return Markup(f'<path class="{kind}" d="{text}{"Z" if lower else ""}"/>')


def _scale(low: float, high: float, start: float, stop: float) -> Callable[[float], float]:
    """The line that takes low to start and high to stop."""
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (stop - start)


def _room(lows: Sequence[float], highs: Sequence[float]) -> tuple[float, float]:
    """Axis limits around the intervals, on multiples of 10 %, inside [0, 1] and at least 20 points wide."""
    low = max(0.0, int(10 * min(lows, default=0.0)) / 10)
    high = min(1.0, (int(10 * max(highs, default=1.0) - 1e-9) + 1) / 10)
    return (low, high) if high - low > 0.15 else (max(0.0, high - 0.2), max(0.2, high))


def _share_ticks(low: float, high: float) -> list[float]:
    """Multiples of 10 % or 20 %, whichever gives at most seven."""
    step = 10 if high - low <= 0.65 else 20
    return [tick / 100 for tick in range(0, 101, step) if low - 1e-9 <= tick / 100 <= high + 1e-9]


def _ticks(high: float) -> list[float]:
    """Up to six round numbers from 0 to high."""
    if high <= 0:
        return [0.0]
    power = 1e-12
    while True:
        for factor in (1, 2, 5):
            if high / (factor * power) <= 5.001:
                step = factor * power
                return [step * at for at in range(int(high / step + 1e-9) + 1)]
        power *= 10


@functools.lru_cache(16)
def _frame(furthest: float, left: float, right: float, top: float, bottom: float) -> Markup:
    """Grid lines with their numbers: shares upwards, eps across up to `furthest`."""
    across, up = _scale(0, furthest, left, right), _scale(0, 1, bottom, top)
    parts = []
    for tick in range(5):
        parts.append(_line("grid", left, up(tick / 4), right, up(tick / 4)))
        said = "100 %" if tick == 4 else str(25 * tick)
        parts.append(_text("", left - 6, up(tick / 4) + 4, said, size=12, anchor="end"))
    for eps in _ticks(furthest):
        parts.append(_line("axis", across(eps), bottom, across(eps), bottom + 4))
        parts.append(_text("", across(eps), bottom + 17, number(eps), size=12, anchor="middle"))
    return _join(parts)


def _place_label(
    label: str,
    x: float,
    y: float,
    area: tuple[float, float, float, float],
    boxes: list[tuple[float, float, float, float]],
    strong: bool,
) -> Markup | None:
    """A label beside its dot where it covers nothing, or none; the dot's title names it anyway."""
    left, top, right, bottom = area
    wide = (7.6 if strong else 6.6) * len(label)
    for anchor, at_x, at_y in (
        ("start", x + 9, y - 7),
        ("end", x - 9, y - 7),
        ("start", x + 9, y + 16),
        ("end", x - 9, y + 16),
    ):
        start = at_x if anchor == "start" else at_x - wide
        box = (start, at_y - 11, start + wide, at_y + 3)
        inside = box[0] >= left and box[2] <= right and box[1] >= top and box[3] <= bottom
        if inside and not any(_overlap(box, other) for other in boxes):
            boxes.append(box)
            return _text("t-front" if strong else "t-ink", at_x, at_y, label, size=12, anchor=anchor)
    return None


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _spread(heights: Sequence[float], gap: float, bottom: float) -> list[float]:
    """The heights moved apart until neighbours are `gap` from each other, in the same order, none below `bottom`."""
    order = sorted(range(len(heights)), key=lambda at: (heights[at], at))
    placed = [heights[at] for at in order]
    for at in range(1, len(placed)):
        placed[at] = max(placed[at], placed[at - 1] + gap)
    limit = bottom + 4
    for at in reversed(range(len(placed))):
        placed[at] = min(placed[at], limit)
        limit = placed[at] - gap
    return [height for _, height in sorted(zip(order, placed, strict=True))]


def _short(label: str, limit: int) -> str:
    return label if len(label) <= limit else label[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _at(value: float) -> str:
    """A coordinate with at most one decimal, written in one way only."""
    text = f"{value:.1f}"
    text = text[:-2] if text.endswith(".0") else text
    return "0" if text == "-0" else text


def _join(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    return Markup(f'<path class="{kind}" d="M{_at(x1)} {_at(y1)}L{_at(x2)} {_at(y2)}"/>')


def _path(kind: str, points: Sequence[tuple[float, float]]) -> Markup:
    text = "L".join(f"{_at(x)} {_at(y)}" for x, y in points)
    return Markup(f'<path class="{kind}" d="M{text}"/>')


def _dot(kind: str, x: float, y: float, radius: float) -> Markup:
    return Markup(f'<circle class="{kind}" cx="{_at(x)}" cy="{_at(y)}" r="{_at(radius)}"/>')


def _text(kind: str, x: float, y: float, words: str | Markup, *, size: int, anchor: str = "start") -> Markup:
    extra = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return Markup(f'<text class="{kind}" x="{_at(x)}" y="{_at(y)}" font-size="{size}"{extra}>{escape(words)}</text>')


def _proved(x: float, y: float) -> Markup:
    """A triangle below a line, whose point is at x: at least so much is proved."""
    return Markup(f'<path class="proved" d="M{_at(x)} {_at(y)}l4 6h-8Z"/>')


def _tick_label(x: float, y: float, tick: int) -> Markup:
    anchor = ("start", "middle", "middle", "middle", "end")[tick]
    return _text("", x, y, "100 %" if tick == 4 else str(25 * tick), size=11, anchor=anchor)


def _group(kind: str, parts: Iterable[Markup]) -> Markup:
    return (
        Markup('<g class="{}">{}</g>').format(kind, _join(parts)) if kind else Markup("<g>{}</g>").format(_join(parts))
    )


def _svg(name: str, width: int, height: int, title: str, sentence: str, parts: Iterable[Markup]) -> Markup:
    return Markup(
        '<svg role="img" aria-labelledby="{0}-title {0}-desc" viewBox="0 0 {1} {2}" width="{1}" height="{2}">'
        '<title id="{0}-title">{3}</title><desc id="{0}-desc">{4}</desc>{5}</svg>'
    ).format(name, width, height, title, sentence, _join(parts))
