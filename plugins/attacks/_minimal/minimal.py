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

from benchmark.api import Ball, ConfigError, Norm, Target, rows_norm

from .._base.losses import gap, lead, succeeded
from .._base.vectors import columns
from .boundary import approach, look_round, usable

SETTLED = 1e-2
"""By what share a success has to come nearer for the search for others to go on."""

__all__ = [
    "Asked",
    "Loss",
    "Nearest",
    "Rows",
    "descend",
    "lead_over",
    "only",
    "patient",
]


def patient(patience: float) -> None:
    """Refuse what is no share of the steps.

    Raises:
        ConfigError: naming the field.
    """
    if not 0 < patience <= 1:
        raise ConfigError(
            f"attack.patience is {patience}; expected above 0 and at most 1, which leaves no example alone"
        )


def lead_over(logits: Tensor, y: Tensor, rival: Tensor | None, *, targeted: bool) -> Tensor:
    """(b,): how far class `rival` (b,) is ahead of `y` (b,); where it is `y` or None, :func:`._losses.lead`."""
    ahead = lead(logits, y, targeted=targeted)
    return ahead if rival is None else torch.where(rival == y, ahead, gap(logits, y, rival))


class Nearest:
    """Per example the nearest input seen to succeed, and the clean one where there is none.

    ball: with no limit on the distance. x_adv: (B, *S). size: (B,), its distance, infinite where there is none.
    at_x, at_adv: (B,), the leads (:func:`._losses.lead`) of the clean input, NaN where it was not asked about, and of
    `x_adv`.
    """

    def __init__(self, ball: Ball, y: Tensor, *, targeted: bool) -> None:
        self.ball, self.y, self.targeted = dataclasses.replace(ball, eps=math.inf), y, targeted
        self.x_adv = ball.x
        self.size = torch.full((len(y),), torch.inf, dtype=ball.x.dtype, device=y.device)
        self.at_x, self.at_adv = torch.full_like(self.size, torch.nan), torch.full_like(self.size, torch.nan)

    def rows(self, index: Tensor) -> Nearest:
        """What is known of the examples at `index` (b,) int64; it goes on by itself, until :meth:`put`."""
        part = object.__new__(Nearest)
        part.ball, part.y, part.targeted = self.ball.rows(index), self.y[index], self.targeted
        part.x_adv, part.size = self.x_adv[index], self.size[index]
        part.at_x, part.at_adv = self.at_x[index], self.at_adv[index]
        return part

    def put(self, index: Tensor, part: Nearest) -> None:
        """Take over what `part` knows of the examples at `index` (b,) int64."""
        for name in ("x_adv", "size", "at_x", "at_adv"):
            setattr(self, name, getattr(self, name).index_copy(0, index, getattr(part, name)))

    def see(self, x_adv: Tensor, delta: Tensor, logits: Tensor, *, clean: bool = False) -> Tensor:
        """(B,) bool: whether `x_adv` (B, *S) succeed; the nearer ones are kept.

        delta: `x_adv` less the clean inputs. clean: whether it is zero.
        """
        won = succeeded(logits, self.y, targeted=self.targeted)
        size = rows_norm(delta, self.ball.norm)
        better = won & (size < self.size)
        ahead = lead(logits, self.y, targeted=self.targeted).to(size.dtype)
        if clean:
            self.at_x = ahead
        self.x_adv = torch.where(columns(better, x_adv), x_adv, self.x_adv)
        self.size, self.at_adv = torch.where(better, size, self.size), torch.where(better, ahead, self.at_adv)
        return won

    def offer(self, index: Tensor, x_adv: Tensor, logits: Tensor, *, clean: bool = False) -> Tensor:
        """(b,) bool: :meth:`see` for the examples at `index` (b,) int64."""
        part = self.rows(index)
        won = part.see(x_adv, x_adv - part.ball.x, logits, clean=clean)
        self.put(index, part)
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

    nearest: what is known of the rows. delta: (b, *S), `x_adv` less the clean inputs.
    gradient: (b, *S) of the loss, 0 where it is no number and outside the region. value: (b,) the loss.
    logits: (b, K). won: (b,) bool, whether they succeed. anyhow: whether `value` is the loss of success as such, and of
    no class that is made for, in every row.
    """

    nearest: Nearest
    delta: Tensor
    gradient: Tensor
    value: Tensor
    logits: Tensor
    won: Tensor
    anyhow: bool

    @property
    def ball(self) -> Ball:
        """What is allowed: any distance."""
        return self.nearest.ball


R = TypeVar("R", bound=Rows)

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""From logits (b, K), labels (b,) and the class to reach (b,) to (b,).

Where the class to reach is the label, or None for all of them, any other will do.
"""


def descend(
    target: Target,
    rows: R,
    nearest: Nearest,
    *,
    steps: int,
    candidates: int = 1,
    patience: float = 1.0,
    loss: Callable[[int], Loss],
    move: Callable[[R, Asked, int], R],
) -> None:
    """Ask about `rows`, which start at the clean inputs, note the nearest successes, and `move` them, `steps` times.

    An example that succeeds as it is costs one pass and stays as it is; one whose query budget ends is left alone.

    Args:
        target: the system. rows: all B examples. nearest: what is found.
        steps: forward passes per example; as many backward, and `candidates` - 2 more.
        candidates: with more than two, untargeted, the class to reach is chosen by :func:`look_round`, and followed up
            to the first success.
        patience: an example is left whose nearest success has come no nearer, by a share of SETTLED, in that share of
            the steps; this is looked after once in half of that.
        loss: of each step, what gradients are taken of. Towards a class it is the lead over the label, or a multiple.
        move: from the rows, what was learnt of them, and the step, to the rows at their next points.
    """
    view, part = target, nearest
    rival: Tensor | None = None
    every = max(round(patience * steps / 2.0), 1)
    before = earlier = torch.full_like(nearest.size, torch.inf)
    for step in range(steps):
        left = view.remaining()
        if left is not None and bool((left <= 0).any()):
            rival = None if rival is None else rival[left > 0]
            rows, view, part = only(left > 0, rows, target, nearest, part)
        if len(rows.index) == 0:
            break
        if step == 0 and candidates > 2 and not nearest.targeted:
            logits, rival, gradient = look_round(view, part.ball, part.y, candidates)
            value = loss(0)(logits, part.y, rival)
            per_lead = (value / gap(logits, part.y, rival)).nan_to_num(nan=1.0, posinf=1.0, neginf=1.0)
            gradient = gradient * columns(per_lead.to(gradient.dtype), gradient)
        else:
            gradient, value, logits = view.gradient(rows.x_adv, partial(_of, loss(step), part.y, rival))
            gradient = usable(gradient, part.ball)
        delta = rows.x_adv - part.ball.x
        won = part.see(rows.x_adv, delta, logits, clean=step == 0)
        if step + 1 < steps:
            rows = move(rows, Asked(part, delta, gradient, value, logits, won, rival is None), step)
        if rival is not None:
            rival = torch.where(won, part.y, rival)
            rival = None if torch.equal(rival, part.y) else rival
        going = ~won if step == 0 else torch.ones_like(won)
        if patience < 1.0 and step % every == 0:
            going &= torch.isinf(part.size) | (part.size <= (1.0 - SETTLED) * earlier[rows.index])
            earlier, before = before, before.index_copy(0, rows.index, part.size)
        if not bool(going.all()):
            rival = None if rival is None else rival[going]
            rows, view, part = only(going, rows, target, nearest, part)
    if part is not nearest:
        nearest.put(rows.index, part)


def only(those: Tensor, rows: R, target: Target, nearest: Nearest, part: Nearest) -> tuple[R, Target, Nearest]:
    """The rows where `those` (b,) bool is true, with their view of `target` and their part of `nearest`.

    What `part` knows of all the rows goes to `nearest`.
    """
    if part is not nearest:
        nearest.put(rows.index, part)
    rows = rows.keep(those)
    return rows, target.rows(rows.index), nearest.rows(rows.index)


def _of(loss: Loss, y: Tensor, rival: Tensor | None, logits: Tensor) -> Tensor:
    return loss(logits, y, rival)
