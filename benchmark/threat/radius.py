"""Radius of a threat: parsing, formatting, and the rounding tolerance of the verdict. Imports no torch."""

from __future__ import annotations

import math
import re
from fractions import Fraction

from benchmark.errors import ConfigError
from benchmark.threat.kinds import Norm

__all__ = ["label_of_eps", "parse_eps", "tolerance"]

WRITTEN = re.compile(r"\d{1,18}/0*[1-9]\d{0,17}|(?:\d{1,18}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][+-]?\d{1,2})?", re.ASCII)
"""Fractions and decimal numbers, short enough to parse quickly."""


def parse_eps(value: str | float | Fraction) -> Fraction:
    """Parse an exact radius: "8/255", "0.1" and 0.1 are exact fractions.

    Raises:
        ConfigError: if the value is not a non-negative fraction or decimal number.
    """
    text = str(value).replace(" ", "")
    if re.match(r"-[\d.]", text):
        raise ConfigError(f"threat.eps is {text[:80]!r}; a radius cannot be negative")
    if not WRITTEN.fullmatch(text):
        raise ConfigError(
            f"threat.eps is {text[:80]!r}; expected a fraction such as 8/255 or a number such as 0.1, in units of the "
            "[0, 1] input range"
        )
    return Fraction(text)


def label_of_eps(eps: Fraction) -> str:
    """Radius as text: n/255 for multiples of 1/255, else a decimal number."""
    if eps.denominator != 1 and 255 % eps.denominator == 0:
        return f"{eps.numerator * (255 // eps.denominator)}/255"
    return f"{float(eps):.6g}" if math.isfinite(float(eps)) else "inf"


def tolerance(norm: Norm | str, eps: float) -> float:
    """Tolerated excess over the radius, for single-precision rounding, in units of the distance.

    1e-6 * (1 + eps); 0 under l0. Used by core and leaderboard.
    """
    return 0.0 if norm in (Norm.l0, Norm.l0.value) else 1e-6 * (1.0 + eps)
