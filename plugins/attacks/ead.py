"""EAD: elastic-net attacks. Chen et al., AAAI 2018, arXiv:1709.04114, algorithm 1."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import softshrink

from benchmark.api import Attack, Ball, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._base.active import Active
from ._base.best import Best
from ._base.settings import check_at_least, check_positive, check_share
from ._base.vectors import TINY, columns
from ._minimal.nearest import finish
from ._minimal.weights import FIRST, Tried, ask_clean, misses, search_weight
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

    steps: iterations for one c at most. searches: how many c are tried.
    initial_c: the first; None takes half as much again as brings a linear objective to 0 (the paper: 1e-3).
    step_size: of the first step with each c; the steps fall with the square root of what is left of them.
    beta: by how much every step shrinks each change, a times the step size. loss: the objective.
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
        active = ask_clean(every, best)
        search_weight(
            active,
            best,
            _Accelerated(**_Accelerated.at(active.ball.x, self.searches), before=active.ball.x),
            steps=self.steps,
            every=max(self.steps // 15, 1),
            misses=misses(self.patience, self.searches),
            initial_c=self.initial_c,
            likely_c=partial(ample, beta=self.beta / self.step_size),
            objective=self.loss,
            size=partial(elastic, beta=self.beta / self.step_size),
            move=partial(_Accelerated.onward, steps=self.steps, step_size=self.step_size, beta=self.beta),
        )
        return finish(every, best, search_steps=self.search_steps)


def elastic(delta: Tensor, beta: float) -> Tensor:
    """The squared l2 length of `delta` (b, *S) plus `beta` times its l1 norm, (b,)."""
    flat = delta.flatten(1)
    return flat.square().sum(1) + beta * flat.abs().sum(1)


def ample(gradient: Tensor, value: Tensor, *, beta: float) -> Tensor:
    """(b,): AMPLE times the c at which :func:`elastic` + c * objective is least where the objective is 0, if linear.

    There each change is (c |slope| - beta)+ / 2, and what they gain is convex in c: of the lines through the features
    of the steepest slopes, few or many, the one that comes to `value` first.

    gradient: (b, *S) of the objective at the clean inputs. value: (b,), the objective there.
    """
    steep = gradient.flatten(1).abs().sort(dim=1, descending=True).values
    need = 2.0 * value.abs()[:, None] + beta * steep.cumsum(1)
    c = (need / steep.square().cumsum(1).clamp_min(TINY)).amin(1)
    return (AMPLE * c).nan_to_num(nan=1.0).clamp(*FIRST)


@dataclass
class _Accelerated(Tried):
    """before: (b, *S), the last proximal point; `x_adv` is ahead of it by the momentum."""

    before: Tensor

    def onward(
        self, ball: Ball, gradient: Tensor, delta: Tensor, before: int, *, steps: int, step_size: float, beta: float
    ) -> None:
        """A proximal step (equations 4 and 5), and the momentum of FISTA, from the beginning for every weight."""
        if before == 0:  # a gradient step for the curvature 2 of the squared distance
            self.x_adv = self.before = ball.project(ball.x + softshrink(-gradient / 2.0, beta / step_size / 2.0))
            return
        step = self.count.to(delta.dtype)
        length = step_size * (1.0 - step / steps).sqrt()
        delta = delta - columns(length, delta) * gradient
        point = ball.project(ball.x + softshrink(delta, beta))
        self.x_adv = ball.project(point + columns(step / (step + 3.0), point) * (point - self.before))
        self.before = point


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return EAD
