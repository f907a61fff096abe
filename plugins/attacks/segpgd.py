"""SegPGD: PGD on segmentation, weighted to the correctly classified pixels. Gu et al., ECCV 2022, arXiv:2207.12391.

Section 3.2 and algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import (
    Attack,
    DenseTask,
    Norm,
    SampleRandom,
    Segmentation,
    Supports,
    Target,
    Threat,
    hookimpl,
)

from ._base.active import Active, Loss, may_settle
from ._base.losses import cross_entropy
from ._base.settings import check_at_least, check_positive
from .pgd import ascend


@dataclass(frozen=True)
class SegPGD(Attack):
    """PGD whose loss weights correct pixels by 1 - w and wrong ones by w, with w rising from 0 to 1/2.

    Wrong pixels therefore contribute in later steps only, and stay wrong. Differences from the paper: an example stops
    at its first success, as in `pgd`, and the default step size is proportional to eps.

    steps: iterations. step_size: length of a step in the threat's norm; None for 2.5 eps / steps.
    random_start: uniform in the ball; otherwise the clean input.
    """

    tasks: ClassVar[frozenset[str]] = frozenset({Segmentation.name})
    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.linf, Norm.l2}), randomized=True)

    steps: int = 40
    step_size: float | None = None
    random_start: bool = True

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps)
        check_positive(step_size=self.step_size)

    def forwards(self, threat: Threat) -> int:
        """One per step."""
        return self.steps

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """At most `steps` forward and backward passes per example."""
        ball = threat.around(x, rng)
        active = Active.of(target, ball, y, targeted=threat.targeted)
        x_adv = ball.random(rng, stream="segpgd/start") if self.random_start else x
        result, settle = x_adv, may_settle(target, threat)
        step_size = self.step_size or 2.5 * threat.radius / self.steps
        for step in range(self.steps):
            x_adv, won = ascend(
                active, x_adv, loss=weighted(step / (2 * self.steps)), steps=1, step_size=step_size, settle=settle
            )
            result = result.index_copy(0, active.index, x_adv)
            active, x_adv = active.keep(~won, x_adv)
            if len(active) == 0:
                break
        return result


def weighted(wrong: float) -> Loss:
    """Mean cross-entropy over the pixels, with weight `wrong` for wrong ones and 1 - `wrong` for the others (eq. 5)."""

    def loss(logits: Tensor, rows: Active) -> Tensor:
        task = rows.target.task
        assert isinstance(task, DenseTask)
        value, counted = task.site_losses(cross_entropy, logits, rows.y)
        fooled = task.scores(logits).argmax(2) != task.aim(rows.y)[0]
        return (value * torch.where(fooled, wrong, 1.0 - wrong)).sum(1) / counted.sum(1).clamp_min(1)

    return loss


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return SegPGD
