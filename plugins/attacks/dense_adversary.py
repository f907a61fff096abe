"""DAG: dense adversary generation. Xie et al., ICCV 2017, arXiv:1703.08603, section 3.2 and algorithm 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import (
    Attack,
    DataSpec,
    DenseTask,
    Detection,
    Norm,
    Refused,
    SampleRandom,
    Segmentation,
    Supports,
    Target,
    Threat,
    hookimpl,
)

from ._base.active import Active, may_settle
from ._base.settings import check_at_least, check_positive
from ._base.vectors import columns


@dataclass(frozen=True)
class DenseAdversary(Attack):
    """Steps along the normalised gradient of the sum of z_wrong - z_true over the sites that are still correct.

    Each class is assigned one wrong class per example, drawn uniformly. In detection, the sites are the cells of
    objects.
    Differences from the paper: iterates stay in the threat's ball and in the box, and an example stops when it counts
    as broken, not only when no site is correct.

    steps: most iterations (M0). gamma: largest change of a feature in one step; the paper's is 0.5 of 255.
    """

    tasks: ClassVar[frozenset[str]] = frozenset({Segmentation.name, Detection.name})
    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.linf, Norm.l2}), randomized=True)

    steps: int = 200
    gamma: float = 0.5 / 255

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps)
        check_positive(gamma=self.gamma)

    def check(self, spec: DataSpec, threat: Threat) -> None:
        """Refuse the goal of fabricated objects, which has no true class to leave."""
        if threat.goal.value == "fabrication":
            raise Refused(
                "attack.dense_adversary moves objects from their class to another, but threat.goal is fabrication; "
                "choose vanishing, mislabeling or untargeted"
            )

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """At most `steps` forward and backward passes per example."""
        task = target.task
        assert isinstance(task, DenseTask)
        active = Active.of(target, threat.around(x, rng), y, targeted=threat.targeted)
        true, wrong = class_pairs(task, y, target.classes, rng)
        result, settle, x_adv = x, may_settle(target, threat), x
        for _ in range(self.steps):
            active, x_adv = active.keep(active.affordable(), x_adv)
            if len(active) == 0:
                break
            gradient, _, logits = active.gradient(x_adv, lambda z, rows: lead(task, z, true, wrong, rows.index))
            if settle:
                active, x_adv, gradient = active.keep(~active.succeeded(x_adv, logits), x_adv, gradient)
            x_adv = active.ball.project(x_adv + self.gamma * peak_normalised(gradient))
            result = result.index_copy(0, active.index, x_adv)
        return result


def class_pairs(task: DenseTask, y: Tensor, classes: int, rng: SampleRandom) -> tuple[Tensor, Tensor]:
    """True class of each site, -1 where it is not attacked, and its assigned wrong class, (B, S) int64 each."""
    objects = isinstance(task, Detection)
    true = torch.where(y[..., 0] > 0, y[..., 0], -1) if y.ndim == 3 else y
    if objects and task.goal == "vanishing":
        return true, torch.zeros_like(true)
    least = 1 if objects else 0  # an object is led to another object
    count = classes - least
    shift = 1 + rng.integers(count - 1, classes, stream="dense_adversary/class")
    wrong = (torch.arange(classes, device=y.device) - least + shift) % count + least
    return true, wrong.gather(1, true.clamp_min(0))


def lead(task: DenseTask, output: Tensor, true: Tensor, wrong: Tensor, index: Tensor) -> Tensor:
    """Sum of z_wrong - z_true over the attacked sites of the examples `index` (b,) that are correct, (b,) (eq. 2)."""
    scores, true, wrong = task.scores(output), true[index], wrong[index]
    at = true.clamp_min(0)[..., None]
    ahead = (scores.gather(2, wrong[..., None]) - scores.gather(2, at)).squeeze(2)
    still = (true >= 0) & (scores.argmax(2) == true)
    return torch.where(still, ahead, 0.0).sum(1)


def peak_normalised(gradient: Tensor) -> Tensor:
    """Each row divided by its largest magnitude, 0 where that is 0 or NaN, (b, *S) (eq. 4)."""
    gradient = gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    peak = gradient.flatten(1).abs().amax(1)
    return gradient / columns(torch.where(peak > 0, peak, 1.0), gradient)


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return DenseAdversary
