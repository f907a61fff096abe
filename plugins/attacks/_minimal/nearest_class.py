"""The class whose linearised boundary is nearest, as DeepFool finds it, and the first step of a descent towards it."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from benchmark.api import Norm

from .._base.active import Active, Loss
from .._base.classes import logit_difference, top_rivals
from .._base.vectors import columns, usable
from .box_steps import step_to_hyperplanes

__all__ = ["nearest_class", "past_twins", "toward_class", "toward_nearest_class"]


def toward_class(logits: Tensor, y: Tensor, rival: Tensor) -> Tensor:
    """Cotangent (b, K) of the logit difference of `rival` (b,) and `y` (b,)."""
    return torch.zeros_like(logits).scatter_(1, rival[:, None], 1.0).scatter_(1, y[:, None], -1.0)


def _distance(slope: Tensor, offset: Tensor, x: Tensor, norm: Norm) -> Tensor:
    """Size (b,) of the smallest change of `x` (b, D) in the box with slope . delta >= offset (b,); infinite if none.

    Under l0 the last feature counts by the share of it that is needed, so that there are no ties.
    """
    if norm in (Norm.l2, Norm.linf):
        return step_to_hyperplanes(slope[:, None], offset[:, None], x, norm)[1][:, 0]
    gain = slope.abs()
    room = torch.where(slope > 0, 1.0 - x, x)
    order = (gain if norm is Norm.l1 else gain * room).argsort(dim=1, descending=True)
    gained = (gain * room).gather(1, order)
    spent = room.gather(1, order) if norm is Norm.l1 else torch.ones_like(gained)
    totals = gained.cumsum(1)
    last = (totals < offset[:, None]).sum(1, keepdim=True)
    at = last.clamp_max(totals.shape[1] - 1)
    share = (offset[:, None] - totals.gather(1, at) + gained.gather(1, at)) / gained.gather(1, at).clamp_min(1e-30)
    size = spent.cumsum(1).gather(1, at) - (1.0 - share) * spent.gather(1, at)
    return torch.where(last < totals.shape[1], size, torch.inf).squeeze(1)


def nearest_class(active: Active, candidates: int) -> tuple[Tensor, Tensor, Tensor]:
    """Class whose linearised boundary is nearest to the clean input in the box.

    Args:
        active: the rows, untargeted. candidates: classes considered: `y` and those with the next highest scores.

    Returns:
        logits (b, K); the class (b,) int64; the gradient (b, *S) of its logit difference to `y`. One forward pass and
        `candidates` - 1 backward passes per row.
    """
    ball, y = active.ball, active.y
    logits, pull = active.target.pullback(ball.x)
    size = torch.full((len(y),), torch.inf, dtype=ball.x.dtype, device=y.device)
    nearest, gradient = y, torch.zeros_like(ball.x)
    for rank, rival in enumerate(top_rivals(logits, y, candidates - 1).unbind(1)):
        slope = usable(pull(toward_class(logits, y, rival)), ball)
        offset = logit_difference(logits, y, rival).neg().clamp_min(0.0)
        far = _distance(slope.flatten(1), offset, ball.x.flatten(1), ball.norm)
        nearer = (far < size) | (rank == 0)
        size, nearest = torch.where(nearer, far, size), torch.where(nearer, rival, nearest)
        gradient = torch.where(columns(nearer, slope), slope, gradient)
    return logits, nearest, gradient


def past_twins(active: Active, gradient: Tensor) -> Active:
    """Rows with the nearest class as their rival where the clean `gradient` (b, *S) of the margin is zero.

    It is where the runner-up has the slopes of the label (twin classes). One forward and K - 1 backward passes for
    these rows, as far as their budget goes.
    """
    flat = ~usable(gradient, active.ball).flatten(1).any(1)
    if active.targeted or not bool(flat.any()):
        return active
    rows, at = active.keep(flat, torch.arange(len(active), device=flat.device))
    rows, at = rows.keep(rows.affordable(), at)
    if len(rows) == 0:
        return active
    _, rival, slope = nearest_class(rows, rows.target.classes)
    rival = torch.where(slope.flatten(1).any(1), rival, rows.y)
    return dataclasses.replace(active, rival=active.rival.index_copy(0, at, rival))


def toward_nearest_class(active: Active, loss: Loss, candidates: int) -> tuple[Active, Tensor, Tensor, Tensor]:
    """First gradient of a descent, at the clean inputs, with the nearest class as each row's rival.

    With fewer than three candidates, and under a targeted threat, no class is chosen.

    Args:
        loss: the logit difference to the rival, or a positive multiple of it.

    Returns:
        the rows with their rivals; gradient (b, *S) and value (b,) of the loss; logits (b, K). One forward pass and
        `candidates` - 1 backward passes per row.
    """
    if candidates <= 2 or active.targeted:
        return active, *active.gradient(active.ball.x, loss)
    logits, rival, gradient = nearest_class(active, candidates)
    active = dataclasses.replace(active, rival=rival)
    value = loss(logits, active)
    scale = (value / logit_difference(logits, active.y, rival)).nan_to_num(nan=1.0, posinf=1.0, neginf=1.0)
    return active, gradient * columns(scale.to(gradient.dtype), gradient), value, logits
