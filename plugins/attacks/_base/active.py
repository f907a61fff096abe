"""Rows still under attack, and what the system answers about them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Self, TypeVarTuple

import torch
from torch import Tensor

from benchmark.api import Access, Ball, SampleRandom, Target, Threat

from .losses import ce, cross_entropy, dlr, margin

__all__ = ["Active", "AttackLoss", "Loss", "State", "may_settle"]

Ts = TypeVarTuple("Ts")


@dataclass(frozen=True)
class Active:
    """Rows still under attack, one value per row in each field.

    target: the system. ball: allowed inputs. y: (b,) int64, label to leave, or to reach if `targeted`; (b, S, ...)
    where an example has several sites. index: (b,) int64, the row's example among the B of the batch. rival: (b,)
    int64, class to reach in place of `y`, its own `y` in a row where any class will do, and the tensor `y` itself where
    that is so in all. reached: (b,) int64, class of the last success, `y` where there was none.
    """

    target: Target
    ball: Ball
    y: Tensor
    targeted: bool
    index: Tensor
    rival: Tensor
    reached: Tensor

    @classmethod
    def of(cls, target: Target, ball: Ball, y: Tensor, *, targeted: bool) -> Active:
        """All examples of a batch."""
        return cls(target, ball, y, targeted, torch.arange(len(y), device=y.device), y, y)

    @classmethod
    def unbounded(cls, target: Target, x: Tensor, y: Tensor, threat: Threat, rng: SampleRandom) -> Active:
        """All examples of a batch, with no limit on the distance."""
        ball = dataclasses.replace(threat.unbounded().around(x, rng), eps=math.inf)
        return cls.of(target, ball, y, targeted=threat.targeted)

    def __len__(self) -> int:
        return len(self.y)

    def rows(self, at: Tensor) -> Active:
        """Rows at the positions `at` (int64)."""
        y = self.y[at]
        rival, reached = (y if each is self.y else each[at] for each in (self.rival, self.reached))
        return Active(self.target.rows(at), self.ball.rows(at), y, self.targeted, self.index[at], rival, reached)

    def keep(self, mask: Tensor | None, *state: *Ts) -> tuple[Active, *Ts]:
        """Rows where `mask` (b,) bool is true (None: all), and the same rows of each tensor or :class:`State`."""
        if mask is None or bool(mask.all()):
            return (self, *state)
        at = mask.nonzero().squeeze(1)
        kept: Any = [each[at] for each in state]  # type: ignore[index]
        return (self.rows(at), *kept)

    def affordable(self) -> Tensor | None:
        """Rows whose query budget allows another pass, (b,) bool; None where there is no limit."""
        return None if (left := self.target.remaining()) is None else left > 0

    def gradient(self, x_adv: Tensor, loss: Loss) -> tuple[Tensor, Tensor, Tensor]:
        """Gradient (b, *S) and value (b,) of a loss to ascend at `x_adv` (b, *S), and the logits (b, K)."""
        return self.target.gradient(x_adv, lambda logits: loss(logits, self))

    def descent(self, x_adv: Tensor, loss: Loss) -> tuple[Tensor, Tensor, Tensor]:
        """Gradient and value of a loss to descend, as :meth:`gradient`; the excess of detectors is added to it."""
        gradient, value, logits = self.target.gradient(x_adv, lambda logits: -loss(logits, self))
        return -gradient, -value, logits

    def fooled(self, logits: Tensor) -> Tensor:
        """Success of the attacker by the scores, (b,) bool: `y` is predicted if `targeted`, else another label."""
        return self.target.task.succeeded(logits, self.y, targeted=self.targeted)

    def succeeded(self, x_adv: Tensor, logits: Tensor) -> Tensor:
        """Success at `x_adv` (b, *S) with scores (b, K), (b,) bool: fooled, and not refused, which costs a pass."""
        won = self.fooled(logits)
        return won & self.target.accepts(x_adv, won) if self.target.detected else won

    def margin(self, logits: Tensor) -> Tensor:
        """Signed margin, (b,), positive where the attacker succeeds; of several sites the mean, whose sign is none."""
        task = self.target.task
        return task.over_sites(partial(margin, targeted=self.targeted and not task.dense), logits, self.y)


Loss = Callable[[Tensor, Active], Tensor]
"""Loss, such as `AttackLoss.ce`: from logits (b, K) and their rows to (b,).

A loss with data of its own, such as a divergence from reference logits (B, K), looks them up by `rows.index`.
"""


class AttackLoss(Enum):
    """Cross-entropy, logit margin (Carlini & Wagner) or difference of logits ratio, as a configuration and a `Loss`."""

    ce = "ce"
    margin = "margin"
    dlr = "dlr"

    def __call__(self, logits: Tensor, rows: Active) -> Tensor:
        """Loss to ascend, (b,): away from `rows.y`, or towards it if `rows.targeted`; of several sites the mean."""
        if rows.target.task.dense:  # cross-entropy, and not its log-odds, which would weigh the sites otherwise
            each = {AttackLoss.ce: cross_entropy, AttackLoss.margin: margin, AttackLoss.dlr: dlr}[self]
            return rows.target.task.over_sites(each, logits, rows.y)
        if self is AttackLoss.ce:
            return -ce(logits, rows.y) if rows.targeted else ce(logits, rows.y)
        return (margin if self is AttackLoss.margin else dlr)(logits, rows.y, targeted=rows.targeted)


@dataclass
class State:
    """Tensors with one value per row, as the fields of a subclass."""

    def __getitem__(self, at: Tensor) -> Self:
        return dataclasses.replace(self, **{name: value[at] for name, value in vars(self).items()})


def may_settle(target: Target, threat: Threat) -> bool:
    """True if a success that the attacker sees is the core's verdict, so that its example needs no further passes.

    False on another model (transfer, unknown defense), and where answers are random or a detector may refuse.
    """
    return target.certain and threat.aware and threat.access is not Access.transfer
