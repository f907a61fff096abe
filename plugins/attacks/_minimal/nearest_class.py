"""The class whose linearised boundary is nearest, as DeepFool finds it, and the first step of a descent towards it."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from benchmark.api import Norm

from .._base.active import Active
from .._base.best import Best
from .._base.classes import logit_difference, top_rivals
from .._base.vectors import columns, usable
from .box_steps import step_to_hyperplanes
from .nearest import keep_nearest

__all__ = ["ask_clean", "nearest_class", "toward_class"]


def toward_class(logits: Tensor, y: Tensor, rival: Tensor) -> Tensor:
    """Cotangent (b, K) of the logit difference of `rival` (b,) and `y` (b,)."""
    return torch.zeros_like(logits).scatter_(1, rival[:, None], 1.0).scatter_(1, y[:, None], -1.0)


def _distance(slope: Tensor, offset: Tensor, x: Tensor, norm: Norm) -> Tensor:
    """Size (b,) of the smallest change of `x` (b, D) in the box with slope . delta >= offset (b,); infinite if none."""
    if norm in (Norm.l2, Norm.linf):
        return step_to_hyperplanes(slope[:, None], offset[:, None], x, norm)[1][:, 0]
    gain = slope.abs()
    room = torch.where(slope > 0, 1.0 - x, x)
    order = (gain if norm is Norm.l1 else gain * room).argsort(dim=1, descending=True)
    gained = (gain * room).gather(1, order)
    spent = room.gather(1, order) if norm is Norm.l1 else torch.ones_like(gained)
    totals = gained.cumsum(1)
    last = (totals < offset[:, None]).sum(1, keepdim=True)
    at = last.clamp_max(totals.shape[1] - 1)  # of that feature the share that is needed, under l0 too: no ties
    share = (offset[:, None] - totals.gather(1, at) + gained.gather(1, at)) / gained.gather(1, at).clamp_min(1e-30)
    size = spent.cumsum(1).gather(1, at) - (1.0 - share) * spent.gather(1, at)
    return torch.where(last < totals.shape[1], size, torch.inf).squeeze(1)


def nearest_class(active: Active, candidates: int) -> tuple[Active, Tensor, Tensor]:
    """Rows with the class of the nearest linearised boundary in the box as rival, its gradient, and logits (b, K).

    All at the clean inputs; the gradient (b, *S) is that of the class's logit difference to `y`. candidates: classes
    considered, `y` and those with the next highest scores. One forward pass and `candidates` - 1 backward per row.
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
    return dataclasses.replace(active, rival=nearest), gradient, logits


def ask_clean(active: Active, best: Best) -> Active:
    """Examples whose clean input does not succeed; one forward and backward pass each, as far as the budget goes.

    Where the gradient of the margin is zero (twin classes) the nearest class is the rival: K - 1 more backward passes.
    """
    (active,) = active.keep(active.affordable())
    if len(active) == 0:
        return active
    gradient, _, logits = active.target.gradient(active.ball.x, active.margin)
    active, gradient = active.keep(~keep_nearest(best, active, active.ball.x, logits), gradient)
    flat = ~usable(gradient, active.ball).flatten(1).any(1)
    rows, at = active.keep(flat, torch.arange(len(active), device=flat.device))
    rows, at = rows.keep(rows.affordable(), at)
    if active.targeted or len(rows) == 0:
        return active
    rows, slope, _ = nearest_class(rows, rows.target.classes)
    rival = torch.where(slope.flatten(1).any(1), rows.rival, rows.y)
    return dataclasses.replace(active, rival=active.rival.index_copy(0, at, rival))
