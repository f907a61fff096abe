"""The climbs of APGD: gradient ascent that halves its own step, in linf and l2, and the sparse one in l1."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from benchmark.api import Ball, Norm, rows_norm

from .._base.losses import succeeded
from .._base.vectors import columns
from .survivors import Best, PairLoss, Work

__all__ = ["checkpoints", "climb", "climb_sparse"]

MOMENTUM = 0.75
RISES = 0.75
"""The share of steps between two checkpoints that must have raised the loss, or the step size is halved."""
RADII = (3, 2, 1)
SHARES = (0.3, 0.3, 0.4)
"""The l1 climb: the radius as a multiple of eps, and the share of the steps spent there."""
SPARSER, SMALLEST = 1.5, 1000.0
FIRST_SHARE = 0.2
"""The share of the features that the first sparse steps move; by how much it and the step size shrink, at most."""


def checkpoints(steps: int) -> list[int]:
    """The steps after which the step size may be halved: 22, 41, 57, 70, 80, 87, 93, 99 of 100.

    Croce & Hein, ICML 2020, section 3.1: intervals of 22 %, each 3 % shorter than the one before, but at least 6 %.
    """
    found, interval, at = [], max(22 * steps // 100, 1), 0
    while at + interval <= steps:
        at += interval
        found.append(at)
        interval = max(interval - max(3 * steps // 100, 1), 6 * steps // 100, 1)
    return found


_State = TypeVar("_State", "_Climb", "_Sparse")


def _keep(state: _State, those: Tensor) -> _State:
    """The rows where `those` (b,) bool is true."""
    kept = those.nonzero().squeeze(1)
    return dataclasses.replace(state, **{name: value[kept] for name, value in vars(state).items()})


@dataclass
class _Climb:
    """Where each row is. top: the point of the highest loss. rises: steps that raised it since the last checkpoint."""

    x_adv: Tensor
    previous: Tensor
    gradient: Tensor
    value: Tensor
    top: Tensor
    top_gradient: Tensor
    top_value: Tensor
    checked_value: Tensor
    step_size: Tensor
    rises: Tensor
    halved: Tensor

    @classmethod
    def at(cls, x_adv: Tensor, gradient: Tensor, value: Tensor, step_size: float) -> _Climb:
        """At the start."""
        return cls(
            x_adv=x_adv,
            previous=x_adv,
            gradient=gradient,
            value=value,
            top=x_adv,
            top_gradient=gradient,
            top_value=value,
            checked_value=value,
            step_size=torch.full_like(value, step_size),
            rises=torch.zeros_like(value),
            halved=torch.ones_like(value, dtype=torch.bool),
        )

    def arrive(self, x_adv: Tensor, gradient: Tensor, value: Tensor) -> None:
        """Note what was found at the next point."""
        self.rises = self.rises + (value > self.value)
        higher = value > self.top_value
        wide = columns(higher, x_adv)
        self.top = torch.where(wide, x_adv, self.top)
        self.top_gradient = torch.where(wide, gradient, self.top_gradient)
        self.top_value = torch.where(higher, value, self.top_value)
        self.previous, self.x_adv, self.gradient, self.value = self.x_adv, x_adv, gradient, value

    def check(self, interval: int) -> None:
        """Halve the step and go back to the top where the climb oscillates or has stalled (section 3.1)."""
        stalled = ~self.halved & (self.top_value <= self.checked_value)
        self.halved = (self.rises < RISES * interval) | stalled
        self.step_size = torch.where(self.halved, self.step_size / 2.0, self.step_size)
        wide = columns(self.halved, self.x_adv)
        self.x_adv = torch.where(wide, self.top, self.x_adv)
        self.gradient = torch.where(wide, self.top_gradient, self.gradient)
        self.value = torch.where(self.halved, self.top_value, self.value)
        self.checked_value, self.rises = self.top_value, torch.zeros_like(self.rises)

    def onward(self, ball: Ball, momentum: float) -> Tensor:
        """The next point: a projected step, mixed with the last change (equation 1)."""
        ahead = ball.project(self.x_adv + columns(self.step_size, self.x_adv) * ball.steepest(self.gradient))
        if momentum == 1.0:
            return ahead
        return ball.project(
            self.x_adv + momentum * (ahead - self.x_adv) + (1.0 - momentum) * (self.x_adv - self.previous)
        )


def climb(work: Work, start: Tensor, best: Best, *, loss: PairLoss, targeted: bool, steps: int, settle: bool) -> None:
    """Climb in linf or l2 from `start` (b, *S), and offer what is found to `best`.

    With `settle` an example is left as soon as one of its rows succeeds. Cost: steps + 1 passes forward and backward.
    """
    checks = checkpoints(steps)
    state: _Climb | None = None
    x_adv, last = start, 0
    for step in range(steps + 1):
        left = work.affordable()
        if not bool(left.all()):
            work, x_adv, state = work.keep(left), x_adv[left], state and _keep(state, left)
        if len(work) == 0:
            return
        gradient, value, logits = work.gradient(x_adv, loss)
        best.offer(work.example, x_adv, succeeded(logits, work.y, targeted=targeted), value)
        if state is None:
            state = _Climb.at(x_adv, gradient, value, 2.0 * work.ball.eps)
        else:
            state.arrive(x_adv, gradient, value)
        if settle:
            left = ~best.won[work.example]
            if not bool(left.all()):
                work, state = work.keep(left), _keep(state, left)
        if step in checks:
            state.check(step - last)
            last = step
        if step < steps:
            x_adv = state.onward(work.ball, MOMENTUM if step else 1.0)


@dataclass
class _Sparse:
    """Where each row is. share: of the features that a step moves. spread: features changed at the last checkpoint."""

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
        """At the start of a stage; the first one starts from a random point, the others from the last one's top."""
        size = x_adv[0].numel()
        spread = torch.full_like(value, size) if first else rows_norm(x_adv - ball.x, Norm.l0)
        share = torch.full_like(value, FIRST_SHARE) if first else spread / size / SPARSER
        step_size = torch.full_like(value, ball.eps)
        return cls(x_adv, gradient, x_adv, gradient, value, value, step_size, share, spread)

    def arrive(self, x_adv: Tensor, gradient: Tensor, value: Tensor) -> None:
        """Note what was found at the next point."""
        higher = value > self.top_value
        wide = columns(higher, x_adv)
        self.top = torch.where(wide, x_adv, self.top)
        self.top_gradient = torch.where(wide, gradient, self.top_gradient)
        self.top_value = torch.where(higher, value, self.top_value)
        self.x_adv, self.gradient = x_adv, gradient

    def check(self, ball: Ball) -> None:
        """Move as many features as the best point has, over 1.5; where that fell, start anew from it with a full step.

        Croce & Hein, ICML 2021, section 3.3. Difference from the paper: where neither has happened and the loss has not
        risen either, the features become fewer still, or steps that are signs would keep their differences for ever;
        and the smallest step is eps / 1000, not eps / 10, so that the climb converges.
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
        """The next point: the signs of the largest slopes, of l1 length `step_size` in all.

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


def climb_sparse(
    work: Work, start: Tensor, best: Best, *, loss: PairLoss, targeted: bool, steps: int, settle: bool
) -> None:
    """Climb in l1 from `start` (b, *S) in balls of 3, 2 and 1 eps, and offer what is found in the last to `best`.

    Croce & Hein, ICML 2021, arXiv:2103.01208, sections 3.2 to 3.4. Cost: steps + 3 passes forward and backward.
    """
    lengths = [-int(-share * steps // 1) for share in SHARES[:-1]]
    lengths.append(steps - sum(lengths))
    x_adv = start
    every = max(4 * steps // 100, 1)
    for stage, (radius, length) in enumerate(zip(RADII, lengths, strict=True)):
        here = dataclasses.replace(work, ball=dataclasses.replace(work.ball, eps=radius * work.ball.eps))
        x_adv = here.ball.project(x_adv)
        state: _Sparse | None = None
        for step in range(length + 1):
            left = here.affordable()
            if not bool(left.all()):
                work, here, x_adv, state = work.keep(left), here.keep(left), x_adv[left], state and _keep(state, left)
            if len(here) == 0:
                return
            gradient, value, logits = here.gradient(x_adv, loss)
            if state is None:
                state = _Sparse.at(x_adv, gradient, value, here.ball, first=stage == 0)
            else:
                state.arrive(x_adv, gradient, value)
            if radius == 1:
                best.offer(here.example, x_adv, succeeded(logits, here.y, targeted=targeted), value)
                left = ~(best.won[here.example] & settle)
                if not bool(left.all()):
                    work, here, state = work.keep(left), here.keep(left), _keep(state, left)
            if step and step % every == 0:
                state.check(here.ball)
            if step < length:
                x_adv = state.onward(here.ball)
        assert state is not None
        x_adv = state.top
