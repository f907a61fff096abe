"""Nearest of several hyperplanes slope . delta = offset inside the box, which FAB steps to."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmark.api import Norm, rows_norm

from .._base.vectors import at_unit_slope
from .box_steps import step_to_hyperplanes

__all__ = ["nearest_hyperplane", "to_hyperplane"]

OUTSIDE = 1e30
"""Distance of a hyperplane that the box does not reach: the nearest where there is no other."""

_MOST: dict[Norm, Callable[[Tensor], Tensor]] = {
    Norm.linf: lambda slope: slope.abs().sum(-1),
    Norm.l2: lambda slope: slope.square().sum(-1).sqrt(),
    Norm.l1: lambda slope: slope.abs().amax(-1),
}
"""Largest gain of a step of length one along slopes (..., D): the dual norm."""


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
    slopes, offsets = at_unit_slope(slopes, offsets)
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
