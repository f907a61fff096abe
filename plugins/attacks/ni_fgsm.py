"""NI-FGSM: iterative FGSM with Nesterov momentum. Lin et al., ICLR 2020, arXiv:1908.06281, section 3.1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from benchmark.api import EVERY_TASK, Attack, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._ascent.transfer import Slope, ascend_with_momentum
from ._base.active import Active, AttackLoss, Loss
from ._base.settings import check_at_least, check_positive


@dataclass(frozen=True)
class NIFGSM(Attack):
    """Takes the gradient at the look-ahead point, momentum * step_size * velocity from the current point.

    steps: iterations. step_size: length of a step in the threat's norm; None for eps / steps.
    momentum: decay of the accumulated gradients. loss: to maximise.
    """

    tasks: ClassVar[frozenset[str]] = EVERY_TASK
    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.linf, Norm.l2}), targeted=True, top5=True)

    steps: int = 10
    step_size: float | None = None
    momentum: float = 1.0
    loss: AttackLoss = AttackLoss.ce

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps)
        check_positive(step_size=self.step_size)
        check_at_least(0, momentum=self.momentum)

    def forwards(self, threat: Threat) -> int:
        """One per step."""
        return self.steps

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """`steps` forward and backward passes per example."""
        step_size = self.step_size or threat.radius / self.steps
        return ascend_with_momentum(
            Active.of(target, threat.around(x, rng), y, targeted=threat.targeted),
            loss=self.loss,
            steps=self.steps,
            step_size=step_size,
            momentum=self.momentum,
            slope=ahead(step_size * self.momentum, self.loss),
        )


def ahead(length: float, loss: Loss) -> Slope:
    """Gradient at `length` velocities from the current point, in the box."""

    def slope(active: Active, x_adv: Tensor, velocity: Tensor, step: int) -> Tensor:
        return active.gradient((x_adv + length * velocity).clamp(0.0, 1.0), loss)[0]

    return slope


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return NIFGSM
