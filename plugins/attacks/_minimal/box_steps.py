"""Smallest changes in the box [0, 1] to hyperplanes slope . delta = offset."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.api import Norm

from .._base.vectors import at_unit_slope

__all__ = ["step_to_hyperplanes"]


def step_to_hyperplanes(slope: Tensor, offset: Tensor, x: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    """Smallest change of `x` in the box [0, 1] with slope . delta >= offset, for each of C hyperplanes.

    It is min(t * rate, room) along the slope, with rate |slope| under l2 and 1 under linf. Its gain is concave and
    piecewise linear in t, so Newton's method from t = 0 is exact (Croce & Hein, ICML 2020, arXiv:1907.02044, sort).
    slope: (B, C, D), finite. offset: (B, C), positive. x: (B, D) in [0, 1]. norm: l2 or linf.
    Returns delta (B, C, D) and its length (B, C), infinite where the box is too small and delta fills it.
    """
    slope, offset = at_unit_slope(slope, offset)
    gain, side = slope.abs(), slope.sign()
    room = side.clamp_min(0.0) - side * x[:, None]
    rate = gain if norm is Norm.l2 else side.abs()
    most, pace = gain * room, gain * rate
    offset, t = offset[:, :, None], torch.zeros_like(offset[:, :, None])
    while True:
        free = torch.addcmul(room, t, rate, value=-1.0).clamp_min_(0.0).sign_()  # 1 before the end of the room, else 0
        growth = (free * pace).sum(2, keepdim=True)
        missing = offset - torch.addcmul(most, free, most, value=-1.0).sum(2, keepdim=True)
        later = torch.fmax(t, (missing / growth).clamp_max(1e30))
        if torch.equal(later, t):
            break
        t = later
    change = torch.minimum(t * rate, room)
    size = change.amax(2) if norm is Norm.linf else change.square().sum(2).sqrt()
    return change * side, torch.where(growth.squeeze(2) > 0, size, torch.inf)
