"""Robust accuracy as a function of the radius."""

from __future__ import annotations

from dataclasses import dataclass

from .protocol import Conditions

__all__ = ["Curve", "CurveSet"]


@dataclass(frozen=True)
class Curve:
    """Robust accuracy as a function of the radius, from the smallest distances found by minimal attacks.

    points: (eps, share, low, high), eps ascending from 0; the share holds from its eps up to the next one. low, high
    are a simultaneous 95 % band for the whole curve. area: mean share up to `CurveSet.eps0`, with its 95 % interval.
    half: smallest radius at which fewer than half of the examples are robust, None if there is none.
    attacks: names of the attacks. row, label: as on the boards of the same protocol.
    """

    row: str
    label: str
    points: tuple[tuple[float, float, float, float], ...]
    area: float
    area_low: float
    area_high: float
    half: float | None
    attacks: tuple[str, ...]
    keys: tuple[str, ...]


@dataclass(frozen=True)
class CurveSet:
    """Comparable curves: all radii under the same conditions.

    key: content address of the conditions. eps0: largest recorded radius, the end of every curve.
    boards: keys of the boards under these conditions, by radius. curves: the largest area first.
    """

    key: str
    conditions: Conditions
    eps0: float
    boards: tuple[str, ...]
    curves: tuple[Curve, ...]
