"""Confusion: inputs with the least confident prediction. No paper."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Attack, Ball, Norm, RowLoss, SampleRandom, Supports, Target, Threat, hookimpl

from ._ascent.descent import top_probability
from ._base.budget import can_ask
from ._base.settings import check_at_least, check_positive

LAST = 1e-4
"""Ratio of the last step to the first, which bounds the remaining distance to the point of equal probabilities."""


class Doubt(Enum):
    """Objective. top: minus the log-probability of the predicted label. entropy: entropy of the probabilities."""

    top = "top"
    entropy = "entropy"


@dataclass(frozen=True)
class Confusion(Attack):
    """Steepest ascent of the system's uncertainty in the ball; returns the iterate with the least confident prediction.

    The predicted label does not matter. `robust accuracy` therefore says little about this attack: between two equally
    likely labels, success is a matter of chance. `confused` (metric.confidence) measures the uncertainty.

    steps: iterations. step_size: of the first one, in the threat's norm; None for 2 eps. Later ones decrease
    geometrically to a ten-thousandth of it. doubt: see :class:`Doubt`; the entropy is smooth, and also leads to a lower
    probability of the predicted label.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.linf, Norm.l2}))

    steps: int = 50
    step_size: float | None = None
    doubt: Doubt = Doubt.entropy

    def __post_init__(self) -> None:
        check_at_least(2, steps=self.steps)
        check_positive(step_size=self.step_size)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """`steps` forward and backward passes per example, and one forward pass for the last iterate."""
        return confusion(
            target,
            ball=threat.around(x, rng),
            loss=_top if self.doubt is Doubt.top else _entropy,
            steps=self.steps,
            step_size=self.step_size or 2.0 * threat.radius,
        )


def _top(logits: Tensor) -> Tensor:
    """Minus the largest log-probability, (B,)."""
    return -logits.log_softmax(1).amax(1)


def _entropy(logits: Tensor) -> Tensor:
    """Entropy of the prediction, in nats, (B,)."""
    logs = logits.log_softmax(1)
    return -(logs.exp() * logs).sum(1)


def confusion(target: Target, *, ball: Ball, loss: RowLoss, steps: int, step_size: float) -> Tensor:
    """Adversarial candidates (B, *S); see :class:`Confusion`. Best so far if the query budget ends."""
    result = ball.x
    least = torch.full((len(result),), torch.inf, dtype=result.dtype, device=result.device)
    index, x_adv = torch.arange(len(result), device=result.device), result
    for step in range(steps + 1):
        left = can_ask(target.rows(index))
        index, x_adv = index[left], x_adv[left]
        if len(index) == 0:
            break
        view, here = target.rows(index), ball.rows(index)
        if step < steps:
            gradient, _, logits = view.gradient(x_adv, loss)
        else:
            logits = view.logits(x_adv)
        sure = top_probability(logits)
        better = sure < least[index]
        result = result.index_copy(0, index[better], x_adv[better])
        least[index[better]] = sure[better]
        if step < steps:
            length = step_size * LAST ** (step / (steps - 1))
            x_adv = here.project(x_adv + length * here.steepest(gradient))
    return result


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return Confusion
