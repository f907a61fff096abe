"""The grid of values k / (levels - 1) that a changed feature may have, as images of 8 bits have 256."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["BYTE_LEVELS", "neighbours", "of_bytes", "on_grid", "to_bytes"]

BYTE_LEVELS = 256
"""Number of values of a byte."""


def _grid_value(place: Tensor, levels: int) -> Tensor:
    """place / (levels - 1) in single precision, as 8-bit values are read: a value has one representation."""
    return place.float() / (levels - 1)


def on_grid(values: Tensor, levels: int) -> Tensor:
    """Grid value nearest to each of `values`."""
    return _grid_value((values.double() * (levels - 1)).round(), levels).to(values.dtype)


def to_bytes(values: Tensor) -> Tensor | None:
    """`values` times 255 as uint8; None unless :func:`of_bytes` gives the same bits back."""
    if not bool(((values >= 0) & (values <= 1)).all()):
        return None
    whole = (values * (BYTE_LEVELS - 1)).round().to(torch.uint8)
    return whole if torch.equal(of_bytes(whole), values) else None


def of_bytes(whole: Tensor) -> Tensor:
    """Values k / 255, float32, of bytes k."""
    return _grid_value(whole, BYTE_LEVELS)


def neighbours(x_adv: Tensor, x: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Allowed values next to `x_adv`, away from `x` and towards it, (B, *S) each."""
    top = levels - 1
    place = x_adv.double() * top
    whole = place.round()
    place = torch.where((place - whole).abs() <= top * 2.0**-24, whole, place)  # on the grid but for its rounding
    floor, ceil = (_grid_value(k, levels).to(x_adv.dtype) for k in (place.floor(), place.ceil()))
    up = x_adv > x
    away, towards = torch.where(up, ceil, floor), torch.where(up, floor, ceil)
    passed = torch.where(up, towards < x, towards > x)
    towards = torch.where(passed, x, towards)
    same = x_adv == x
    return torch.where(same, x, away), torch.where(same, x, towards)
