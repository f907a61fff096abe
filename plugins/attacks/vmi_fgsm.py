"""VMI-FGSM: momentum with variance tuning. Wang & He, CVPR 2021, arXiv:2103.15571, algorithm 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import EVERY_TASK, Attack, Ball, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._ascent.transfer import Tuning, ascend_with_momentum
from ._base.active import Active, AttackLoss
from ._base.settings import check_at_least, check_positive
from ._base.vectors import columns

SURE = -20.0
"""Lower bound on the log-odds of the other classes, below which the gradient of the cross-entropy vanishes."""


@dataclass(frozen=True)
class VMIFGSM(Attack):
    """Corrects each gradient by the previous step's difference between the neighbourhood's mean gradient and its own.

    Difference from the paper: neighbours are uniform in the ball of the threat's norm, and lie in the box and region.
    Under `ce`, gradients are those of the cross-entropy itself, so that neighbours nearer to being broken weigh more.

    steps: iterations. step_size: length of a step in the threat's norm; None for eps / steps.
    momentum: decay of the accumulated gradients. loss: to maximise.
    neighbours: number drawn per step. spread: radius of the neighbourhood in units of eps.
    """

    tasks: ClassVar[frozenset[str]] = EVERY_TASK
    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.linf, Norm.l2}), targeted=True, randomized=True)

    steps: int = 10
    step_size: float | None = None
    momentum: float = 1.0
    loss: AttackLoss = AttackLoss.ce
    neighbours: int = 20
    spread: float = 1.5

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps, neighbours=self.neighbours)
        check_positive(step_size=self.step_size)
        check_at_least(0, momentum=self.momentum, spread=self.spread)

    def forwards(self, threat: Threat) -> int:
        """One per step, and one per neighbour."""
        return self.steps * (1 + self.neighbours)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """`steps` * (1 + `neighbours`) forward and backward passes per example."""
        return ascend_with_momentum(
            Active.of(target, threat.around(x, rng), y, targeted=threat.targeted),
            loss=self.loss,
            steps=self.steps,
            step_size=self.step_size or threat.radius / self.steps,
            momentum=self.momentum,
            slope=lambda active, x_adv, velocity, step: slope_at(active, x_adv, self.loss),
            tuning=variance(self.neighbours, self.spread, self.loss, rng),
            passes=1 + self.neighbours,
        )


def slope_at(active: Active, x: Tensor, loss: AttackLoss) -> Tensor:
    """Gradient of the loss at `x` (B, *S), for `ce` that of the cross-entropy itself, (B, *S)."""
    gradient, odds, _ = active.gradient(x, loss)
    if loss is not AttackLoss.ce:
        return gradient
    odds = (-odds if active.targeted else odds).clamp_min(SURE)
    return gradient * columns(1.0 / (1.0 + (-odds).exp()), gradient)  # times 1 - p_y


def variance(neighbours: int, spread: float, loss: AttackLoss, rng: SampleRandom) -> Tuning:
    """Mean gradient of the neighbours minus the gradient (equation 4)."""

    def tuning(active: Active, x_adv: Tensor, gradient: Tensor, step: int) -> Tensor:
        around = Ball(x_adv, active.ball.norm, spread * active.ball.eps, active.ball.mask)
        total, mine = torch.zeros_like(x_adv), rng.rows(active.index)
        for which in range(neighbours):
            near = around.random(mine, stream="vmi_fgsm", draw=step * neighbours + which)
            total = total + (slope_at(active, near, loss) - gradient)
        return total / neighbours

    return tuning


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return VMIFGSM
