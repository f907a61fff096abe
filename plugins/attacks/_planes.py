"""The nearest of several planes inside the box, which is what FAB steps to."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmark.ball import rows_norm
from benchmark.threat import Norm

from ._boundary import step_to_planes

__all__ = ["nearest_plane", "to_plane"]

OUTSIDE = 1e30
"""The distance of a plane that the box does not reach: it is the nearest where there is no other."""

_MOST: dict[Norm, Callable[[Tensor], Tensor]] = {
    Norm.linf: lambda slope: slope.abs().sum(-1),
    Norm.l2: lambda slope: slope.square().sum(-1).sqrt(),
    Norm.l1: lambda slope: slope.abs().amax(-1),
}
"""What a step of length one gains at most along slopes (..., D)."""


def to_plane(slope: Tensor, need: Tensor, x: Tensor, norm: Norm) -> Tensor:
    """(b, D): the smallest change of `x` (b, D) in the box to the plane slope . delta = need, from either side."""
    side = torch.where(need < 0, -1.0, 1.0).to(slope.dtype)
    toward, need = slope * side[:, None], need.abs()
    if norm is not Norm.l1:
        return step_to_planes(toward[:, None], need[:, None], x, norm)[0].squeeze(1)
    # Under l1 the features of the steepest slopes go to the end of the box, one after the other.
    gain, order = toward.abs().sort(dim=1, descending=True, stable=True)
    room = torch.where(toward > 0, 1.0 - x, x).gather(1, order)
    gained = (gain * room).cumsum(1)
    missing = (need[:, None] - (gained - gain * room)).clamp_min(0.0)
    spent = torch.where(gain > 0, torch.minimum(missing / gain.clamp_min(1e-30), room), 0.0)
    return torch.zeros_like(toward).scatter(1, order, spent) * toward.sign()


def nearest_plane(slopes: Tensor, needs: Tensor, x: Tensor, norm: Norm, limit: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest of the planes slope . delta = need to each point in the box.

    Without the box a plane is no farther, and that distance is known at once; so only planes that may be the nearest
    are looked at in the box.

    Args:
        slopes: (b, C, D), finite. needs: (b, C), of any sign. x: (b, D) in [0, 1].
        limit: (b,), the length from which on none is of interest.

    Returns:
        length (b,), infinite where none is nearer than the limit, and which (b,) int64 of the C planes. Planes without
        a slope are none.
    """
    bound = torch.where(slopes.abs().amax(2) > 0, needs.abs() / _MOST[norm](slopes), torch.inf)
    least = torch.zeros_like(bound, dtype=torch.bool).scatter(1, bound.argmin(1, keepdim=True), True)
    lengths = torch.full_like(bound, torch.inf)
    for chosen in (least, ~least):
        row, plane = (chosen & (bound < torch.minimum(limit, lengths.amin(1))[:, None])).nonzero(as_tuple=True)
        lengths[row, plane] = _in_box(slopes[row, plane], needs[row, plane], x[row], norm)
    length, which = lengths.min(1)
    return torch.where(length < limit, length, torch.inf), which


def _in_box(slope: Tensor, need: Tensor, x: Tensor, norm: Norm) -> Tensor:
    """(b,): how far the planes are from `x` (b, D) in the box; `OUTSIDE` where there is no point of them in it."""
    delta = to_plane(slope, need, x, norm)
    reached = (slope * delta).sum(1).abs() >= 0.999 * need.abs()
    return torch.where(reached, rows_norm(delta, norm), OUTSIDE)
