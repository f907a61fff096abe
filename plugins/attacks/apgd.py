"""APGD: projected gradient ascent without a step size to choose. Croce & Hein, ICML 2020, arXiv:2003.01690, section 3.

Its l1 form is Croce & Hein, ICML 2021, arXiv:2103.01208.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Attack, Ball, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._ascent.apgd import climb, climb_sparse
from ._ascent.survivors import Best, PairLoss, Work
from ._base.losses import AttackLoss, dlr_towards, gap, likeliest, row_loss
from ._base.steps import at_least, can_ask, may_settle


class APGDLoss(Enum):
    """What is ascended: cross-entropy, difference of logits ratio, margin; or the latter two towards one class each.

    With two classes dlr is the margin, with two or three dlr_targeted is margin_targeted: there are no logits left to
    divide by.
    """

    ce = "ce"
    dlr = "dlr"
    margin = "margin"
    dlr_targeted = "dlr_targeted"
    margin_targeted = "margin_targeted"

    @property
    def one_class_each(self) -> bool:
        """Whether each of several classes is approached by a climb of its own."""
        return self in (APGDLoss.dlr_targeted, APGDLoss.margin_targeted)


@dataclass(frozen=True)
class APGD(Attack):
    """Momentum ascent that halves its step and returns to its best point where it stops making progress.

    Differences from the paper: starts are uniform in the ball (l1: a Gaussian, projected); an example is left alone
    once it is broken; the classes of the targeted losses are approached side by side, not one after the other, and the
    first to be reached counts.

    steps: iterations of one climb. restarts: how many starts an example gets as long as it is not broken.
    loss: what is ascended. targets: for the targeted losses, how many classes are tried: those with the highest clean
        scores beside the label. Under a targeted threat there is only the class of the threat.
    """

    supports: ClassVar[Supports] = Supports(
        norms=frozenset({Norm.linf, Norm.l2, Norm.l1}), targeted=True, randomized=True
    )

    steps: int = 100
    restarts: int = 1
    loss: APGDLoss = APGDLoss.ce
    targets: int = 9

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps, restarts=self.restarts, targets=self.targets)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """A success if one was seen, else the point of the highest loss; the clean input if no loss is a number.

        Cost per example, restart and class: `steps` + 1 passes forward and backward (l1: + 3); the targeted losses
        take one forward pass more to rank the classes.
        """
        ball = threat.around(x, rng)
        rivals = None
        if self.loss.one_class_each and not threat.targeted:
            if not bool(can_ask(target).all()):
                return x.clone()
            rivals = likeliest(target.logits(x), y, self.targets)
        return apgd(
            target,
            y,
            ball=ball,
            loss=self.loss,
            rivals=rivals,
            targeted=threat.targeted,
            steps=self.steps,
            restarts=self.restarts,
            settle=may_settle(target, threat),
            those=torch.ones_like(y, dtype=torch.bool),
            rng=rng,
        ).x_adv


def apgd(
    target: Target,
    y: Tensor,
    *,
    ball: Ball,
    loss: APGDLoss,
    rivals: Tensor | None,
    targeted: bool,
    steps: int,
    restarts: int,
    settle: bool,
    those: Tensor,
    rng: SampleRandom,
) -> Best:
    """The best of all climbs, per example.

    Args:
        rivals: (B, C) the classes to try for a targeted loss; None if `targeted`, and for the other losses.
        settle: whether an example is left at its first success; otherwise every climb runs to its end.
        those: (B,) bool, the examples to attack.
    """
    best = Best(ball.x)
    ascent = climb_sparse if ball.norm is Norm.l1 else climb
    climbs = 1 if rivals is None else rivals.shape[1]
    for restart in range(restarts):
        work = Work.of(target, ball, y, rivals, those & ~(best.won & settle))
        if len(work) == 0:
            break
        index = work.example[::climbs]
        here, mine = ball.rows(index), rng.rows(index)
        starts = torch.stack([_start(here, mine, restart * climbs + turn) for turn in range(climbs)], 1)
        ascent(
            work,
            starts.flatten(0, 1),
            best,
            loss=_pair_loss(loss, targeted=targeted),
            targeted=targeted,
            steps=steps,
            settle=settle,
        )
    return best


def _start(ball: Ball, rng: SampleRandom, draw: int) -> Tensor:
    """(B, *S): uniform in the ball; under l1, where such a point has changed every feature a little, a Gaussian."""
    if ball.norm is Norm.l1:
        return ball.x + rng.normal(*ball.x.shape[1:], stream="apgd/start", draw=draw).to(ball.x.dtype)
    return ball.random(rng, stream="apgd/start", draw=draw)


def _pair_loss(loss: APGDLoss, *, targeted: bool) -> PairLoss:
    """The loss of a row; under a targeted threat, that towards its one class."""
    if loss.one_class_each and not targeted:
        return gap if loss is APGDLoss.margin_targeted else dlr_towards
    plain = AttackLoss(loss.value.removesuffix("_targeted"))

    def to_or_from_y(logits: Tensor, y: Tensor, rival: Tensor) -> Tensor:
        return row_loss(plain, y, targeted=targeted)(logits)

    return to_or_from_y


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return APGD
