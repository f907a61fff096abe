"""Fooling images: noise classified with high confidence. Nguyen, Yosinski & Clune, CVPR 2015, arXiv:1412.1897.

Their gradient ascent starts from a mean image; here, as in the usual exercise, from noise, or from a drawn logo: a
rogue sign (Sitawarin et al., 2018, arXiv:1802.06430, section 4.1), in which a person sees a logo.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from torch import Tensor

from benchmark.api import Attack, ConfigError, DataSpec, SampleRandom, Supports, Target, Threat, hookimpl

from ._ascent.descent import DescentLoss
from ._base.active import Active
from ._base.budget import can_ask
from ._base.classes import top_rivals
from ._base.settings import check_at_least, check_images, check_positive
from ._base.vectors import usable
from ._physical.logos import logos


class FoolingStart(Enum):
    """noise: Gaussian. logo: a drawn logo, different for each example."""

    noise = "noise"
    logo = "logo"


@dataclass(frozen=True)
class Fooling(Attack):
    """Gradient descent from noise or a logo towards a label, until the system predicts it with `confidence`.

    The result is unrelated to the example that it replaces: no norm bounds it, and it is judged by box and region,
    outside which the example remains. Without a target label it takes the most likely wrong label of the noise; choose
    `threat.goal=random_class` for uniformly distributed labels.

    steps: iterations. step_size: factor on the gradient. mean, spread: of the Gaussian noise.
    start: where the descent begins. confidence: a probability; an input that reaches it is not changed any more.
    """

    supports: ClassVar[Supports] = Supports(targeted=True, randomized=True, bounded=False)

    steps: int = 2000
    step_size: float = 1.0
    mean: float = 0.5
    spread: float = 0.1
    confidence: float = 0.99
    loss: DescentLoss = DescentLoss.squared
    start: FoolingStart = FoolingStart.noise

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps)
        check_positive(step_size=self.step_size, spread=self.spread)
        if self.loss is DescentLoss.scaled:
            raise ConfigError(
                "attack.loss is scaled, but fooling images need a confidence, which scaled scores do not have; "
                "choose attack.loss=squared or ce"
            )
        if not 0.0 < self.confidence < 1.0:
            raise ConfigError(f"attack.confidence is {self.confidence}; expected a probability between 0 and 1")

    def check(self, spec: DataSpec, threat: Threat) -> None:
        """Refuse logos for data other than images."""
        if self.start is FoolingStart.logo:
            check_images(spec.shape, "fooling with start=logo")

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """At most `steps` forward and backward passes per example, and one forward pass for an untargeted threat."""
        ball = threat.around(x, rng)
        if self.start is FoolingStart.logo:
            drawn = logos(tuple(x.shape[1:]), rng, stream="fooling/logo").to(x.dtype)
        else:
            drawn = (self.mean + self.spread * rng.normal(*x.shape[1:], stream="fooling")).clamp(0.0, 1.0).to(x.dtype)
        start = drawn if ball.mask is None else drawn.where(ball.mask, x)
        labels = y if threat.targeted else _best_label(target, start, y)
        return fooling(
            Active.of(target, ball, labels, targeted=True),
            start,
            loss=self.loss,
            steps=self.steps,
            step_size=self.step_size,
            confidence=self.confidence,
        )


def _best_label(target: Target, start: Tensor, y: Tensor) -> Tensor:
    """Label other than `y` with the highest score at `start`, (B,) int64; the next label if no query is left."""
    labels = (y + 1) % target.classes
    index = can_ask(target).nonzero().squeeze(1)
    if len(index):
        labels = labels.index_copy(
            0, index, top_rivals(target.rows(index).logits(start[index]), y[index], 1).squeeze(1)
        )
    return labels


def fooling(
    active: Active, start: Tensor, *, loss: DescentLoss, steps: int, step_size: float, confidence: float
) -> Tensor:
    """Minimise the loss of the target labels from `start` (B, *S), in the box and the region; (B, *S)."""
    result, x_adv = start, start
    for _ in range(steps):
        active, x_adv = active.keep(active.affordable(), x_adv)
        if len(active) == 0:
            break
        gradient, _, logits = active.descent(x_adv, loss)
        sure = logits.softmax(1).gather(1, active.y[:, None]).squeeze(1) >= confidence
        x_adv = (x_adv - step_size * usable(gradient, active.ball)).clamp(0.0, 1.0)
        active, x_adv = active.keep(~sure, x_adv)
        result = result.index_copy(0, active.index, x_adv)
    return result


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return Fooling
