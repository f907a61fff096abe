"""EAD: elastic-net attacks. Chen et al., AAAI 2018, arXiv:1709.04114, algorithm 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import softshrink

from benchmark.api import Attack, Ball, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._base.active import Active
from ._base.best import Best
from ._base.settings import check_at_least, check_positive, check_share
from ._base.vectors import TINY, columns, usable
from ._minimal.nearest import finish, keep_nearest
from ._minimal.nearest_class import ask_clean
from ._minimal.weights import Tried, bounded
from .carlini_wagner import CarliniWagnerLoss

AMPLE = 1.5
"""The first weight as a multiple of what a linear objective takes without a box."""


@dataclass(frozen=True)
class EAD(Attack):
    """Accelerated proximal descent (FISTA) on ||delta||_2^2 + a ||delta||_1 + c * objective, in the box.

    The objective is that of Carlini & Wagner, and its weight c is found by bisection. Of all successes the nearest in
    l1 is kept.

    Differences from the paper: fewer steps by default; each c goes on from where the one before it ended, an example
    whose objective has stopped falling goes on to its next c, and one that has settled is left (`patience`; 1 is the
    paper's); the first step of all goes to where everything would be least if the objective were linear; success is
    looked for at the points where gradients are taken, which saves a forward pass per step; the nearest success is
    moved straight back towards the input as far as it stays one (`search_steps`).

    steps: iterations for one c at most. searches: number of weights c to try.
    initial_c: the first; None takes half as much again as brings a linear objective to 0 (the paper: 1e-3).
    step_size: of the first step with each c; the steps fall with the square root of what is left of them.
    beta: shrinkage of each change in every step, a times the step size. loss: the objective.
    patience: an example is left whose nearest success has not come nearer by a hundredth in that share of the
    `searches`; 1 leaves none.
    search_steps: forward passes of the final line search.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.l1}), targeted=True, minimal=True)

    steps: int = 500
    searches: int = 9
    initial_c: float | None = None
    step_size: float = 0.01
    beta: float = 0.03
    loss: CarliniWagnerLoss = CarliniWagnerLoss.f6
    patience: float = 0.2
    search_steps: int = 8

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps, searches=self.searches)
        check_share(patience=self.patience)
        check_at_least(0, search_steps=self.search_steps)
        check_positive(initial_c=self.initial_c, step_size=self.step_size, beta=self.beta)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Nearest success found, at any distance; the clean input where there is none.

        Cost per example: a forward pass, `searches` * `steps` forward and backward passes at most, and the search.
        """
        every = Active.unbounded(target, x, y, threat, rng)
        best = Best(x)
        ead(
            ask_clean(every, best),
            best,
            loss=self.loss,
            steps=self.steps,
            searches=self.searches,
            initial_c=self.initial_c,
            step_size=self.step_size,
            beta=self.beta,
            misses=max(round(self.patience * self.searches), 1),
        )
        return finish(every, best, search_steps=self.search_steps)


def ead(
    active: Active,
    best: Best,
    *,
    loss: CarliniWagnerLoss,
    steps: int,
    searches: int,
    initial_c: float | None,
    step_size: float,
    beta: float,
    misses: int,
) -> None:
    """Algorithm 1 for one weight c after the other, each from where the last one ended; see :class:`EAD`.

    Successes are offered to `best`. misses: weights in a row without a nearer success that end an example.
    """
    rows, every = _Accelerated.start(active.ball.x, searches, before=active.ball.x), max(steps // 15, 1)
    step, a = 0, beta / step_size
    while True:
        active, rows = active.keep(active.affordable(), rows)
        if len(active) == 0:
            break
        gradient, value, logits = active.descent(rows.x_adv, loss)
        gradient, delta = usable(gradient, active.ball), rows.x_adv - active.ball.x
        if step == 0:
            rows.c = rows.c + (ample(gradient, value, logits, beta=a) if initial_c is None else initial_c)
        rows.succeed(keep_nearest(best, active, rows.x_adv, logits))
        check = step % every == 0
        if check:
            done = rows.stalled(elastic(delta, a) + rows.c * value, rows.count + every > steps)
        slope = 2.0 * delta + columns(rows.c, delta) * gradient
        if step == 0:  # a gradient step for the curvature 2 of the squared distance
            rows.x_adv = rows.before = active.ball.project(active.ball.x + softshrink(-slope / 2.0, a / 2.0))
        else:
            rows.onward(active.ball, slope, share=rows.count.to(delta.dtype) / steps, step_size=step_size, beta=beta)
        rows.count, step = rows.count + 1, step + 1
        if check and bool(done.any()):
            rows.next_weight(done, -best.value[active.index])
            active, rows = active.keep((rows.left > 0) & (rows.missed < misses), rows)


def elastic(delta: Tensor, beta: float) -> Tensor:
    """The squared l2 length of `delta` (b, *S) plus `beta` times its l1 norm, (b,)."""
    flat = delta.flatten(1)
    return flat.square().sum(1) + beta * flat.abs().sum(1)


def ample(gradient: Tensor, value: Tensor, logits: Tensor, *, beta: float) -> Tensor:
    """(b,): AMPLE times the c at which :func:`elastic` + c * objective is least where the objective is 0, if linear.

    There each change is (c |slope| - beta)+ / 2, and what they gain is convex in c: of the lines through the features
    of the steepest slopes, few or many, the one that comes to `value` first.

    gradient: (b, *S) of the objective at the clean inputs. value: (b,), the objective there; logits: (b, K).
    """
    steep = gradient.flatten(1).abs().sort(dim=1, descending=True).values
    top = steep[:, :1].clamp_min(TINY)  # squares of slopes of small scores would be lost
    share = steep / top
    need = 2.0 * value.abs()[:, None] / top + beta * share.cumsum(1)
    c = (need / share.square().cumsum(1).clamp_min(TINY)).amin(1) / top[:, 0]
    return bounded(AMPLE * c, logits)


@dataclass
class _Accelerated(Tried):
    """before: (b, *S), the last proximal point; `x_adv` is ahead of it by the momentum."""

    before: Tensor

    def onward(self, ball: Ball, slope: Tensor, *, share: Tensor, step_size: float, beta: float) -> None:
        """A proximal step (equations 4 and 5), and the momentum of FISTA, from the beginning for every weight.

        share: (b,), of the steps with this weight, those made.
        """
        delta = self.x_adv - ball.x
        length, step = step_size * (1.0 - share).sqrt(), self.count.to(delta.dtype)
        point = ball.project(ball.x + softshrink(delta - columns(length, delta) * slope, beta))
        self.x_adv = ball.project(point + columns(step / (step + 3.0), point) * (point - self.before))
        self.before = point


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return EAD
