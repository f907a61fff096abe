"""Smallest changes in the box to hyperplanes slope . delta = offset, and the nearest of several hyperplanes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmark.api import Norm, rows_norm

__all__ = ["nearest_hyperplane", "step_to_hyperplanes", "to_hyperplane"]

OUTSIDE = 1e30
"""Distance of a hyperplane that the box does not reach: the nearest where there is no other."""

_MOST: dict[Norm, Callable[[Tensor], Tensor]] = {
    Norm.linf: lambda slope: slope.abs().sum(-1),
    Norm.l2: lambda slope: slope.square().sum(-1).sqrt(),
    Norm.l1: lambda slope: slope.abs().amax(-1),
}
"""Largest gain of a step of length one along slopes (..., D): the dual norm."""


def step_to_hyperplanes(slope: Tensor, offset: Tensor, x: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    """Smallest change of `x` in the box [0, 1] with slope . delta >= offset, for each of C hyperplanes.

    The change is min(t * rate, room) in the direction of the slope, with rate |slope| under l2 and 1 under linf; what
    it gains is concave and piecewise linear in t, so Newton's method from t = 0 ends at the exact t (Croce & Hein, ICML
    2020, arXiv:1907.02044, section 3.1, state the problem; they sort instead).

    Args:
        slope: (B, C, D), finite. offset: (B, C), positive. x: (B, D) in [0, 1]. norm: l2 or linf.

    Returns:
        delta (B, C, D), and its length (B, C), infinite where the box is too small: delta then goes as far as it can.
    """
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


def to_hyperplane(slope: Tensor, offset: Tensor, points: Tensor, norm: Norm) -> Tensor:
    """Smallest changes of several points in the box to one hyperplane, from either side.

    Args:
        slope: (b, D), finite. points: (b, P, D) in [0, 1].
        offset: (b,), of any sign: the hyperplane is where slope . delta = offset for the first of the points.

    Returns:
        (b, P, D).
    """
    offsets = offset[:, None] + (slope[:, None] * (points[:, :1] - points)).sum(2)
    toward = slope[:, None] * torch.ones_like(offsets).copysign(offsets)[:, :, None]
    offsets = offsets.abs()
    if norm is not Norm.l1:
        alone = toward.flatten(0, 1)[:, None]
        return step_to_hyperplanes(alone, offsets.reshape(-1, 1), points.flatten(0, 1), norm)[0].reshape(points.shape)
    # Under l1 the features of the steepest slopes go to the end of the box, one after the other.
    gain, order = (of_all[:, None] for of_all in slope.abs().sort(dim=1, descending=True, stable=True))
    side, order = toward.sign(), order.expand(points.shape)
    room = (side.clamp_min(0.0) - side * points).gather(2, order)
    gained = gain * room
    missing = (offsets[:, :, None] - (gained.cumsum(2) - gained)).clamp_min(0.0)
    spent = torch.minimum(missing / gain.clamp_min(1e-30), room)
    return torch.zeros_like(points).scatter_(2, order, spent) * side


def nearest_hyperplane(slopes: Tensor, offsets: Tensor, points: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    """Nearest of the hyperplanes slope . delta = offset to the first of the points in the box, and the changes to it.

    Without the box a hyperplane is no farther, and that distance has a closed form, so only hyperplanes that may be the
    nearest are projected onto in the box.

    Args:
        slopes: (b, C, D), finite. offsets: (b, C), of any sign. points: (b, P, D) in [0, 1].

    Returns:
        its number (b,) int64 among the C, and the smallest changes of all points to it (b, P, D). A hyperplane of zero
        slope is the nearest only where there is no other.
    """
    most = _MOST[norm](slopes)
    bound = torch.where(most > 0, offsets.abs() / most, torch.inf)
    rows, which = torch.arange(len(points), device=points.device), bound.argmin(1)
    slope, offset = slopes[rows, which], offsets[rows, which]
    change = to_hyperplane(slope, offset, points, norm)
    length = _length(slope, offset, change[:, 0], norm)
    row, plane = (bound.scatter(1, which[:, None], torch.inf) < length[:, None]).nonzero(as_tuple=True)
    if len(row):
        slope, offset, lengths = slopes[row, plane], offsets[row, plane], torch.full_like(bound, torch.inf)
        lengths[row, plane] = _length(slope, offset, to_hyperplane(slope, offset, points[row, :1], norm)[:, 0], norm)
        other, plane = lengths.min(1)
        at = (other < length).nonzero().squeeze(1)
        which[at] = plane[at]
        change[at] = to_hyperplane(slopes[at, which[at]], offsets[at, which[at]], points[at], norm)
    return which, change


def _length(slope: Tensor, offset: Tensor, delta: Tensor, norm: Norm) -> Tensor:
    """Length (b,) of `delta` (b, D), the change to a hyperplane in the box; `OUTSIDE` where it does not reach it."""
    reached = (slope * delta).sum(1).abs() >= 0.999 * offset.abs()
    return torch.where(reached, rows_norm(delta, norm), OUTSIDE)
