"""MI-FGSM: iterative FGSM with momentum. Dong et al., CVPR 2018, arXiv:1710.06081, algorithm 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from benchmark.api import EVERY_TASK, Attack, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._ascent.transfer import ascend_with_momentum
from ._base.active import Active, AttackLoss
from ._base.settings import check_at_least, check_positive


@dataclass(frozen=True)
class MIFGSM(Attack):
    """Steps along the decayed sum of the normalised gradients.

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
        return ascend_with_momentum(
            Active.of(target, threat.around(x, rng), y, targeted=threat.targeted),
            loss=self.loss,
            steps=self.steps,
            step_size=self.step_size or threat.radius / self.steps,
            momentum=self.momentum,
        )


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return MIFGSM
