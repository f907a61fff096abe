"""FGSM: the fast gradient sign method. Goodfellow, Shlens & Szegedy, ICLR 2015, arXiv:1412.6572, section 4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from benchmark.api import EVERY_TASK, Attack, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._base.active import Active, AttackLoss
from .pgd import ascend


@dataclass(frozen=True)
class FGSM(Attack):
    """One step of length eps along the steepest direction of the loss, then clipped to the box.

    linf: the sign of the gradient. l2: the normalised gradient. l1: the features of largest gradient, one after the
    other to the end of the box until eps is used up. Under a targeted threat the loss of the target label is minimised.

    loss: to maximise; the paper's is the cross-entropy.
    """

    tasks: ClassVar[frozenset[str]] = EVERY_TASK
    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.linf, Norm.l2, Norm.l1}), targeted=True, top5=True)

    loss: AttackLoss = AttackLoss.ce

    def forwards(self, threat: Threat) -> int:
        """One, for the gradient."""
        return 1

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """One forward and one backward pass per example."""
        return ascend(
            Active.of(target, threat.around(x, rng), y, targeted=threat.targeted),
            x,
            loss=self.loss,
            steps=1,
            step_size=threat.radius,
            settle=False,
        )[0]


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return FGSM
