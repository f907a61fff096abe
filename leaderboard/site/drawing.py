"""SVG primitives: shapes, text, scales and frames of the charts."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Sequence

from markupsafe import Markup, escape

from ..words.display import number

__all__ = [
    "GLYPH",
    "apart",
    "circle",
    "coordinate",
    "frame",
    "group",
    "line",
    "path",
    "place_label",
    "proved",
    "room",
    "scale",
    "share_ticks",
    "short",
    "stairway",
    "steps",
    "svg",
    "tick_label",
    "written",
]

COLUMN = 2.0

GLYPH = (8.4, 9.4)
"""Width of a letter in an interval plot, regular and bold: letters are larger on narrow screens."""


def steps(points: Sequence[tuple[float, float]], end: float) -> list[tuple[float, float]]:
    """Corners of a step function on the page: each height is kept until the next x, the last one up to `end`.

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


def stairway(kind: str, upper: Sequence[tuple[float, float]], lower: Sequence[tuple[float, float]] = ()) -> Markup:
    """Path through corners that differ in one direction at a time; with `lower`, the area between the two."""
    text = ""
    for here, corners in enumerate((upper, lower[::-1])):
        for at, (x, y) in enumerate(corners):
            if at == 0:
                text += f"{'L' if here else 'M'}{coordinate(x)} {coordinate(y)}"
            elif x != corners[at - 1][0]:
                text += f"H{coordinate(x)}"
            elif y != corners[at - 1][1]:
                text += f"V{coordinate(y)}"
    return Markup(f'<path class="{kind}" d="{text}{"Z" if lower else ""}"/>')


def scale(low: float, high: float, start: float, stop: float) -> Callable[[float], float]:
    """Linear map that takes low to start and high to stop."""
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (stop - start)


def room(lows: Sequence[float], highs: Sequence[float]) -> tuple[float, float]:
    """Axis limits around the intervals, on multiples of 10 %, inside [0, 1] and at least 20 points wide."""
    low = max(0.0, int(10 * min(lows, default=0.0)) / 10)
    high = min(1.0, (int(10 * max(highs, default=1.0) - 1e-9) + 1) / 10)
    return (low, high) if high - low > 0.15 else (max(0.0, high - 0.2), max(0.2, high))


def share_ticks(low: float, high: float) -> list[float]:
    """Multiples of 10 % or 20 %, whichever gives at most seven ticks."""
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
def frame(furthest: float, left: float, right: float, top: float, bottom: float) -> Markup:
    """Grid lines with their numbers: shares upwards, eps across up to `furthest`."""
    across, up = scale(0, furthest, left, right), scale(0, 1, bottom, top)
    parts = []
    for tick in range(5):
        parts.append(line("grid", left, up(tick / 4), right, up(tick / 4)))
        said = "100 %" if tick == 4 else str(25 * tick)
        parts.append(written("", left - 6, up(tick / 4) + 4, said, size=12, anchor="end"))
    for eps in _ticks(furthest):
        parts.append(line("axis", across(eps), bottom, across(eps), bottom + 4))
        parts.append(written("", across(eps), bottom + 17, number(eps), size=12, anchor="middle"))
    return _join(parts)


def place_label(
    label: str,
    x: float,
    y: float,
    area: tuple[float, float, float, float],
    boxes: list[tuple[float, float, float, float]],
    strong: bool,
) -> Markup | None:
    """Label beside its dot if it covers nothing, else None; the dot's title names it in either case."""
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
            return written("t-front" if strong else "t-ink", at_x, at_y, label, size=12, anchor=anchor)
    return None


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def apart(heights: Sequence[float], gap: float, bottom: float) -> list[float]:
    """Heights moved apart until neighbours are `gap` from each other, in the same order, none below `bottom`."""
    order = sorted(range(len(heights)), key=lambda at: (heights[at], at))
    placed = [heights[at] for at in order]
    for at in range(1, len(placed)):
        placed[at] = max(placed[at], placed[at - 1] + gap)
    limit = bottom + 4
    for at in reversed(range(len(placed))):
        placed[at] = min(placed[at], limit)
        limit = placed[at] - gap
    return [height for _, height in sorted(zip(order, placed, strict=True))]


def short(label: str, limit: int) -> str:
    """Label, cut to `limit` characters inside, since names of systems differ at their ends: its last words stay."""
    if len(label) <= limit:
        return label
    end = label[len(label) - limit // 2 :]
    end = re.split("[ _]", end, maxsplit=1)[-1]
    return f"{label[: limit - 1 - len(end)]}\N{HORIZONTAL ELLIPSIS}{end}"


def coordinate(value: float) -> str:
    """Coordinate with at most one decimal, in canonical form."""
    text = f"{value:.1f}"
    text = text[:-2] if text.endswith(".0") else text
    return "0" if text == "-0" else text


def _join(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)


def line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    """Straight line with a style class `kind`."""
    return Markup(f'<path class="{kind}" d="M{coordinate(x1)} {coordinate(y1)}L{coordinate(x2)} {coordinate(y2)}"/>')


def path(kind: str, points: Sequence[tuple[float, float]]) -> Markup:
    """Line through points, with a style class `kind`."""
    text = "L".join(f"{coordinate(x)} {coordinate(y)}" for x, y in points)
    return Markup(f'<path class="{kind}" d="M{text}"/>')


def circle(kind: str, x: float, y: float, radius: float) -> Markup:
    """Dot with a style class `kind`."""
    return Markup(f'<circle class="{kind}" cx="{coordinate(x)}" cy="{coordinate(y)}" r="{coordinate(radius)}"/>')


def written(kind: str, x: float, y: float, words: str | Markup, *, size: int, anchor: str = "start") -> Markup:
    """Text at a position, escaped."""
    extra = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return Markup(
        f'<text class="{kind}" x="{coordinate(x)}" y="{coordinate(y)}" font-size="{size}"{extra}>{escape(words)}</text>'
    )


def proved(x: float, y: float) -> Markup:
    """Triangle below a line with its tip at x, which marks a certified lower bound."""
    return Markup(f'<path class="proved" d="M{coordinate(x)} {coordinate(y)}l4 6h-8Z"/>')


def tick_label(x: float, y: float, tick: int) -> Markup:
    """Percentage of a tick, from 0 for 0 % to 4 for 100 %."""
    anchor = ("start", "middle", "middle", "middle", "end")[tick]
    return written("", x, y, "100 %" if tick == 4 else str(25 * tick), size=11, anchor=anchor)


def group(kind: str, parts: Iterable[Markup]) -> Markup:
    """Group of elements, with a style class `kind` if given."""
    return (
        Markup('<g class="{}">{}</g>').format(kind, _join(parts)) if kind else Markup("<g>{}</g>").format(_join(parts))
    )


def svg(name: str, width: int, height: int, title: str, sentence: str, parts: Iterable[Markup]) -> Markup:
    """Chart with a title and a description for screen readers."""
    return Markup(
        '<svg role="img" aria-labelledby="{0}-title {0}-desc" viewBox="0 0 {1} {2}" width="{1}" height="{2}">'
        '<title id="{0}-title">{3}</title><desc id="{0}-desc">{4}</desc>{5}</svg>'
    ).format(name, width, height, title, sentence, _join(parts))
