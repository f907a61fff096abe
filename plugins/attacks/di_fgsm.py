"""DI-FGSM: gradients through random resizing and padding. Xie et al., CVPR 2019, arXiv:1803.06978."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import (
    EVERY_TASK,
    Attack,
    ConfigError,
    DataSpec,
    Norm,
    SampleRandom,
    Supports,
    Target,
    Threat,
    hookimpl,
)

from ._ascent.transfer import Slope, ascend_with_momentum, gradient_through
from ._base.active import Active, AttackLoss, Loss
from ._base.settings import check_at_least, check_images, check_positive


@dataclass(frozen=True)
class DIFGSM(Attack):
    """Takes the gradient through a random resizing and padding of each image. Images only.

    Difference from the paper: images shrink, while the paper's grow from 299 to at most 330 pixels a side, about the
    same ratio; so the system may have a fixed input size.

    steps: iterations. step_size: length of a step in the threat's norm; None for eps / steps.
    momentum: decay of the accumulated gradients. loss: to maximise.
    smallest: smallest relative side of a shrunk image. probability: of transforming an image in a step.
    """

    tasks: ClassVar[frozenset[str]] = EVERY_TASK
    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.linf, Norm.l2}), targeted=True, randomized=True)

    steps: int = 10
    step_size: float | None = None
    momentum: float = 1.0
    loss: AttackLoss = AttackLoss.ce
    smallest: float = 0.9
    probability: float = 0.5

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps)
        check_positive(step_size=self.step_size)
        check_at_least(0, momentum=self.momentum)
        if not 0 < self.smallest <= 1:
            raise ConfigError(f"attack.smallest is {self.smallest}; expected more than 0, and at most 1")
        if not 0 <= self.probability <= 1:
            raise ConfigError(f"attack.probability is {self.probability}; expected 0 to 1")

    def check(self, spec: DataSpec, threat: Threat) -> None:
        """Refuse data other than images."""
        check_images(spec.shape, "di_fgsm")

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
            slope=diverse(self.smallest, self.probability, self.loss, rng),
        )


def diverse(smallest: float, probability: float, loss: Loss, rng: SampleRandom) -> Slope:
    """Gradient through a resizing and a position, drawn for each example and step."""

    def slope(active: Active, x_adv: Tensor, velocity: Tensor, step: int) -> Tensor:
        drawn = rng.rows(active.index).uniform(4, stream="di_fgsm", draw=step).to(x_adv.dtype)
        ratio = smallest + (1.0 - smallest) * drawn[:, 0]
        ratio = ratio.where(drawn[:, 1] < probability, 1.0)
        return gradient_through(active, lambda x: framed(x, ratio, drawn[:, 2], drawn[:, 3]), x_adv, loss)

    return slope


def framed(x: Tensor, ratio: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Images shrunk by nearest-neighbour resampling, in a black frame of the original size.

    Args:
        x: (B, C, H, W). ratio: (B,) in (0, 1], of the new sides to the old. down, right: (B,) in [0, 1), the offsets as
            fractions of the available room.
    """
    for dim, place in ((2, down), (3, right)):
        length = x.shape[dim]
        short = (ratio * length).round().clamp(1, length)
        first = (place * (length - short + 1)).floor()
        at = torch.arange(length, device=x.device, dtype=x.dtype) - first[:, None]
        inside = (at >= 0) & (at < short[:, None])
        # Whole numbers throughout, so that no division rounds to the pixel beside.
        source = torch.div(at.long() * length, short[:, None].long(), rounding_mode="floor").clamp(0, length - 1)
        shape = (-1, 1, length, 1) if dim == 2 else (-1, 1, 1, length)
        x = x.gather(dim, source.reshape(shape).expand_as(x)) * inside.reshape(shape)
    return x


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return DIFGSM
