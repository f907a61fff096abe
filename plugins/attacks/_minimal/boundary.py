"""What the smallest-perturbation attacks share: linearised boundaries, steps to them, and the way back to the input."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.api import Ball, Norm, Target

from .._base.losses import gap, lead, likeliest, succeeded
from .._base.steps import can_ask
from .._base.vectors import columns

__all__ = ["approach", "look_round", "step_to_planes", "towards", "usable"]

HAIR = 1e-4
"""How far beyond a boundary the search aims, as a share of the distance: closer than that is not worth a pass."""


def step_to_planes(slope: Tensor, need: Tensor, x: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    """The smallest change of `x` in the box [0, 1] with slope . delta >= need, for each of C hyperplanes.

    The change is min(t * rate, room) in the direction of the slope, with rate |slope| under l2 and 1 under linf; what
    it gains is concave and piecewise linear in t, so Newton's method from t = 0 ends at the exact t (Croce & Hein, ICML
    2020, arXiv:1907.02044, section 3.1, state the problem; they sort instead).

    Args:
        slope: (B, C, D), finite. need: (B, C), positive. x: (B, D) in [0, 1]. norm: l2 or linf.

    Returns:
        delta (B, C, D), and its length (B, C), infinite where the box is too small: delta then goes as far as it can.
    """
    gain, side = slope.abs(), slope.sign()
    room = side.clamp_min(0.0) - side * x[:, None]
    rate = gain if norm is Norm.l2 else side.abs()
    most, pace = gain * room, gain * rate
    need, t = need[:, :, None], torch.zeros_like(need[:, :, None])
    while True:
        free = torch.addcmul(room, t, rate, value=-1.0).clamp_min_(0.0).sign_()  # 1 before the end of the room, else 0
        growth = (free * pace).sum(2, keepdim=True)
        missing = need - torch.addcmul(most, free, most, value=-1.0).sum(2, keepdim=True)
        later = torch.fmax(t, (missing / growth).clamp_max(1e30))
        if torch.equal(later, t):
            break
        t = later
    change = torch.minimum(t * rate, room)
    size = change.amax(2) if norm is Norm.linf else change.square().sum(2).sqrt()
    return change * side, torch.where(growth.squeeze(2) > 0, size, torch.inf)


def approach(
    target: Target,
    x_adv: Tensor,
    y: Tensor,
    *,
    ball: Ball,
    at_x: Tensor,
    at_adv: Tensor,
    steps: int,
    targeted: bool = False,
) -> Tensor:
    """Move adversarial inputs towards the clean ones, as long as they stay adversarial.

    The margin along the segment is followed by the false position method in its Illinois form (Dowell & Jarratt, BIT
    1971), which needs one or two passes where the boundary is nearly flat.

    Args:
        target: the system. x_adv: (B, *S), adversarial. ball: what is allowed.
        y: (B,) the labels to leave, or to reach if `targeted`.
        at_x, at_adv: (B,) the leads of the clean input (negative) and of `x_adv`: see :func:`._losses.lead`.

    Returns:
        (B, *S), adversarial, on the segments between `ball.x` and `x_adv`; at most `steps` forward passes per row.
    """
    result = x_adv
    index = torch.arange(len(y), device=y.device)
    low, high = torch.zeros_like(at_x), torch.ones_like(at_x)
    at_low, at_high = at_x, at_adv
    side = torch.zeros_like(at_x)  # which end moved last: -1 the lower, 1 the upper
    for _ in range(steps):
        share = low + (high - low) * (at_low / (at_low - at_high)).nan_to_num(nan=1.0) + HAIR * high
        go = (share < high * (1.0 - HAIR)) & can_ask(target)
        if not bool(go.all()):
            index, target, low, high, at_low, at_high, side, share = (
                index[go], target.rows(go), low[go], high[go], at_low[go], at_high[go], side[go], share[go],
            )  # fmt: skip
        if len(index) == 0:
            break
        clean, far = ball.x[index], x_adv[index]
        between = ball.rows(index).project(torch.lerp(clean, far, columns(share, clean)))
        logits = target.logits(between)
        at_share = lead(logits, y[index], targeted=targeted)
        broken = succeeded(logits, y[index], targeted=targeted)
        result = result.index_copy(0, index[broken], between[broken])
        again = torch.where(broken, side > 0, side < 0)
        at_low = torch.where(broken, torch.where(again, at_low / 2.0, at_low), at_share)
        at_high = torch.where(broken, at_share, torch.where(again, at_high / 2.0, at_high))
        low, high = torch.where(broken, low, share), torch.where(broken, share, high)
        side = torch.where(broken, 1.0, -1.0)
    return result


def usable(gradient: Tensor, ball: Ball) -> Tensor:
    """(b, *S): `gradient` where it is a number and in the region, 0 elsewhere."""
    gradient = gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    return gradient if ball.mask is None else torch.where(ball.mask, gradient, 0.0)


def towards(logits: Tensor, y: Tensor, rival: Tensor) -> Tensor:
    """(b, K): what pulls back to the gradient of how far class `rival` (b,) is ahead of `y` (b,)."""
    return torch.zeros_like(logits).scatter_(1, rival[:, None], 1.0).scatter_(1, y[:, None], -1.0)


def _reach(slope: Tensor, need: Tensor, x: Tensor, norm: Norm) -> Tensor:
    """(b,): the size of the smallest change of `x` (b, D) in the box with slope . delta >= need (b,); infinite if none.

    Under l0 the last feature counts by the share of it that is needed, so that there are no ties.
    """
    if norm in (Norm.l2, Norm.linf):
        return step_to_planes(slope[:, None], need[:, None], x, norm)[1][:, 0]
    gain = slope.abs()
    room = torch.where(slope > 0, 1.0 - x, x)
    order = (gain if norm is Norm.l1 else gain * room).argsort(dim=1, descending=True)
    gained = (gain * room).gather(1, order)
    spent = room.gather(1, order) if norm is Norm.l1 else torch.ones_like(gained)
    totals = gained.cumsum(1)
    last = (totals < need[:, None]).sum(1, keepdim=True)
    at = last.clamp_max(totals.shape[1] - 1)
    share = (need[:, None] - totals.gather(1, at) + gained.gather(1, at)) / gained.gather(1, at).clamp_min(1e-30)
    size = spent.cumsum(1).gather(1, at) - (1.0 - share) * spent.gather(1, at)
    return torch.where(last < totals.shape[1], size, torch.inf).squeeze(1)


def look_round(target: Target, ball: Ball, y: Tensor, candidates: int) -> tuple[Tensor, Tensor, Tensor]:
    """The class whose linearised boundary is nearest to the clean input in the box, as DeepFool finds it.

    Args:
        target: the system. ball: around the clean inputs (b, *S). y: (b,) the labels to leave.
        candidates: how many classes are considered: `y` and those with the next highest scores.

    Returns:
        logits (b, K); the class (b,); the gradient of its lead over `y` (b, *S). One forward pass and
        `candidates` - 1 backward passes per row.
    """
    logits, pull = target.pullback(ball.x)
    size = torch.full((len(y),), torch.inf, dtype=ball.x.dtype, device=y.device)
    nearest, gradient = y, torch.zeros_like(ball.x)
    for rank, rival in enumerate(likeliest(logits, y, candidates - 1).unbind(1)):
        slope = usable(pull(towards(logits, y, rival)), ball)
        need = gap(logits, y, rival).neg().clamp_min(0.0)
        far = _reach(slope.flatten(1), need, ball.x.flatten(1), ball.norm)
        nearer = (far < size) | (rank == 0)
        size, nearest = torch.where(nearer, far, size), torch.where(nearer, rival, nearest)
        gradient = torch.where(columns(nearer, slope), slope, gradient)
    return logits, nearest, gradient
