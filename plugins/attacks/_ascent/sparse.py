"""Sparse ascent of APGD in l1. Croce & Hein, ICML 2021, arXiv:2103.01208, sections 3.2 to 3.4."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import Ball, Norm, rows_norm

from .._base.active import Active, Loss, State
from .._base.best import Best
from .._base.vectors import columns
from .pairs import affordable, gradient, offer

__all__ = ["climb_sparse"]

RADII = (3, 2, 1)
SHARES = (0.3, 0.3, 0.4)
"""Radii of the balls as multiples of eps, and the share of the steps spent in each."""
SPARSER, SMALLEST = 1.5, 1000.0
"""Factor by which the share of moved features and the step size shrink; the step size shrinks by at most the second."""
FIRST_SHARE = 0.2
"""Share of the features that the first steps move."""


@dataclass
class _Sparse(State):
    """State of each row. share: of the features that a step moves. spread: features changed at the last checkpoint."""

    x_adv: Tensor
    gradient: Tensor
    top: Tensor
    top_gradient: Tensor
    top_value: Tensor
    checked_value: Tensor
    step_size: Tensor
    share: Tensor
    spread: Tensor

    @classmethod
    def at(cls, x_adv: Tensor, gradient: Tensor, value: Tensor, ball: Ball, *, first: bool) -> _Sparse:
        """State at the start of a stage: the first starts from a random point, others from the best one of the last."""
        size = x_adv[0].numel()
        spread = torch.full_like(value, size) if first else rows_norm(x_adv - ball.x, Norm.l0)
        share = torch.full_like(value, FIRST_SHARE) if first else spread / size / SPARSER
        step_size = torch.full_like(value, ball.eps)
        return cls(x_adv, gradient, x_adv, gradient, value, value, step_size, share, spread)

    def arrive(self, x_adv: Tensor, gradient: Tensor, value: Tensor) -> None:
        """Update the state with the values at the next point."""
        higher = value > self.top_value
        wide = columns(higher, x_adv)
        self.top = torch.where(wide, x_adv, self.top)
        self.top_gradient = torch.where(wide, gradient, self.top_gradient)
        self.top_value = torch.where(higher, value, self.top_value)
        self.x_adv, self.gradient = x_adv, gradient

    def check(self, ball: Ball) -> None:
        """Adapt sparsity and step size (section 3.3): move 1/1.5 as many features as the best point has.

        Where that number fell, restart from the best point. Differences from the paper: where neither it fell nor the
        loss rose, the features become fewer still, or the signs would repeat; the smallest step is eps / 1000.
        """
        spread = rows_norm(self.top - ball.x, Norm.l0)
        sparser = spread < 0.95 * self.spread
        stalled = ~sparser & (self.top_value <= self.checked_value)
        self.share = torch.where(stalled, self.share, spread / self.top[0].numel()) / SPARSER
        smaller = (self.step_size / SPARSER).clamp_min(ball.eps / SMALLEST)
        self.step_size = torch.where(sparser, torch.full_like(smaller, ball.eps), smaller)
        wide = columns(sparser, self.x_adv)
        self.x_adv = torch.where(wide, self.top, self.x_adv)
        self.gradient = torch.where(wide, self.top_gradient, self.gradient)
        self.spread, self.checked_value = spread, self.top_value

    def onward(self, ball: Ball) -> Tensor:
        """Next point: a step of l1 length `step_size` along the signs of the largest slopes.

        Difference from the paper: features that stand at the end of the box that their slope points to are passed
        over, since their share of the step would be lost.
        """
        stuck = torch.where(self.gradient > 0, self.x_adv >= 1.0, self.x_adv <= 0.0)
        if ball.mask is not None:
            stuck = stuck | ~ball.mask
        gradient = torch.where(stuck, 0.0, self.gradient).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).flatten(1)
        size = gradient.shape[1]
        count = (self.share * size).long().clamp(1, size)
        least = gradient.abs().sort(dim=1, descending=True).values.gather(1, count[:, None] - 1)
        moved = gradient.sign() * (gradient.abs() >= least)
        moved = moved / moved.abs().sum(1, keepdim=True).clamp_min(1.0)
        return ball.project(self.x_adv + columns(self.step_size, self.x_adv) * moved.reshape(self.x_adv.shape))


def climb_sparse(active: Active, start: Tensor, best: Best, *, loss: Loss, steps: int, settle: bool) -> None:
    """Ascend in l1 from `start` (b, *S) in balls of 3, 2 and 1 eps; points in the last are offered to `best`.

    Cost: steps + 3 passes forward and backward.
    """
    lengths = [-int(-share * steps // 1) for share in SHARES[:-1]]
    lengths.append(steps - sum(lengths))
    x_adv, eps, every = start, active.ball.eps, max(4 * steps // 100, 1)
    for radius, length in zip(RADII, lengths, strict=True):
        active = dataclasses.replace(active, ball=dataclasses.replace(active.ball, eps=radius * eps))
        active, x_adv = active.keep(affordable(active), active.ball.project(x_adv))
        if len(active) == 0:
            return
        slope, value, scores = gradient(active, x_adv, loss)
        state = _Sparse.at(x_adv, slope, value, active.ball, first=radius == RADII[0])
        for step in range(1, length + 1):
            if radius == 1:
                offer(best, active.index, x_adv, active.succeeded(x_adv, scores), value)
                active, state = active.keep(~(best.won[active.index] & settle), state)
            x_adv = state.onward(active.ball)
            active, x_adv, state = active.keep(affordable(active), x_adv, state)
            if len(active) == 0:
                return
            slope, value, scores = gradient(active, x_adv, loss)
            state.arrive(x_adv, slope, value)
            if step % every == 0:
                state.check(active.ball)
        if radius == 1:
            offer(best, active.index, x_adv, active.succeeded(x_adv, scores), value)
        x_adv = state.top
