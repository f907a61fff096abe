"""What the descents of smallest-perturbation attacks share: rows still worked on, and the nearest success so far."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Self, TypeVar

import torch
from torch import Tensor

from benchmark.ball import Ball, rows_norm
from benchmark.target import Target
from benchmark.threat import Norm

from ._boundary import approach, step_to_planes
from ._losses import gap, lead, likeliest, succeeded
from ._steps import can_ask

__all__ = [
    "Asked",
    "Nearest",
    "Rows",
    "adam",
    "annealed",
    "descend",
    "lead_over",
    "look_round",
    "nearer",
    "unit",
    "wide",
    "within",
]


def wide(values: Tensor, like: Tensor) -> Tensor:
    """(b,) reshaped to broadcast against (b, *S)."""
    return values.reshape(-1, *([1] * (like.ndim - 1)))


def annealed(first: float, last: float, step: int, steps: int) -> float:
    """From `first` at step 0 to `last` at the last of `steps`, along half a cosine (Loshchilov & Hutter, ICLR 2017)."""
    return last + (first - last) * (1.0 + math.cos(math.pi * step / max(steps - 1, 1))) / 2.0


def unit(gradient: Tensor) -> Tensor:
    """(b, *S): each row divided by its l2 length, 0 where that is 0."""
    peak = wide(rows_norm(gradient, Norm.linf), gradient)
    scaled = gradient / torch.where(peak > 0, peak, 1.0)
    return scaled / wide(rows_norm(scaled, Norm.l2), gradient).clamp_min(1.0)


def adam(gradient: Tensor, first: Tensor, second: Tensor, step: int | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Adam's change for a unit step size, and its two moments (Kingma & Ba, ICLR 2015, arXiv:1412.6980, algorithm 1).

    gradient, first, second: (b, *S). step: 0 for the first change, one number or one per row, to broadcast.
    """
    first = torch.lerp(gradient, first, 0.9)
    second = torch.lerp(gradient.square(), second, 0.999)
    change = first / (1.0 - 0.9 ** (step + 1)) / ((second / (1.0 - 0.999 ** (step + 1))).sqrt() + 1e-8)
    return change, first, second


def within(delta: Tensor, radius: Tensor, norm: Norm) -> Tensor:
    """The Euclidean projection of each row of `delta` (b, *S) onto the ball of its own `radius` (b,), may be infinite.

    Clipping the result into the box does not leave the ball. l0 keeps the largest changes, as many as `radius`.
    """
    if norm is Norm.linf:
        limit = wide(radius, delta)
        return torch.maximum(torch.minimum(delta, limit), -limit)
    if norm is Norm.l2:
        size = rows_norm(delta, Norm.l2)
        scale = torch.where(size > radius, radius / size.clamp_min(1e-30), 1.0)
        return delta * wide(scale, delta)
    size = delta.abs().flatten(1)
    order = size.sort(dim=1, descending=True).values
    if norm is Norm.l0:
        count = radius.clamp(0, size.shape[1]).long()
        least = order.gather(1, (count - 1).clamp_min(0)[:, None])
        kept = (size >= least) & (size > 0) & (count > 0)[:, None]
        kept &= kept.cumsum(1) <= count[:, None]  # of equal changes the first
        return delta * kept.reshape(delta.shape)
    # Duchi et al., ICML 2008, figure 1: the threshold from the sorted changes.
    places = torch.arange(1, size.shape[1] + 1, device=delta.device, dtype=delta.dtype)
    excess = order.cumsum(1) - radius[:, None]
    last = (order * places > excess).sum(1, keepdim=True).clamp_min(1) - 1
    threshold = (excess.gather(1, last) / (last + 1)).clamp_min(0.0)
    return (delta.sign().flatten(1) * (size - threshold).clamp_min(0.0)).reshape(delta.shape)


def lead_over(logits: Tensor, y: Tensor, rival: Tensor, *, targeted: bool) -> Tensor:
    """(b,): how far class `rival` (b,) is ahead of `y` (b,); where it is `y`, the lead (:func:`._losses.lead`)."""
    return torch.where(rival == y, lead(logits, y, targeted=targeted), gap(logits, y, rival))


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
        cotangent = torch.zeros_like(logits).scatter_(1, rival[:, None], 1.0).scatter_(1, y[:, None], -1.0)
        slope = pull(cotangent).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        if ball.mask is not None:
            slope = torch.where(ball.mask, slope, 0.0)
        need = gap(logits, y, rival).neg().clamp_min(0.0)
        far = _reach(slope.flatten(1), need, ball.x.flatten(1), ball.norm)
        nearer = (far < size) | (rank == 0)
        size, nearest = torch.where(nearer, far, size), torch.where(nearer, rival, nearest)
        gradient = torch.where(wide(nearer, slope), slope, gradient)
    return logits, nearest, gradient


def nearer(delta: Tensor, amount: Tensor, norm: Norm) -> Tensor:
    """The proximal map of `amount` (b,) times the norm: the change (b, *S) that is left of `delta` (b, *S).

    l1: each change shrinks by `amount`. l2: the length does. linf: what exceeds a limit is cut off, `amount` in all
    (Moreau: `delta` less its projection onto the dual ball).
    """
    if norm is Norm.l1:
        return delta.sign() * (delta.abs() - wide(amount, delta)).clamp_min(0.0)
    return delta - within(delta, amount, Norm.l1 if norm is Norm.linf else Norm.l2)


class Nearest:
    """Per example the nearest input seen to succeed, and the clean one where there is none.

    x_adv: (B, *S). size: (B,), its distance, infinite where there is none. at_x, at_adv: (B,), the leads
    (:func:`._losses.lead`) of the clean input, NaN where it was not asked about, and of `x_adv`.
    """

    def __init__(self, ball: Ball, y: Tensor, *, targeted: bool) -> None:
        self.ball, self.y, self.targeted = ball, y, targeted
        self.x_adv = ball.x
        self.size = torch.full((len(y),), torch.inf, dtype=ball.x.dtype, device=y.device)
        self.at_x, self.at_adv = torch.full_like(self.size, torch.nan), torch.full_like(self.size, torch.nan)

    def offer(self, index: Tensor, x_adv: Tensor, logits: Tensor, *, clean: bool = False) -> Tensor:
        """(b,) bool: whether `x_adv` (b, *S) of the examples `index` (b,) succeed; the nearer ones are kept.

        clean: whether they are the clean inputs.
        """
        y = self.y[index]
        won, ahead = succeeded(logits, y, targeted=self.targeted), lead(logits, y, targeted=self.targeted)
        if clean:
            self.at_x[index] = ahead.to(self.size.dtype)
        size = rows_norm(x_adv - self.ball.x[index], self.ball.norm)
        better = (won & (size < self.size[index])).nonzero().squeeze(1)
        at = index[better]
        self.x_adv = self.x_adv.index_copy(0, at, x_adv[better])
        self.size[at], self.at_adv[at] = size[better], ahead[better].to(self.size.dtype)
        return won

    def found(self, target: Target, *, search_steps: int) -> Tensor:
        """(B, *S): the nearest, moved straight towards the clean inputs as far as they stay adversarial.

        At most `search_steps` forward passes. Under l0 a straight line leads nowhere, and nothing is asked.
        """
        rows = ((self.at_x < 0) & (self.at_adv > 0) & torch.isfinite(self.size)).nonzero().squeeze(1)
        if search_steps == 0 or self.ball.norm is Norm.l0 or len(rows) == 0:
            return self.x_adv
        nearer = approach(
            target.rows(rows),
            self.x_adv[rows],
            self.y[rows],
            ball=self.ball.rows(rows),
            at_x=self.at_x[rows],
            at_adv=self.at_adv[rows],
            steps=search_steps,
            targeted=self.targeted,
        )
        return self.x_adv.index_copy(0, rows, nearer)


@dataclass
class Rows:
    """The examples still worked on, and where each is; a method adds what else it keeps, (b, ...) each.

    index: (b,) int64, the positions among the B examples. x_adv: (b, *S).
    """

    index: Tensor
    x_adv: Tensor

    def keep(self, those: Tensor) -> Self:
        """The rows where `those` (b,) bool is true."""
        kept = those.nonzero().squeeze(1)
        return dataclasses.replace(self, **{name: value[kept] for name, value in vars(self).items()})


@dataclass(frozen=True)
class Asked:
    """What was learnt about the rows' `x_adv`.

    ball: theirs. y: (b,) their labels. gradient: (b, *S) of the loss, 0 where it is no number and outside the region.
    logits: (b, K). won: (b,) bool, whether they succeed.
    """

    ball: Ball
    y: Tensor
    gradient: Tensor
    logits: Tensor
    won: Tensor


R = TypeVar("R", bound=Rows)


def descend(
    target: Target,
    rows: R,
    nearest: Nearest,
    *,
    steps: int,
    candidates: int = 1,
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    move: Callable[[R, Asked, int], R],
) -> None:
    """Ask about `rows`, which start at the clean inputs, note the nearest successes, and `move` them, `steps` times.

    An example that succeeds as it is costs one pass and stays as it is; one whose query budget ends is left alone.

    Args:
        target: the system. rows: all B examples. nearest: what is found.
        steps: forward passes per example; as many backward, and `candidates` - 2 more.
        candidates: with more than two, untargeted, the class to reach is chosen by :func:`look_round`, and followed up
            to the first success.
        loss: from logits (b, K), labels (b,) and the class to reach (b,), or the label itself where any will do, to
            (b,): what gradients are taken of. Towards a class it is the lead over the label, or a multiple of it.
        move: from the rows, what was learnt of them, and the step, to the rows at their next points.
    """
    look = candidates > 2 and not nearest.targeted
    followed = nearest.y.clone()
    for step in range(steps):
        left = can_ask(target.rows(rows.index))
        if not bool(left.all()):
            rows = rows.keep(left)
        if len(rows.index) == 0:
            return
        view, y, ball = target.rows(rows.index), nearest.y[rows.index], nearest.ball.rows(rows.index)
        if step == 0 and look:
            logits, rival, gradient = look_round(view, ball, y, candidates)
            followed[rows.index] = rival
            per_lead = (loss(logits, y, rival) / gap(logits, y, rival)).nan_to_num(nan=1.0, posinf=1.0, neginf=1.0)
            gradient = gradient * wide(per_lead.to(gradient.dtype), gradient)
        else:
            rival = torch.where(torch.isfinite(nearest.size[rows.index]), y, followed[rows.index])
            gradient, _, logits = view.gradient(rows.x_adv, partial(_of, loss, y, rival))
            gradient = gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
            if ball.mask is not None:
                gradient = torch.where(ball.mask, gradient, 0.0)
        won = nearest.offer(rows.index, rows.x_adv, logits, clean=step == 0)
        if step + 1 < steps:
            rows = move(rows, Asked(ball, y, gradient, logits, won), step)
        if step == 0 and bool(won.any()):
            rows = rows.keep(~won)


def _of(loss: Callable[[Tensor, Tensor, Tensor], Tensor], y: Tensor, rival: Tensor, logits: Tensor) -> Tensor:
    return loss(logits, y, rival)
