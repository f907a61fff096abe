"""TI-FGSM: gradients smoothed over translations. Dong et al., CVPR 2019, arXiv:1904.02884, section 3.2."""

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

from ._ascent.transfer import Slope, ascend_with_momentum
from ._base.active import Active, AttackLoss, Loss
from ._base.settings import check_at_least, check_images, check_positive


@dataclass(frozen=True)
class TIFGSM(Attack):
    """Smooths each gradient with a Gaussian kernel, which approximates the mean over shifted images. Images only.

    steps: iterations. step_size: length of a step in the threat's norm; None for eps / steps.
    momentum: decay of the accumulated gradients. loss: to maximise.
    kernel: side of the Gaussian in pixels, odd; it ends three standard deviations from its centre. 15 in the paper, for
        inputs of 299 pixels a side.
    """

    tasks: ClassVar[frozenset[str]] = EVERY_TASK
    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.linf, Norm.l2}), targeted=True)

    steps: int = 10
    step_size: float | None = None
    momentum: float = 1.0
    loss: AttackLoss = AttackLoss.ce
    kernel: int = 15

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps, kernel=self.kernel)
        check_positive(step_size=self.step_size)
        check_at_least(0, momentum=self.momentum)
        if self.kernel % 2 == 0:
            raise ConfigError(f"attack.kernel is {self.kernel}; expected an odd number, so that it has a centre")

    def check(self, spec: DataSpec, threat: Threat) -> None:
        """Refuse data other than images."""
        check_images(spec.shape, "ti_fgsm")

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
            slope=translated(self.kernel, self.loss),
        )


def translated(kernel: int, loss: Loss) -> Slope:
    """Gradient smoothed with the Gaussian."""

    def slope(active: Active, x_adv: Tensor, velocity: Tensor, step: int) -> Tensor:
        return smoothed(active.gradient(x_adv, loss)[0], kernel)

    return slope


def smoothed(values: Tensor, kernel: int) -> Tensor:
    """Convolution of `values` with a normalised Gaussian of that side, (B, C, H, W), zero-padded.

    A sum of shifted images, because a library convolution may round an image by its position in the batch.
    """
    weights = (-0.5 * torch.linspace(-3.0, 3.0, kernel, dtype=torch.float64).square()).exp()
    weights = weights / weights.sum()
    reach = kernel // 2
    for dim in (2, 3):
        length = values.shape[dim]
        edge = (0, 0, reach, reach) if dim == 2 else (reach, reach)
        wide = torch.nn.functional.pad(values, edge)
        values = sum((weight * wide.narrow(dim, at, length) for at, weight in enumerate(weights.tolist())), 0 * values)
    return values


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return TIFGSM
