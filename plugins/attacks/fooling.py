"""Fooling images: noise that the system is sure about. Nguyen, Yosinski & Clune, CVPR 2015, arXiv:1412.1897.

Their gradient ascent starts from a mean image; here, as in the usual exercise, from noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Attack, ConfigError, SampleRandom, Supports, Target, Threat, hookimpl

from ._ascent.descent import DescentLoss, falling
from ._base.losses import likeliest
from ._base.steps import at_least, can_ask, positive


@dataclass(frozen=True)
class Fooling(Attack):
    """Gradient descent from noise to a label, until the system gives it `confidence`.

    The result has nothing to do with the example whose place it takes: it answers to no norm, and is judged by box and
    region, outside of which the example shows. Without a label to reach it goes to the likeliest wrong one of the
    noise; choose `threat.goal=random_class` for all labels alike.

    steps: iterations. step_size: by what the gradient is multiplied. mean, spread: of the noise, Gaussian.
    confidence: a probability; an input that has it is left alone.
    """

    supports: ClassVar[Supports] = Supports(targeted=True, randomized=True, bounded=False)

    steps: int = 2000
    step_size: float = 1.0
    mean: float = 0.5
    spread: float = 0.1
    confidence: float = 0.99
    loss: DescentLoss = DescentLoss.squared

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps)
        positive(step_size=self.step_size, spread=self.spread)
        if not 0.0 < self.confidence < 1.0:
            raise ConfigError(f"attack.confidence is {self.confidence}; expected a probability between 0 and 1")

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """At most `steps` forward and backward passes per example, and one forward where any wrong label will do."""
        mask = threat.around(x, rng).mask
        noise = (self.mean + self.spread * rng.normal(*x.shape[1:], stream="fooling")).clamp(0.0, 1.0).to(x.dtype)
        start = noise if mask is None else noise.where(mask, x)
        labels = y if threat.targeted else _likeliest(target, start, y)
        return fooling(
            target,
            start,
            labels,
            mask=mask,
            loss=self.loss,
            steps=self.steps,
            step_size=self.step_size,
            confidence=self.confidence,
        )


def _likeliest(target: Target, start: Tensor, y: Tensor) -> Tensor:
    """(B,) int64: the label other than `y` with the highest score at `start`; the next label if no query is left."""
    labels = (y + 1) % target.classes
    index = can_ask(target).nonzero().squeeze(1)
    if len(index):
        labels = labels.index_copy(0, index, likeliest(target.rows(index).logits(start[index]), y[index], 1).squeeze(1))
    return labels


def fooling(
    target: Target,
    start: Tensor,
    y: Tensor,
    *,
    mask: Tensor | None,
    loss: DescentLoss,
    steps: int,
    step_size: float,
    confidence: float,
) -> Tensor:
    """(B, *S): from `start` (B, *S) down the loss of the labels to reach, `y` (B,), changing nothing outside `mask`."""
    result = start
    index = torch.arange(len(y), device=y.device)
    for _ in range(steps):
        index = index[can_ask(target.rows(index))]
        if len(index) == 0:
            break
        x_adv, labels = result[index], y[index]
        gradient, _, logits = target.rows(index).gradient(x_adv, falling(loss, labels, targeted=True))
        sure = logits.softmax(1).gather(1, labels[:, None]).squeeze(1) >= confidence
        gradient = gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        if mask is not None:
            gradient = gradient.where(mask if len(mask) == 1 else mask[index], 0.0)
        moved = (x_adv - step_size * gradient).clamp(0.0, 1.0)
        index, moved = index[~sure], moved[~sure]
        result = result.index_copy(0, index, moved)
    return result


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return Fooling
