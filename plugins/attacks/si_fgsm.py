"""SI-FGSM: scale-invariant gradients. Lin et al., ICLR 2020, arXiv:1908.06281, section 3.2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import EVERY_TASK, Attack, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._ascent.transfer import Slope, ascend_with_momentum
from ._base.active import Active, AttackLoss, Loss
from ._base.settings import check_at_least, check_positive


@dataclass(frozen=True)
class SIFGSM(Attack):
    """Averages the gradients, with respect to x, of the losses at x, x / 2, x / 4 and so on.

    steps: iterations. step_size: length of a step in the threat's norm; None for eps / steps.
    momentum: decay of the accumulated gradients. loss: to maximise.
    copies: number of copies, the first of which is x itself; 5 in the paper.
    """

    tasks: ClassVar[frozenset[str]] = EVERY_TASK
    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.linf, Norm.l2}), targeted=True)

    steps: int = 10
    step_size: float | None = None
    momentum: float = 1.0
    loss: AttackLoss = AttackLoss.ce
    copies: int = 5

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps, copies=self.copies)
        check_positive(step_size=self.step_size)
        check_at_least(0, momentum=self.momentum)

    def forwards(self, threat: Threat) -> int:
        """One per step and copy."""
        return self.steps * self.copies

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """`steps` * `copies` forward and backward passes per example."""
        return ascend_with_momentum(
            Active.of(target, threat.around(x, rng), y, targeted=threat.targeted),
            loss=self.loss,
            steps=self.steps,
            step_size=self.step_size or threat.radius / self.steps,
            momentum=self.momentum,
            slope=scaled(self.copies, self.loss),
            passes=self.copies,
        )


def scaled(copies: int, loss: Loss) -> Slope:
    """Mean over the copies of the gradient at x / 2^i, times 1 / 2^i by the chain rule."""

    def slope(active: Active, x_adv: Tensor, velocity: Tensor, step: int) -> Tensor:
        total = torch.zeros_like(x_adv)
        for copy in range(copies):
            total = total + active.gradient(x_adv * 0.5**copy, loss)[0] * 0.5**copy
        return total / copies

    return slope


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return SIFGSM
