"""The radius of a threat: how it is written and read, and the rounding that a verdict forgives. Imports no torch."""

from __future__ import annotations

import math
import re
from fractions import Fraction

from benchmark.errors import ConfigError
from benchmark.threat.kinds import Norm

__all__ = ["label_of_eps", "parse_eps", "tolerance"]

WRITTEN = re.compile(r"\d{1,18}/0*[1-9]\d{0,17}|(?:\d{1,18}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][+-]?\d{1,2})?", re.ASCII)
"""Fractions and decimal numbers, short enough that no number takes long to build."""


def parse_eps(value: str | float | Fraction) -> Fraction:
    """The exact radius that a person or a record wrote: "8/255", "0.1" and 0.1 mean just that.

    Raises:
        ConfigError: if the value is no non-negative fraction or decimal number.
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
    """Readable text of a radius: n/255 for multiples of 1/255, else a decimal number."""
    if eps.denominator != 1 and 255 % eps.denominator == 0:
        return f"{eps.numerator * (255 // eps.denominator)}/255"
    return f"{float(eps):.6g}" if math.isfinite(float(eps)) else "inf"


def tolerance(norm: Norm | str, eps: float) -> float:
    """The excess over the radius that is forgiven to single-precision rounding, in units of the distance.

    One part in a million, plus 1e-6; none under l0. Core and leaderboard judge by it.
    """
    return 0.0 if norm in (Norm.l0, Norm.l0.value) else 1e-6 * (1.0 + eps)
