"""The nearest of several planes inside the box, which is what FAB steps to."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmark.api import Norm, rows_norm

from .boundary import step_to_planes

__all__ = ["nearest_plane", "to_plane"]

OUTSIDE = 1e30
"""The distance of a plane that the box does not reach: it is the nearest where there is no other."""

_MOST: dict[Norm, Callable[[Tensor], Tensor]] = {
    Norm.linf: lambda slope: slope.abs().sum(-1),
    Norm.l2: lambda slope: slope.square().sum(-1).sqrt(),
    Norm.l1: lambda slope: slope.abs().amax(-1),
}
"""What a step of length one gains at most along slopes (..., D)."""


def to_plane(slope: Tensor, need: Tensor, points: Tensor, norm: Norm) -> Tensor:
    """The smallest changes of several points in the box to one plane, from either side.

    Args:
        slope: (b, D), finite. points: (b, P, D) in [0, 1].
        need: (b,), of any sign: the plane is where slope . delta = need for the first of the points.

    Returns:
        (b, P, D).
    """
    needs = need[:, None] + (slope[:, None] * (points[:, :1] - points)).sum(2)
    toward = slope[:, None] * torch.ones_like(needs).copysign(needs)[:, :, None]
    needs = needs.abs()
    if norm is not Norm.l1:
        alone = toward.flatten(0, 1)[:, None]
        return step_to_planes(alone, needs.reshape(-1, 1), points.flatten(0, 1), norm)[0].reshape(points.shape)
    # Under l1 the features of the steepest slopes go to the end of the box, one after the other.
    gain, order = (of_all[:, None] for of_all in slope.abs().sort(dim=1, descending=True, stable=True))
    side, order = toward.sign(), order.expand(points.shape)
    room = (side.clamp_min(0.0) - side * points).gather(2, order)
    gained = gain * room
    missing = (needs[:, :, None] - (gained.cumsum(2) - gained)).clamp_min(0.0)
    spent = torch.minimum(missing / gain.clamp_min(1e-30), room)
    return torch.zeros_like(points).scatter_(2, order, spent) * side


def nearest_plane(slopes: Tensor, needs: Tensor, points: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    """Which of the planes slope . delta = need is the nearest to the first of the points in the box, and the way to it.

    Without the box a plane is no farther, and that distance is known at once; so only planes that may be the nearest
    are looked at in the box.

    Args:
        slopes: (b, C, D), finite. needs: (b, C), of any sign. points: (b, P, D) in [0, 1].

    Returns:
        which (b,) int64 of the C planes, and the smallest changes of all points to it (b, P, D). Planes without a slope
        are the nearest only where there is no other.
    """
    most = _MOST[norm](slopes)
    bound = torch.where(most > 0, needs.abs() / most, torch.inf)
    rows, which = torch.arange(len(points), device=points.device), bound.argmin(1)
    slope, need = slopes[rows, which], needs[rows, which]
    change = to_plane(slope, need, points, norm)
    length = _length(slope, need, change[:, 0], norm)
    row, plane = (bound.scatter(1, which[:, None], torch.inf) < length[:, None]).nonzero(as_tuple=True)
    if len(row):
        slope, need, lengths = slopes[row, plane], needs[row, plane], torch.full_like(bound, torch.inf)
        lengths[row, plane] = _length(slope, need, to_plane(slope, need, points[row, :1], norm)[:, 0], norm)
        other, plane = lengths.min(1)
        at = (other < length).nonzero().squeeze(1)
        which[at] = plane[at]
        change[at] = to_plane(slopes[at, which[at]], needs[at, which[at]], points[at], norm)
    return which, change


def _length(slope: Tensor, need: Tensor, delta: Tensor, norm: Norm) -> Tensor:
    """(b,): the length of `delta` (b, D), the way to a plane in the box; `OUTSIDE` where it does not reach it."""
    reached = (slope * delta).sum(1).abs() >= 0.999 * need.abs()
    return torch.where(reached, rows_norm(delta, norm), OUTSIDE)
