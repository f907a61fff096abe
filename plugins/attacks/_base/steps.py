"""What the gradient attacks share: steepest-ascent steps that stay in the threat, on the examples not yet broken."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import Access, Ball, ConfigError, Norm, Target, Threat

from .losses import AttackLoss, row_loss, succeeded

__all__ = ["ascend", "at_least", "can_ask", "may_settle", "positive"]


def at_least(least: int, **values: int) -> None:
    """Refuse a count that is too small.

    Raises:
        ConfigError: naming the field.
    """
    for name, value in values.items():
        if value < least:
            raise ConfigError(f"attack.{name} is {value}; expected at least {least}")


def positive(**values: float | None) -> None:
    """Refuse a length that is not positive; None stands for a default.

    Raises:
        ConfigError: naming the field.
    """
    for name, value in values.items():
        if value is not None and not value > 0:
            raise ConfigError(f"attack.{name} is {value}; expected more than 0, in units of the [0, 1] input range")


def may_settle(target: Target, threat: Threat) -> bool:
    """Whether a success that the attacker sees is the core's verdict, so that an example may be left at it.

    It is not where the attacker works on another model (transfer, or a defense it does not know of), where the
    answer is random, or where a detector may refuse what the scores do not show: there the loss is raised to the end.
    """
    return target.certain and threat.aware and threat.access is not Access.transfer


def can_ask(target: Target) -> Tensor:
    """(B,) bool: whether the query budget allows another pass for each row."""
    left = target.remaining()
    if left is None:
        return torch.ones(len(target), dtype=torch.bool, device=target.ledger.forwards.device)
    return left > 0


@dataclass(frozen=True)
class _Rows:
    """The examples that are still worked on. index: (b,) int64, their positions among the B examples."""

    target: Target
    ball: Ball
    y: Tensor
    index: Tensor

    def keep(self, those: Tensor) -> _Rows:
        """The rows where `those` (b,) bool is true."""
        kept = those.nonzero().squeeze(1)
        return _Rows(self.target.rows(kept), self.ball.rows(kept), self.y[kept], self.index[kept])


def ascend(
    target: Target,
    start: Tensor,
    y: Tensor,
    *,
    ball: Ball,
    loss: AttackLoss,
    targeted: bool,
    steps: int,
    step_size: float,
    settle: bool,
) -> tuple[Tensor, Tensor]:
    """Repeat x <- project(x + step_size * steepest(gradient of the loss at x)).

    Args:
        target: the system. start: (B, *S), allowed. y: (B,) int64, the labels to leave, or to reach if `targeted`.
        ball: what is allowed. step_size: length of a step in the ball's norm.
        settle: whether an example stays at the first iterate that succeeds and costs nothing more.

    Returns:
        x_adv (B, *S): that iterate, else the last one; an example whose query budget ends keeps the iterate it has
        reached. And (B,) bool: settled. The last iterate itself is not asked about.

    Cost: at most `steps` forward and `steps` backward passes per example.
    """
    result = start
    settled = torch.zeros(len(start), dtype=torch.bool, device=start.device)
    rows = _Rows(target, ball, y, torch.arange(len(start), device=start.device))
    x_adv = start
    for _ in range(steps):
        left = rows.target.remaining()
        if left is not None and bool((left <= 0).any()):
            result = result.index_copy(0, rows.index, x_adv)
            rows, x_adv = rows.keep(left > 0), x_adv[left > 0]
        if len(x_adv) == 0:
            return result, settled
        gradient, _, logits = rows.target.gradient(x_adv, row_loss(loss, rows.y, targeted=targeted))
        if settle:
            done = succeeded(logits, rows.y, targeted=targeted)
            if bool(done.any()):
                result = result.index_copy(0, rows.index, x_adv)
                settled[rows.index[done]] = True
                rows, x_adv, gradient = rows.keep(~done), x_adv[~done], gradient[~done]
        x_adv = rows.ball.project(_stepped(rows.ball, x_adv, gradient, step_size))
    return result.index_copy(0, rows.index, x_adv), settled


def _stepped(ball: Ball, x_adv: Tensor, gradient: Tensor, length: float) -> Tensor:
    """(B, *S): `x_adv` after the steepest step of that length.

    Under l1 that is made of few features, and what would leave the box is lost; the projection settles this for other
    norms. So features with room (Croce & Hein, ICML 2021, arXiv:2103.01208, section 3.2) go to the end of the box one
    after the other, from the largest slope down, until the length is used up: the steepest step in the box. They go
    beyond that end, for the projection to cut, or it would take from them what the ball has no room for.
    """
    if ball.norm is not Norm.l1:
        return x_adv.add(ball.steepest(gradient), alpha=length)
    room = torch.where(gradient > 0, 1.0 - x_adv, x_adv)
    usable = room > 0 if ball.mask is None else (room > 0) & ball.mask
    slope = torch.where(usable, gradient, 0.0).nan_to_num(nan=0.0).flatten(1)
    gain, order = slope.abs().sort(dim=1, descending=True, stable=True)
    room = room.flatten(1).gather(1, order)
    left = length + room - room.cumsum(1)  # before a feature takes its part
    spent = torch.where(left >= room, length, left.clamp_min(0.0))
    spent = torch.where(gain > 0, spent, 0.0)
    return x_adv + (torch.zeros_like(spent).scatter_(1, order, spent) * slope.sign()).reshape(x_adv.shape)
