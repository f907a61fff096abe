"""Display formats of numbers and names. Shares are in [0, 1] until they are formatted."""

from __future__ import annotations

import functools
import math

__all__ = ["THIN", "count", "decimals", "difference", "interval", "number", "percent", "seconds", "several"]

NOTHING = "\N{EN DASH}"
THIN = "\N{NARROW NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"


@functools.lru_cache(1 << 14)
def decimals(low: float | None, high: float | None) -> int:
    """Number of decimals of a percentage, such that its last digit is at most a tenth of the interval's width.

    Args:
        low, high: the interval as shares; None if there is none, which gives one decimal.
    """
    if low is None or high is None:
        return 1
    points = 100 * (high - low)
    if points <= 0:
        return 1
    return min(3, max(0, math.ceil(1 - math.log10(points) - 1e-9)))


def percent(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """Share as a percentage without its sign, rounded as its interval allows."""
    if value is None:
        return NOTHING
    return f"{100 * value:.{decimals(low, high)}f}"


def interval(low: float | None, high: float | None) -> str:
    """95 % interval of a share, in percent, rounded as its width allows."""
    if low is None or high is None:
        return ""
    places = decimals(low, high)
    return f"{100 * low:.{places}f}\N{EN DASH}{100 * high:.{places}f}"


def difference(value: float) -> str:
    """Difference of shares in percentage points, with its sign."""
    points = f"{abs(100 * value):.1f}"
    sign = "" if float(points) == 0 else "+" if value > 0 else MINUS
    return f"{sign}{points}"


def number(value: float | None) -> str:
    """Four significant digits, with an exponent only for extreme values; thin spaces between thousands."""
    if value is None:
        return NOTHING
    if value == 0:
        return "0"
    if 1e-4 <= abs(value) < 1e6:
        places = max(0, 3 - math.floor(math.log10(abs(value))))
        text = f"{value:,.{places}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return text.replace(",", THIN).replace("-", MINUS)
    return f"{value:.3g}".replace("-", MINUS)


def count(value: int | None) -> str:
    """Whole number with thousands separated by thin spaces."""
    return NOTHING if value is None else f"{value:,}".replace(",", THIN).replace("-", MINUS)


def several(value: int, noun: str) -> str:
    """Number with its noun: 1 system, 2 systems."""
    return f"{count(value)} {noun}{'' if value == 1 else 's'}"


def seconds(value: float | None) -> str:
    """Duration in a suitable unit."""
    if value is None:
        return NOTHING
    if value < 100:
        return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
    if value < 6000:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.1f} h"
