"""VMI-FGSM: momentum with variance tuning. Wang & He, CVPR 2021, arXiv:2103.15571, algorithm 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Attack, Ball, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._ascent.transfer import Asked, Tuning, ascend_with_momentum, not_negative
from ._base.losses import AttackLoss, row_loss
from ._base.steps import at_least, positive
from ._base.vectors import columns

SURE = -20.0
"""Log-odds of the other classes below which inputs count alike: the gradient of the cross-entropy is lost there."""


@dataclass(frozen=True)
class VMIFGSM(Attack):
    """Corrects each gradient by how far, a step before, the mean gradient of the neighbourhood was from it.

    Difference from the paper: neighbours are uniform in the ball of the threat's norm, and lie in the box and region.
    Slopes under the cross-entropy are those of the cross-entropy itself here, as neighbours that are nearer to being
    broken count for more.

    steps: iterations. step_size: length of a step in the threat's norm; None takes eps / steps.
    momentum: decay of the sum of slopes. loss: what is ascended.
    neighbours: how many are drawn in a step. spread: radius of the neighbourhood in units of eps.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.linf, Norm.l2}), targeted=True, randomized=True)

    steps: int = 10
    step_size: float | None = None
    momentum: float = 1.0
    loss: AttackLoss = AttackLoss.ce
    neighbours: int = 20
    spread: float = 1.5

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps, neighbours=self.neighbours)
        positive(step_size=self.step_size)
        not_negative(momentum=self.momentum, spread=self.spread)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """`steps` * (1 + `neighbours`) forward and backward passes per example."""
        return ascend_with_momentum(
            Asked(target, threat.around(x, rng), y, rng, self.loss, threat.targeted),
            steps=self.steps,
            step_size=self.step_size or threat.radius / self.steps,
            momentum=self.momentum,
            slope=lambda asked, x_adv, velocity, step: slope_at(asked, x_adv),
            tuning=variance(self.neighbours, self.spread),
            passes=1 + self.neighbours,
        )


def slope_at(asked: Asked, x: Tensor) -> Tensor:
    """(B, *S): the gradient of the loss at `x` (B, *S), for `ce` of `_losses` that of the cross-entropy itself."""
    gradient, odds, _ = asked.target.gradient(x, row_loss(asked.loss, asked.y, targeted=asked.targeted))
    if asked.loss is not AttackLoss.ce:
        return gradient
    odds = (-odds if asked.targeted else odds).clamp_min(SURE)
    return gradient * columns(1.0 / (1.0 + (-odds).exp()), gradient)  # times 1 - p_y


def variance(neighbours: int, spread: float) -> Tuning:
    """The mean gradient of neighbours less the gradient: equation 4 of the paper."""

    def tuning(asked: Asked, x_adv: Tensor, gradient: Tensor, step: int) -> Tensor:
        around = Ball(x_adv, asked.ball.norm, spread * asked.ball.eps, asked.ball.mask)
        total = torch.zeros_like(x_adv)
        for which in range(neighbours):
            near = around.random(asked.rng, stream="vmi_fgsm", draw=step * neighbours + which)
            total = total + (slope_at(asked, near) - gradient)
        return total / neighbours

    return tuning


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return VMIFGSM
