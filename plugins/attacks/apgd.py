"""APGD: projected gradient ascent with an adaptive step size. Croce & Hein, ICML 2020, arXiv:2003.01690, section 3.

Its l1 form is Croce & Hein, ICML 2021, arXiv:2103.01208.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import (
    EVERY_TASK,
    Attack,
    Ball,
    DataSpec,
    Norm,
    Refused,
    SampleRandom,
    Supports,
    Target,
    Threat,
    hookimpl,
)

from ._ascent.pairs import affordable, gradient, offer, pairs
from ._ascent.sparse import climb_sparse
from ._base.active import Active, AttackLoss, Loss, State, may_settle
from ._base.best import Best
from ._base.classes import dlr_to_rival, logit_difference, top_rivals
from ._base.settings import check_at_least
from ._base.vectors import columns

MOMENTUM = 0.75
RISES = 0.75
"""Share of the steps between two checkpoints that must increase the loss; otherwise the step size is halved."""


class APGDLoss(Enum):
    """Loss to maximise: cross-entropy, difference of logits ratio or margin; the latter two also targeted.

    With two classes dlr is the margin, with two or three dlr_targeted is margin_targeted, since there are too few
    logits for the ratio.
    """

    ce = "ce"
    dlr = "dlr"
    margin = "margin"
    dlr_targeted = "dlr_targeted"
    margin_targeted = "margin_targeted"

    @property
    def one_class_each(self) -> bool:
        """True if each of several classes is approached by a separate climb."""
        return self in (APGDLoss.dlr_targeted, APGDLoss.margin_targeted)

    def of_rows(self, *, targeted: bool) -> Loss:
        """Loss of a row: towards its rival, or away from its label; under a targeted threat towards the target."""
        if not self.one_class_each or targeted:
            return AttackLoss(self.value.removesuffix("_targeted"))
        towards = logit_difference if self is APGDLoss.margin_targeted else dlr_to_rival
        return lambda logits, rows: towards(logits, rows.y, rows.rival)


@dataclass(frozen=True)
class APGD(Attack):
    """Momentum ascent that halves its step size and returns to its best point if it stops making progress.

    Differences from the paper: starts are uniform in the ball (l1: a projected Gaussian); an example stops at its first
    success; the classes of the targeted losses are approached in parallel instead of in turn, and the first success
    counts.

    steps: iterations of one climb. restarts: most starts per example, which ends when it is broken.
    loss: to maximise. targets: for the targeted losses, number of classes to try: those with the highest clean scores
    other
        than the label. Under a targeted threat only its target class is tried.
    """

    tasks: ClassVar[frozenset[str]] = EVERY_TASK
    supports: ClassVar[Supports] = Supports(
        norms=frozenset({Norm.linf, Norm.l2, Norm.l1}), targeted=True, top5=True, randomized=True
    )

    steps: int = 100
    restarts: int = 1
    loss: APGDLoss = APGDLoss.ce
    targets: int = 9

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps, restarts=self.restarts, targets=self.targets)

    def check(self, spec: DataSpec, threat: Threat) -> None:
        """Refuse class-wise targeted losses for examples with several sites."""
        if spec.task.dense and self.loss.one_class_each:
            raise Refused(
                f"attack.apgd.loss is {self.loss.value}, which approaches one class of an example, but the data are "
                f"for {spec.task.name}; choose ce, margin or dlr"
            )

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """First success, else the point with the highest loss; the clean input if every loss is NaN.

        Cost per example, restart and class: `steps` + 1 forward and backward passes (l1: + 3); the targeted losses take
        one more forward pass to rank the classes.
        """
        active, rivals = Active.of(target, threat.around(x, rng), y, targeted=threat.targeted), None
        if self.loss.one_class_each and not threat.targeted:
            if len(active.keep(affordable(active))[0]) < len(x):
                return x.clone()
            rivals = top_rivals(target.logits(x), y, self.targets)
        return apgd(
            active,
            Best(x),
            loss=self.loss,
            rivals=rivals,
            steps=self.steps,
            restarts=self.restarts,
            settle=may_settle(target, threat),
            rng=rng,
        ).x_adv


def checkpoints(steps: int) -> list[int]:
    """Steps after which the step size may be halved: 22, 41, 57, 70, 80, 87, 93, 99 of 100.

    Croce & Hein, ICML 2020, section 3.1: intervals of 22 %, each 3 % shorter than the one before, but at least 6 %.
    """
    found, interval, at = [], max(22 * steps // 100, 1), 0
    while at + interval <= steps:
        at += interval
        found.append(at)
        interval = max(interval - max(3 * steps // 100, 1), 6 * steps // 100, 1)
    return found


@dataclass
class _Climb(State):
    """State of each row. top: point with the highest loss. rises: steps that increased it since the last checkpoint."""

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
        """State at the start."""
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
        """Update the state with the values at the next point."""
        self.rises = self.rises + (value > self.value)
        higher = value > self.top_value
        wide = columns(higher, x_adv)
        self.top = torch.where(wide, x_adv, self.top)
        self.top_gradient = torch.where(wide, gradient, self.top_gradient)
        self.top_value = torch.where(higher, value, self.top_value)
        self.previous, self.x_adv, self.gradient, self.value = self.x_adv, x_adv, gradient, value

    def check(self, interval: int) -> None:
        """Halve the step size and return to the best point if the climb oscillates or has stalled (section 3.1)."""
        stalled = ~self.halved & (self.top_value <= self.checked_value)
        self.halved = (self.rises < RISES * interval) | stalled
        self.step_size = torch.where(self.halved, self.step_size / 2.0, self.step_size)
        wide = columns(self.halved, self.x_adv)
        self.x_adv = torch.where(wide, self.top, self.x_adv)
        self.gradient = torch.where(wide, self.top_gradient, self.gradient)
        self.value = torch.where(self.halved, self.top_value, self.value)
        self.checked_value, self.rises = self.top_value, torch.zeros_like(self.rises)

    def onward(self, ball: Ball, momentum: float) -> Tensor:
        """Next point: a projected step with momentum (equation 1)."""
        ahead = ball.project(self.x_adv + columns(self.step_size, self.x_adv) * ball.steepest(self.gradient))
        if momentum == 1.0:
            return ahead
        return ball.project(
            self.x_adv + momentum * (ahead - self.x_adv) + (1.0 - momentum) * (self.x_adv - self.previous)
        )


def climb(active: Active, start: Tensor, best: Best, *, loss: Loss, steps: int, settle: bool) -> None:
    """Algorithm 1 from `start` (b, *S), under l1 that of :func:`climb_sparse`; every point is offered to `best`.

    With `settle` an example ends as soon as one of its rows succeeds. Cost: steps + 1 forward and backward passes.
    """
    if active.ball.norm is Norm.l1:
        climb_sparse(active, start, best, loss=loss, steps=steps, settle=settle)
        return
    checks, last = checkpoints(steps), 0
    active, x_adv = active.keep(affordable(active), start)
    if len(active) == 0:
        return
    slope, value, scores = gradient(active, x_adv, loss)
    offer(best, active.index, x_adv, active.succeeded(x_adv, scores), value)
    state = _Climb.at(x_adv, slope, value, 2.0 * active.ball.eps)
    for step in range(1, steps + 1):
        active, state = active.keep(~(best.won[active.index] & settle), state)
        x_adv = state.onward(active.ball, MOMENTUM if step > 1 else 1.0)
        active, x_adv, state = active.keep(affordable(active), x_adv, state)
        if len(active) == 0:
            return
        slope, value, scores = gradient(active, x_adv, loss)
        offer(best, active.index, x_adv, active.succeeded(x_adv, scores), value)
        state.arrive(x_adv, slope, value)
        if step in checks:
            state.check(step - last)
            last = step


def apgd(
    active: Active, best: Best, *, loss: APGDLoss, rivals: Tensor | None, steps: int, restarts: int, settle: bool,
    rng: SampleRandom,
) -> Best:  # fmt: skip
    """Best point of all climbs, per example: `best`, updated.

    Args:
        active: the examples to attack. rivals: (B, C) the classes to try for a targeted loss; None under a targeted
            threat and for the other losses.
        settle: stop an example at its first success; otherwise every climb runs to its end.
    """
    climbs = 1 if rivals is None else rivals.shape[1]
    ascended = loss.of_rows(targeted=active.targeted)
    for restart in range(restarts):
        (active,) = active.keep(~(best.won[active.index] & settle))
        if len(active) == 0:
            break
        ball, mine = active.ball, rng.rows(active.index)
        starts = torch.stack([_start(ball, mine, restart * climbs + turn) for turn in range(climbs)], 1)
        climb(pairs(active, rivals), starts.flatten(0, 1), best, loss=ascended, steps=steps, settle=settle)
    return best


def _start(ball: Ball, rng: SampleRandom, draw: int) -> Tensor:
    """Random start, (B, *S): uniform in the ball; under l1, where that changes every feature slightly, a Gaussian."""
    if ball.norm is Norm.l1:
        return ball.x + rng.normal(*ball.x.shape[1:], stream="apgd/start", draw=draw).to(ball.x.dtype)
    return ball.random(rng, stream="apgd/start", draw=draw)


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return APGD
