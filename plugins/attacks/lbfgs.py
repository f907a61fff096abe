"""The attack of Szegedy et al., ICLR 2014, arXiv:1312.6199, section 4.1: box-constrained L-BFGS."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Attack, Ball, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._base.active import Active, Loss, State
from ._base.best import Best
from ._base.classes import rival_logits
from ._base.losses import ce, margin
from ._base.settings import check_at_least, check_positive
from ._base.vectors import TINY, columns, softplus, usable
from ._minimal.nearest import finish, keep_nearest
from ._minimal.nearest_class import ask_clean
from ._minimal.weights import least

MEMORY = 10
"""Number of stored pairs of changes (the memory of L-BFGS)."""
ENOUGH = 1e-4
"""Constant of Armijo's rule: share of the decrease predicted by the slope that a step must achieve."""
SHORTEST = 1e-6
"""A step shortened below this share ends the descent."""


class LBFGSLoss(Enum):
    """Score that the descent raises: the signed margin, or the log-odds under the cross-entropy of all classes."""

    ce = "ce"
    margin = "margin"

    def __call__(self, logits: Tensor, rows: Active) -> Tensor:
        """Signed margin for margin and log-odds of success for ce, (b,)."""
        if self is LBFGSLoss.margin:
            return margin(logits, rows.y, targeted=rows.targeted)
        return -ce(logits, rows.y) if rows.targeted else ce(logits, rows.y)


@dataclass(frozen=True)
class LBFGS(Attack):
    """L-BFGS on ||delta||_2^2 + c * loss in the box, for the least weight c that succeeds.

    Features at an end of the box that the slope pushes against stay there; the others take a quasi-Newton step (Liu &
    Nocedal, Mathematical Programming 1989), shortened until the objective falls, and are cut off at the box.

    Differences from the paper: it is written for batches; c weighs the loss and not the distance, and the distance is
    squared; the loss is log(1 + exp(-margin)), the cross-entropy of the two classes at stake, since that of all classes
    (`loss`) pulls past the nearest point of the boundary, with scores in units of the clean margin, so that their scale
    does not matter; it may be untargeted; the nearest success is moved back by a final line search (`search_steps`).

    steps: passes for one c at most. searches: number of c to try: tenfold up to the first success, then bisection.
    initial_c: the first; None takes that at which a linear loss would be least on the boundary.
    loss: margin for the loss above, ce for the cross-entropy of all classes (untargeted: of leaving the label).
    search_steps: forward passes of the final line search.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.l2}), targeted=True, minimal=True)

    steps: int = 50
    searches: int = 9
    initial_c: float | None = None
    loss: LBFGSLoss = LBFGSLoss.margin
    search_steps: int = 8

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps, searches=self.searches)
        check_at_least(0, search_steps=self.search_steps)
        check_positive(initial_c=self.initial_c)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Nearest success found, at any distance; the clean input where there is none.

        Cost per example: a forward pass, `searches` * `steps` forward and backward passes at most, and the search.
        """
        every = Active.unbounded(target, x, y, threat, rng)
        best = Best(x)
        active = ask_clean(every, best)
        loss = two_classes(self.loss, best.clean_margin.abs())
        c = torch.full_like(best.value, 0.0 if self.initial_c is None else self.initial_c)
        lower, upper = torch.zeros_like(c), torch.full_like(c, torch.inf)
        for _ in range(self.searches):
            broken = descend_in_box(active, best, c, loss=loss, steps=self.steps)
            upper = torch.where(broken, torch.minimum(upper, c), upper)
            lower = torch.where(broken, lower, torch.maximum(lower, c))
            c = torch.where(torch.isfinite(upper), (lower + upper) / 2.0, 10.0 * c)
        return finish(every, best, search_steps=self.search_steps)


def two_classes(kind: LBFGSLoss, unit: Tensor) -> Loss:
    """Loss log(1 + exp(-a)), (b,), with a the signed margin for margin, and the log-odds of success for ce.

    unit: (B,), what the scores are divided by, so that their scale does not matter.
    """

    def loss(logits: Tensor, rows: Active) -> Tensor:
        scale = unit[rows.index].clamp_min(TINY)[:, None]
        return softplus(-kind(rival_logits(logits / scale, rows), rows))

    return loss


@dataclass
class _Quasi(State):
    """x_adv: the next point to ask about. c: (b,), the weight. at: (b, *S), the last point accepted. gradient: there;
    last: (b,), the objective there.

    direction: (b, *S). share: (b,), of it. steps, turns: (b, MEMORY, D), the changes of points and of gradients.
    """

    x_adv: Tensor
    c: Tensor
    last: Tensor
    at: Tensor
    gradient: Tensor
    direction: Tensor
    share: Tensor
    steps: Tensor
    turns: Tensor

    @classmethod
    def start(cls, x: Tensor, c: Tensor) -> _Quasi:
        """State at the clean inputs `x` (b, *S)."""
        zero, none = torch.zeros_like(x), x.new_zeros(len(x), MEMORY, x[0].numel() if len(x) else 1)
        return cls(x, c, torch.full_like(c, torch.inf), x, zero, zero, torch.ones_like(c), none, none)

    def onward(self, gradient: Tensor, total: Tensor, ball: Ball) -> Tensor:
        """Accept `x_adv` or shorten the step, given the objective and its gradient there; (b,) bool: go on."""
        promised = (self.gradient * (self.x_adv - self.at)).flatten(1).sum(1)
        fell = total <= torch.where(torch.isfinite(self.last), self.last + ENOUGH * promised, torch.inf)
        far = columns(fell, gradient)
        step, turn = (self.x_adv - self.at).flatten(1), (gradient - self.gradient).flatten(1)
        curved = fell & torch.isfinite(self.last) & ((step * turn).sum(1) > 1e-12)
        self.steps = torch.where(curved[:, None, None], torch.cat([self.steps[:, 1:], step[:, None]], 1), self.steps)
        self.turns = torch.where(curved[:, None, None], torch.cat([self.turns[:, 1:], turn[:, None]], 1), self.turns)
        self.at, self.gradient = torch.where(far, self.x_adv, self.at), torch.where(far, gradient, self.gradient)
        self.last = torch.where(fell, total, self.last)
        held = torch.where(self.gradient > 0, self.at <= 0.0, self.at >= 1.0)
        if ball.mask is not None:
            held = held | ~ball.mask
        free = torch.where(held, 0.0, self.gradient).flatten(1)
        found = _two_loops(free, self.steps * ~held.flatten(1)[:, None], self.turns * ~held.flatten(1)[:, None])
        downhill = (found * free).sum(1) < 0
        found = torch.where(downhill[:, None], found, -free).reshape(self.at.shape)
        self.direction = torch.where(far, found, self.direction)
        # The first step is no longer than a tenth of the box's side.
        first = (0.1 / self.direction.flatten(1).abs().amax(1).clamp_min(0.1)).clamp_max(1.0)
        known = self.steps[:, -1].any(1) & downhill
        self.share = torch.where(fell, torch.where(known, 1.0, first), self.share / 2.0)
        self.x_adv = ball.project(self.at + columns(self.share, gradient) * self.direction)
        return (self.share > SHORTEST) & (self.x_adv != self.at).flatten(1).any(1)


def _two_loops(gradient: Tensor, steps: Tensor, turns: Tensor) -> Tensor:
    """Minus the inverse curvature times `gradient` (b, D), (b, D).

    steps, turns: (b, MEMORY, D), the newest last; pairs without curvature are left out.
    """
    inner = (steps * turns).sum(2)
    used = inner > 1e-12
    weight = torch.where(used, 1.0 / inner.clamp_min(1e-12), 0.0)
    found, shares = gradient, []
    for k in range(MEMORY - 1, -1, -1):
        share = weight[:, k] * (steps[:, k] * found).sum(1)
        shares.append(share)
        found = found - share[:, None] * turns[:, k]
    size = turns.square().sum(2)
    scale = torch.ones_like(inner[:, 0])
    for k in range(MEMORY):
        scale = torch.where(used[:, k], inner[:, k] / size[:, k].clamp_min(1e-12), scale)
    found = scale[:, None] * found
    for k in range(MEMORY):
        share = shares[MEMORY - 1 - k] - weight[:, k] * (turns[:, k] * found).sum(1)
        found = found + share[:, None] * steps[:, k]
    return -found


def first_c(gradient: Tensor, value: Tensor, logits: Tensor) -> Tensor:
    """Weight (b,) at which ||delta||^2 + c * loss is least on the boundary, if the scores are linear.

    gradient: (b, *S) of the loss log(1 + exp(-a)) at the clean inputs, where it has the `value` (b,);
    logits: (b, K).
    """
    behind = value + (-(-value).exp()).log1p()  # -a
    return least(gradient, behind * (1.0 - (-value).exp()), logits)


def descend_in_box(active: Active, best: Best, c: Tensor, *, loss: Loss, steps: int) -> Tensor:
    """Descend from the clean inputs at the weights `c` (B,); (B,) bool: success. Successes are offered to `best`."""
    broken = torch.zeros_like(best.won)
    rows = _Quasi.start(active.ball.x, c[active.index])
    for step in range(steps):
        active, rows = active.keep(active.affordable(), rows)
        if len(active) == 0:
            break
        gradient, value, logits = active.descent(rows.x_adv, loss)
        if step == 0:  # c of 0 stands for that of the slope, for the searches after this one too
            in_units = logits / best.clean_margin[active.index].abs().clamp_min(TINY)[:, None]  # as the loss has them
            rows.c = torch.where(rows.c > 0, rows.c, first_c(usable(gradient, active.ball), value, in_units))
            c[active.index] = rows.c
        broken[active.index] |= keep_nearest(best, active, rows.x_adv, logits)
        delta = rows.x_adv - active.ball.x
        slope = 2.0 * delta + columns(rows.c, delta) * gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        going = rows.onward(slope, delta.square().flatten(1).sum(1) + rows.c * value, active.ball)
        active, rows = active.keep(going, rows)
    return broken


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return LBFGS
