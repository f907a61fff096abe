"""Gradient descent on the input, held near where it began. The loss and penalty of Szegedy et al., ICLR 2014.

arXiv:1312.6199, section 4.1, descended by fixed steps instead of L-BFGS: the attack of two lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Attack, Ball, Norm, RowLoss, SampleRandom, Supports, Target, Threat, hookimpl

from ._ascent.descent import DescentLoss, falling
from ._ascent.transfer import not_negative
from ._base.steps import at_least, positive
from ._minimal.minimal import Asked, Nearest, Rows, descend


@dataclass(frozen=True)
class GradientDescent(Attack):
    """x moves by -step_size * (gradient of the loss + penalty * (x - x_0)), from the clean input x_0, in the box.

    Differences from the two lines: the step of the penalty is the implicit one, which has the same fixed points and
    converges for every penalty; and the nearest iterate that succeeds is kept, not the last.

    steps: iterations. step_size: by what the gradient is multiplied. penalty: weight of ||x - x_0||^2 / 2.
    loss: towards the label to reach, or away from the one to leave.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.l2}), targeted=True, minimal=True)

    steps: int = 100
    step_size: float = 1.0
    penalty: float = 0.03
    loss: DescentLoss = DescentLoss.squared

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps)
        positive(step_size=self.step_size)
        not_negative(penalty=self.penalty)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """`steps` forward and backward passes per example, one each where the clean input succeeds."""
        nearest = Nearest(threat.unbounded().around(x, rng), y, targeted=threat.targeted)
        rows = Rows(torch.arange(len(y), device=y.device), x)

        def loss(logits: Tensor, labels: Tensor, _: Tensor | None) -> Tensor:
            value: RowLoss = falling(self.loss, labels, targeted=threat.targeted)
            return value(logits)

        def move(rows: Rows, asked: Asked, _: int) -> Rows:
            return Rows(rows.index, step(rows.x_adv, asked.gradient, asked.ball, self.step_size, self.penalty))

        descend(target, rows, nearest, steps=self.steps, loss=lambda _: loss, move=move)
        return nearest.x_adv


def step(x_adv: Tensor, gradient: Tensor, ball: Ball, step_size: float, penalty: float) -> Tensor:
    """(b, *S): the minimiser of <gradient, x> + penalty ||x - x_0||^2 / 2 + ||x - x_adv||^2 / (2 step_size), projected.

    x_0 is the middle of `ball`. It stays where gradient + penalty * (x - x_0) = 0.
    """
    pull = step_size * penalty
    return ball.project((x_adv - step_size * gradient + pull * ball.x) / (1.0 + pull))


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return GradientDescent
