"""The attacks of Carlini & Wagner, IEEE S&P 2017, arXiv:1608.04644: l2 (section VI.A), l0 (VI.B) and linf (VI.C)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Self

import torch
from torch import Tensor

from benchmark.api import Attack, Ball, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._base.active import Active
from ._base.best import Best
from ._base.classes import rival_logits
from ._base.losses import ce, margin
from ._base.settings import check_at_least, check_positive, check_share
from ._base.vectors import TINY, adam, columns, softplus, usable
from ._minimal.nearest import finish, keep_nearest
from ._minimal.nearest_class import ask_clean
from ._minimal.weights import STALLED, Tried, bounded, least

EDGE = 2e-3
"""Shrinkage of inputs towards the middle of the box, so that their inverse tanh is finite."""
UNDER = 0.1
"""linf: the first weight of the scores, as a share of that at which they pull as hard at a feature as its distance."""
GROWTH, FACTOR = {Norm.linf: 1e8, Norm.l0: 2e9}, {Norm.linf: 10.0, Norm.l0: 4.0}
"""The greatest weight of the scores that is tried, as a multiple of the first, and its growth after a failure."""
REFINED = 1e4
"""linf: the greatest weight once there is a success, as a multiple of the first."""
UNCHANGED, FROZEN = 1e-3, 0.3
"""l0: a change that is none, and how many features are frozen at once, as a share of the root of those changed."""
TAU_SHARE, LAST_SHARE = 0.9, 0.98
"""linf: the threshold after a success, as a share of the last, and the share above which nothing is tried."""
COARSE = 0.1
"""linf: the threshold below which steps get shorter in proportion to it."""


class CarliniWagnerLoss(Enum):
    """The paper's objectives, of which each is 0 or less only where the attacker succeeds (section IV.A).

    With F the probabilities, Z the logits, and t the label to reach: f1 = -log2 F_t - 1, f2 = (max F_i - F_t)+,
    f3 = softplus(max F_i - F_t) - log 2, f4 = (0.5 - F_t)+, f5 = -log(2 F_t), f6 = (max Z_i - Z_t)+, f7 =
    softplus(max Z_i - Z_t) - log 2, the maxima over i other than t. Untargeted, 1 - F_y takes the place of F_t in f1,
    f4 and f5, and the differences of f2, f3, f6 and f7 are taken from y to the greatest of the others. The signs of f1
    and f5 are those that make them objectives; as printed they are none.
    """

    f1 = "f1"
    f2 = "f2"
    f3 = "f3"
    f4 = "f4"
    f5 = "f5"
    f6 = "f6"
    f7 = "f7"

    def __call__(self, logits: Tensor, rows: Active) -> Tensor:
        """Objective to descend, (b,)."""
        return objective(self, rows.targeted, rows.y, rival_logits(logits, rows))


def objective(kind: CarliniWagnerLoss, targeted: bool, y: Tensor, logits: Tensor) -> Tensor:
    """Objective (b,) of the class to leave or to reach, `y` (b,); see :class:`CarliniWagnerLoss`."""
    in_logits = kind in (CarliniWagnerLoss.f6, CarliniWagnerLoss.f7)
    if in_logits or kind in (CarliniWagnerLoss.f2, CarliniWagnerLoss.f3):
        behind = -margin(logits if in_logits else logits.softmax(1), y, targeted=targeted)
        if kind in (CarliniWagnerLoss.f2, CarliniWagnerLoss.f6):
            return behind.clamp_min(0.0)
        return softplus(behind) - math.log(2.0)
    odds = -ce(logits, y) if targeted else ce(logits, y)  # log of P / (1 - P), P the probability of success
    if kind is CarliniWagnerLoss.f1:
        return softplus(-odds) / math.log(2.0) - 1.0
    if kind is CarliniWagnerLoss.f4:
        return (0.5 - 1.0 / (1.0 + (-odds).exp())).clamp_min(0.0)
    return softplus(-odds) - math.log(2.0)


@dataclass(frozen=True)
class CarliniWagner(Attack):
    """Adam on the distance plus c times an objective of the scores, in a variable whose tanh is the input.

    l2: the weight c of the objective is found by bisection. linf: the sum of what exceeds a threshold takes the place
    of the distance, and the threshold falls after every success. l0: features are frozen, those of the least effect
    first, until the others do not suffice.

    Differences from the paper: far fewer steps by default (the paper: 10000); under l2 each c goes on from where the
    one before it ended, an example whose objective has stopped falling goes on to its next c, and one that has settled
    ends early (`patience`; 1 is the paper's); the first c is found from the slope of the objective; under linf c grows
    tenfold and under l0 fourfold (the paper doubles it); under linf there is no least threshold (the paper: 1/256),
    steps get shorter with thresholds below a tenth, and a threshold that no c reaches is tried again between it and the
    nearest success, up to 0.98 of that; the nearest success is moved straight back towards the input as far as it stays
    one (`search_steps`, not under l0); l0 counts features, not pixels.

    steps: iterations for one c at most. searches: l2: number of weights c to try.
    initial_c: the first; None takes that at which a linear objective would come to 0 (the paper: 1e-3), and under linf
    one at which it pulls a tenth as hard at a feature as the threshold (1e-5).
    step_size: Adam's; None takes 0.02, under linf 0.01 (the paper: 0.01 and 0.005). loss: the objective.
    patience: l2: an example is left whose nearest success has not come nearer by a hundredth in that share of the
    `searches`; 1 leaves none.
    search_steps: forward passes of the final line search.
    """

    supports: ClassVar[Supports] = Supports(
        norms=frozenset({Norm.l2, Norm.linf, Norm.l0}), targeted=True, top5=True, minimal=True
    )

    steps: int = 1000
    searches: int = 9
    initial_c: float | None = None
    step_size: float | None = None
    loss: CarliniWagnerLoss = CarliniWagnerLoss.f6
    patience: float = 0.4
    search_steps: int = 8

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps, searches=self.searches)
        check_share(patience=self.patience)
        check_at_least(0, search_steps=self.search_steps)
        check_positive(initial_c=self.initial_c, step_size=self.step_size)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Nearest success found, at any distance; the clean input where there is none.

        Cost per example: a forward pass; `searches` * `steps` forward and backward passes at most under l2, and `steps`
        for each weight and threshold (or number of features) under linf and l0; the search.
        """
        every = Active.unbounded(target, x, y, threat, rng)
        best = Best(x)
        active = ask_clean(every, best)
        step_size = self.step_size or (0.01 if threat.norm is Norm.linf else 0.02)
        if threat.norm is Norm.l2:
            search_weight(active, best, self, step_size)
        else:
            tighten(active, best, loss=self.loss, steps=self.steps, initial_c=self.initial_c, step_size=step_size)
        return finish(every, best, search_steps=self.search_steps)


@dataclass
class _Curve(Tried):
    """w: (b, *S), x_adv = (bent + 1) / 2 where change is allowed. bent: its tanh. first, second: Adam's moments."""

    w: Tensor
    bent: Tensor
    first: Tensor
    second: Tensor

    @classmethod
    def start(cls, x: Tensor, searches: int, **own: Tensor) -> Self:
        """State at the clean inputs `x` (b, *S)."""
        bent = (2.0 * x - 1.0) * (1.0 - EDGE)
        w = (bent.log1p() - (-bent).log1p()) / 2.0  # the inverse of tanh
        zero = torch.zeros_like(x)
        return super().start(x, searches, w=w, bent=bent, first=zero, second=zero, **own)

    def onward(self, ball: Ball, gradient: Tensor, step: int | Tensor, step_size: float | Tensor) -> None:
        """Adam's step against `gradient` (b, *S), taken with respect to x_adv."""
        slope = gradient * (0.5 - 0.5 * self.bent.square())
        change, self.first, self.second = adam(slope, self.first, self.second, step)
        self.w = self.w - step_size * change
        self.bent = self.w.tanh()
        self.x_adv = ball.project((self.bent + 1.0) / 2.0)


def search_weight(active: Active, best: Best, how: CarliniWagner, step_size: float) -> None:
    """The l2 attack; successes are offered to `best`.

    Descend ||delta||^2 + c * objective for one weight c after the other, each from where the last one ended. An example
    ends when the weights of its patience in a row have brought the nearest success no nearer.
    """
    misses, every = max(round(how.patience * how.searches), 1), max(how.steps // 10, 1)
    rows, step = _Curve.start(active.ball.x, how.searches), 0
    while True:
        active, rows = active.keep(active.affordable(), rows)
        if len(active) == 0:
            break
        gradient, value, logits = active.descent(rows.x_adv, how.loss)
        gradient, delta = usable(gradient, active.ball), rows.x_adv - active.ball.x
        if step == 0:
            rows.c = rows.c + (least(gradient, value, logits) if how.initial_c is None else how.initial_c)
        rows.succeed(keep_nearest(best, active, rows.x_adv, logits))
        check = step % every == 0
        if check:
            done = rows.stalled(delta.square().flatten(1).sum(1) + rows.c * value, rows.count + every > how.steps)
        rows.onward(active.ball, 2.0 * delta + columns(rows.c, delta) * gradient, step, step_size)
        rows.count, step = rows.count + 1, step + 1
        if check and bool(done.any()):
            rows.next_weight(done, -best.value[active.index])
            active, rows = active.keep((rows.left > 0) & (rows.missed < misses), rows)


@dataclass
class _Trial(_Curve):
    """base: (b, *S), where `w` was at the last success. slope: (b, *S), the last gradient of the objective
    before that. tau, share: (b,), linf's threshold and what a success leaves of it. free: (b, *S) bool, what is not
    frozen. lower: (b,), the first weight.
    """

    base: Tensor
    slope: Tensor
    tau: Tensor
    share: Tensor
    free: Tensor

    def failed(self, total: Tensor, done: Tensor, *, every: int, steps: int) -> Tensor:
        """Count a step; rows not `done` (b,) bool whose objective `total` (b,) has stalled, or whose steps end."""
        check = self.count % every == 0
        self.count = self.count + 1
        failed = ~done & ((check & ~(total <= STALLED * self.last)) | (self.count >= steps))
        self.last = torch.where(check, total, self.last)
        return failed

    def finer(self, those: Tensor, size: Tensor) -> None:
        """Try thresholds nearer to the nearest success, of `size` (b,), in the rows `those` (b,) bool."""
        self.share = torch.where(those, self.share.sqrt(), self.share)
        self.tau = torch.where(those, self.share * size, self.tau)
        self.c = torch.where(those, self.lower, self.c)

    def restart(self, those: Tensor) -> None:
        """Restart from `base` where `those` (b,) bool is true."""
        far = columns(those, self.w)
        self.w = torch.where(far, self.base, self.w)
        self.bent = torch.where(far, self.base.tanh(), self.bent)
        self.first, self.second = self.first * ~far, self.second * ~far
        self.count = torch.where(those, 0, self.count)
        self.last = torch.where(those, torch.inf, self.last)

    def freeze(self, those: Tensor, delta: Tensor) -> None:
        """Freeze features in the rows `those` (b,) bool: unchanged ones, and some that changed to the least effect."""
        changed = self.free & (delta.abs() > UNCHANGED)
        effect = torch.where(changed, (self.slope * delta).abs(), torch.inf).flatten(1)
        count = (FROZEN * changed.flatten(1).sum(1).sqrt()).long().clamp_min(1)
        rank = effect.argsort(dim=1, stable=True).argsort(dim=1)
        kept = changed & (rank >= count[:, None]).reshape(changed.shape)
        self.free = torch.where(columns(those, delta), kept, self.free)


def tighten(
    active: Active, best: Best, *, loss: CarliniWagnerLoss, steps: int, initial_c: float | None, step_size: float
) -> None:
    """The linf and l0 attacks; successes are offered to `best`.

    After a success the threshold falls or features are frozen, and the row goes on from there; after a failure the
    weight c grows, and the row starts again from its last success, or goes on if there was none. Where no weight
    reaches a threshold, it falls by less.
    """
    x, mask, norm, linf = active.ball.x, active.ball.mask, active.ball.norm, active.ball.norm is Norm.linf
    start = _Curve.start(x, 1)
    free = torch.ones_like(x, dtype=torch.bool) if mask is None else mask.expand(x.shape)
    slope, tau = torch.zeros_like(x), torch.ones_like(start.c)
    rows, first = _Trial(**vars(start), base=start.w, slope=slope, tau=tau, share=TAU_SHARE * tau, free=free), True
    every = max(steps // 10, 1)
    while True:
        active, rows = active.keep(active.affordable(), rows)
        if linf:
            rows.finer(best.won[active.index] & (rows.c > rows.upper), -best.value[active.index])
        left = (rows.c <= rows.upper) & (rows.share <= LAST_SHARE) & rows.free.flatten(1).any(1)
        active, rows = active.keep(left, rows)
        if len(active) == 0:
            break
        gradient, value, logits = active.descent(rows.x_adv, loss)
        gradient, ball = usable(gradient, active.ball), active.ball
        if first:
            pulling = bounded(UNDER / gradient.flatten(1).abs().amax(1).clamp_min(TINY), logits)
            weight = pulling if linf else least(gradient, value, logits)
            rows.c = weight if initial_c is None else torch.full_like(weight, initial_c)
            rows.lower, rows.upper, first = rows.c, GROWTH[norm] * rows.c, False
        delta = rows.x_adv - ball.x
        far = delta.abs().flatten(1).amax(1)
        done = keep_nearest(best, active, rows.x_adv, logits)
        rows.slope = torch.where(columns(value > 0, delta), gradient, rows.slope)
        if linf:
            rows.upper = torch.where(done, (REFINED * rows.lower).maximum(rows.c), rows.upper)
            done = done & (far <= rows.tau * (1.0 + 1.0 / rows.share) / 2.0)
            over = (delta.abs() - columns(rows.tau, delta)).clamp_min(0.0)
            size, push = over.flatten(1).sum(1), delta.sign() * (over > 0)
            rows.tau = torch.where(done, rows.share * torch.minimum(rows.tau, far), rows.tau)
        else:
            size, push = delta.square().flatten(1).sum(1), 2.0 * delta
            rows.freeze(done, delta)
        failed = rows.failed(size + rows.c * value, done, every=every, steps=steps)
        onward = done | (failed & torch.isinf(-best.value[active.index]))
        rows.base = torch.where(columns(onward, delta), rows.w, rows.base)
        rows.c = torch.where(failed, FACTOR[norm] * rows.c, rows.c)
        rows.restart(done | failed)
        going = columns(~(done | failed), delta)
        push = torch.where(going, push + columns(rows.c, delta) * gradient, 0.0)
        pace = step_size * columns((rows.tau / COARSE).clamp_max(1.0), delta)
        rows.onward(ball, push, columns((rows.count - 1).clamp_min(0), delta), pace)
        rows.x_adv = torch.where(rows.free, rows.x_adv, ball.x)


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return CarliniWagner
