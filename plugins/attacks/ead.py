"""EAD: elastic-net attacks. Chen et al., AAAI 2018, arXiv:1709.04114, algorithm 1."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from benchmark import hookimpl
from benchmark.api import Attack, Supports
from benchmark.ball import Ball
from benchmark.sampling import SampleRandom
from benchmark.target import Target
from benchmark.threat import Norm, Threat

from ._minimal import Nearest
from ._steps import at_least, positive
from ._vectors import columns, nearer
from ._weights import Tried, ask_clean, search_weight
from .carlini_wagner import CarliniWagnerLoss, objective


@dataclass(frozen=True)
class EAD(Attack):
    """Accelerated proximal descent (FISTA) on ||delta||_2^2 + a ||delta||_1 + c * objective, in the box.

    The objective is that of Carlini & Wagner, and its weight c is found by bisection. Of all successes the nearest in
    l1 is kept.

    Differences from the paper: fewer steps by default; each c goes on from where the one before it ended, and an
    example whose objective has stopped falling goes on to its next c; success is looked for at the points where
    gradients are taken, which saves a forward pass per step; the nearest success is moved straight back towards the
    input as far as it stays one (`search_steps`).

    steps: iterations for one c at most. searches: how many c are tried.
    initial_c: the first; None takes that at which a linear objective would come to 0 under l2 (the paper: 1e-3).
    step_size: of the first step; the steps fall with the square root of what is left of them.
    beta: by how much every step shrinks each change, a times the step size. loss: the objective.
    search_steps: forward passes for the way back.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.l1}), targeted=True, minimal=True)

    steps: int = 500
    searches: int = 9
    initial_c: float | None = None
    step_size: float = 0.01
    beta: float = 0.03
    loss: CarliniWagnerLoss = CarliniWagnerLoss.f6
    search_steps: int = 8

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps, searches=self.searches)
        at_least(0, search_steps=self.search_steps)
        positive(initial_c=self.initial_c, step_size=self.step_size, beta=self.beta)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """The nearest success found, at whatever distance; the clean input where there is none.

        Cost per example: a forward pass, `searches` * `steps` forward and backward passes at most, and the search.
        """
        nearest = Nearest(threat.unbounded().around(x, rng), y, targeted=threat.targeted)
        index = ask_clean(target, nearest)
        search_weight(
            target,
            nearest,
            _Accelerated(**_Accelerated.at(index, x[index], self.searches), before=x[index]),
            steps=self.steps,
            initial_c=self.initial_c,
            objective=partial(objective, self.loss, threat.targeted),
            size=partial(elastic, beta=self.beta / self.step_size),
            move=partial(_Accelerated.onward, steps=self.steps, step_size=self.step_size, beta=self.beta),
        )
        return nearest.found(target, search_steps=self.search_steps)


def elastic(delta: Tensor, beta: float) -> Tensor:
    """(b,): the squared l2 length of `delta` (b, *S) plus `beta` times its l1 norm."""
    flat = delta.flatten(1)
    return flat.square().sum(1) + beta * flat.abs().sum(1)


@dataclass
class _Accelerated(Tried):
    """before: (b, *S), the last proximal point; `x_adv` is ahead of it by the momentum."""

    before: Tensor

    def onward(
        self, ball: Ball, gradient: Tensor, delta: Tensor, _: int, *, steps: int, step_size: float, beta: float
    ) -> None:
        """A proximal step (equations 4 and 5), and the momentum of FISTA, from the beginning for every weight."""
        step = self.count.to(delta.dtype)
        length = step_size * (1.0 - step / steps).sqrt()
        delta = delta - columns(length, delta) * gradient
        point = ball.project(ball.x + nearer(delta, torch.full_like(self.c, beta), Norm.l1))
        self.x_adv = ball.project(point + columns(step / (step + 3.0), point) * (point - self.before))
        self.before = point


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return EAD
