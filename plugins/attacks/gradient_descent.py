"""Gradient descent on the input with a distance penalty. The loss and penalty of Szegedy et al., ICLR 2014.

arXiv:1312.6199, section 4.1, minimised with fixed steps instead of L-BFGS.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Attack, Ball, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._ascent.descent import DescentLoss
from ._base.active import Active
from ._base.best import Best
from ._base.settings import check_at_least, check_positive
from ._base.vectors import TINY, annealed, columns, unit, usable
from ._minimal.nearest import finish, keep_nearest

LAST_STEP = 0.01
"""Ratio of the last step size to the first."""
HEAVIER = 2.0
"""Growth factor of the detectors' weight in the loss, applied if the classifier is fooled but the input is refused."""

NEARER = 0.5
"""Longest step relative to the distance of the nearest success; smallest penalty times that distance."""


@dataclass(frozen=True)
class GradientDescent(Attack):
    """x moves by -step_size * (gradient of the loss + penalty * (x - x_0)), from the clean input x_0, in the box.

    Differences from plain descent: the gradient is normalised, so that the scale of the scores does not matter, and is
    used until success only; step sizes decrease along a cosine; the step of the penalty is implicit, which has the same
    fixed points and converges for every penalty; after a success, steps and penalty follow the distance of the nearest
    success; the nearest successful iterate is kept instead of the last, and moved back towards the input by a line
    search.

    steps: iterations. step_size: of the first, in l2. penalty: weight of ||x - x_0||^2 / 2; limits the distance to
    1 / penalty.
    loss: of the target label, or of the true label to leave. search_steps: forward passes of the final line search.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.l2}), targeted=True, minimal=True)

    steps: int = 100
    step_size: float = 0.2
    penalty: float = 0.15
    loss: DescentLoss = DescentLoss.scaled
    search_steps: int = 8

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps)
        check_positive(step_size=self.step_size)
        check_at_least(0, penalty=self.penalty, search_steps=self.search_steps)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """At most `steps` forward and backward passes per example plus the line search; one each if wrong already."""
        active = every = Active.unbounded(target, x, y, threat, rng)
        best, x_adv, weight = Best(x), x, torch.ones_like(x.flatten(1)[:, 0])
        for at in range(self.steps):
            active, x_adv, weight = active.keep(active.affordable(), x_adv, weight)
            if len(active) == 0:
                break
            gradient, _, logits = active.descent(x_adv, self.loss)
            won, ball = keep_nearest(best, active, x_adv, logits), active.ball
            if target.detected:  # what is fooled and refused counts the detectors' excess for more
                weight = torch.where(active.fooled(logits) & ~won, HEAVIER * weight, weight)
            length = annealed(self.step_size, LAST_STEP * self.step_size, at, self.steps)
            push = torch.where(columns(won, x_adv), 0.0, unit(usable(gradient, ball)))
            far = columns(-best.value[active.index], x_adv).clamp_min(TINY)
            penalty = (NEARER / far).clamp_min(self.penalty)
            x_adv = step(x_adv, push, ball, (NEARER * far).clamp_max(length), penalty)
            active, x_adv, weight = active.keep(~won if at == 0 else None, x_adv, weight)
            if target.detected:
                active = dataclasses.replace(active, target=active.target.tuned(penalty=weight))
        return finish(every, best, search_steps=self.search_steps)


def step(x_adv: Tensor, gradient: Tensor, ball: Ball, step_size: Tensor, penalty: Tensor) -> Tensor:
    """Minimiser of <gradient, x> + penalty ||x - x_0||^2 / 2 + ||x - x_adv||^2 / (2 step_size), projected, (b, *S).

    x_0 is the centre of `ball`. A fixed point where gradient + penalty * (x - x_0) = 0.
    """
    pull = step_size * penalty
    return ball.project((x_adv - step_size * gradient + pull * ball.x) / (1.0 + pull))


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return GradientDescent
