"""BIM: the basic iterative method, or iterative FGSM.

Kurakin, Goodfellow & Bengio, ICLR 2017 workshop, arXiv:1607.02533, section 2.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from benchmark.api import EVERY_TASK, Attack, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._base.active import Active, AttackLoss, may_settle
from ._base.settings import check_at_least, check_positive
from .pgd import ascend


def kurakin_steps(eps: float) -> int:
    """The paper's number of iterations, min(eps + 4, 1.25 eps) with eps in units of 1/255, rounded down, at least 1.

    Args:
        eps: linf radius in units of the [0, 1] input range.
    """
    levels = round(eps * 255.0, 6)
    return max(1, int(min(levels + 4.0, 1.25 * levels)))


@dataclass(frozen=True)
class BIM(Attack):
    """Steepest-ascent steps from the clean input, each followed by the projection into ball and box.

    Differences from the paper: l2 and l1 are supported; the default step size is proportional to eps, while the paper
    uses 1/255, which gives a total of 1.25 eps up to eps = 16/255; an example stops at its first success.

    steps: iterations; None for :func:`kurakin_steps` of the radius under linf, and 10 under other norms.
    step_size: length of a step in the threat's norm; None for 1.25 eps / steps.
    loss: to maximise; the paper's is the cross-entropy.
    stop_on_success: keep a broken example at the iterate that broke it. False for adversarial training.
    """

    tasks: ClassVar[frozenset[str]] = EVERY_TASK
    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.linf, Norm.l2, Norm.l1}), targeted=True, top5=True)

    steps: int | None = None
    step_size: float | None = None
    loss: AttackLoss = AttackLoss.ce
    stop_on_success: bool = True

    def __post_init__(self) -> None:
        if self.steps is not None:
            check_at_least(1, steps=self.steps)
        check_positive(step_size=self.step_size)

    def forwards(self, threat: Threat) -> int:
        """One per step."""
        return self.steps or (kurakin_steps(threat.radius) if threat.norm is Norm.linf else 10)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """At most `steps` forward and backward passes per example."""
        steps = self.forwards(threat)
        return ascend(
            Active.of(target, threat.around(x, rng), y, targeted=threat.targeted),
            x,
            loss=self.loss,
            steps=steps,
            step_size=1.25 * threat.radius / steps if self.step_size is None else self.step_size,
            settle=self.stop_on_success and may_settle(target, threat),
        )[0]


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return BIM
