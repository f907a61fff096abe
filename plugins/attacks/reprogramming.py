"""Adversarial reprogramming: repurpose the system for another task. Elsayed, Goodfellow & Sohl-Dickstein, ICLR 2019.

arXiv:1806.11146, section 3. A program surrounds a small image of the task, whose label is read from the system's
prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import (
    ConfigError,
    DataSpec,
    PreparedAttack,
    Refused,
    SampleRandom,
    Supports,
    Target,
    Threat,
    hookimpl,
)

from ._ascent.universal import cross_entropy, epochs_within
from ._base.settings import check_at_least, check_images, check_positive
from ._base.vectors import adam
from ._physical.tasks import Task, least_side, pictures


@dataclass(frozen=True)
class Reprogramming(PreparedAttack):
    """Replaces each example by the program around an image of the task that has the target label.

    Under `threat.goal=random_class` the success rate is therefore the system's accuracy on the task, on images that the
    program was not trained on; chance is 1 / classes. Label k of the task is label k of the system. Nothing remains of
    the example, so no norm applies, only box and region. Without a target label the image has a random label other than
    the example's, and any prediction but the example's counts.

    Differences from the paper: inputs lie in [0, 1] instead of [-1, 1]; W starts at 0 and is not penalised.

    task: the other task. share: of the image's shorter side, for the task's image. epochs: redraws of each of the
    `examples` images; batch: images per step. step_size: Adam's, in the paper's units; multiplied by `decay` every two
    epochs.
    """

    supports: ClassVar[Supports] = Supports(targeted=True, randomized=True, bounded=False)

    task: Task = Task.squares
    share: float = 0.5
    epochs: int = 20
    batch: int = 50
    step_size: float = 0.05
    decay: float = 0.96

    def __post_init__(self) -> None:
        check_at_least(1, examples=self.examples, epochs=self.epochs, batch=self.batch)
        check_positive(step_size=self.step_size)
        if not 0 < self.share < 1:
            raise ConfigError(
                f"attack.share is {self.share}; expected a share of the image's side, above 0 and below 1"
            )
        if not 0 < self.decay <= 1:
            raise ConfigError(f"attack.decay is {self.decay}; expected a factor above 0, at most 1")

    def check(self, spec: DataSpec, threat: Threat) -> None:
        """Refuse data other than images, images too small for image and program, and labels that the task lacks."""
        self._side(spec.shape, spec.classes)

    def prepare(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> dict[str, Tensor]:
        """`epochs` forward and backward passes per image of the task, charged to one example each."""
        side = self._side(tuple(x.shape[1:]), target.classes)
        mask = threat.around(x, rng).mask
        around = _around(x, side)
        weight = torch.zeros_like(x[0])
        first, second, step = torch.zeros_like(weight), torch.zeros_like(weight), 0
        for epoch in range(epochs_within(target, self.epochs, 1)):
            step_size = self.step_size * self.decay ** (epoch // 2)
            labels = rng.integers(target.classes, 1, stream="reprogramming/labels", draw=epoch).squeeze(1)
            shown = pictures(self.task, labels, target.classes, side, rng, draw=epoch)
            for index in torch.arange(len(x), device=x.device).split(self.batch):
                program = torch.tanh(weight * around)
                inputs = embedded(x[index], program, shown[index], None if mask is None else _rows(mask, index))
                loss = partial(_loss, labels[index])
                gradient, _, _ = target.rows(index).gradient(inputs, loss)
                if mask is not None:
                    gradient = gradient.where(_rows(mask, index), 0.0)
                slope = gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).mean(0)
                slope = slope * around * (1.0 - program.square()) / 2.0
                change, first, second = adam(slope, first, second, step)
                weight, step = weight - step_size * change, step + 1
        return {"program": torch.tanh(weight * around)}

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Program around an image for each example. No pass through the system."""
        side = self._side(tuple(x.shape[1:]), target.classes)
        other = 1 + rng.integers(target.classes - 1, 1, stream="reprogramming/other").squeeze(1)
        labels = y if threat.targeted else (y + other) % target.classes
        shown = pictures(self.task, labels, target.classes, side, rng, draw=None)
        return embedded(x, target.prepared["program"].to(x.dtype), shown, threat.around(x, rng).mask)

    def _side(self, size: tuple[int, ...], classes: int) -> int:
        """Side of the task's image in pixels.

        Raises:
            Refused: if an example is not an image, or is too small for an image and a program.
        """
        shorter, least = min(check_images(size, "reprogramming")), least_side(self.task, classes)
        side = max(least, int(self.share * shorter))
        if side >= shorter:
            raise Refused(
                f"attack.reprogramming needs pictures of {least} pixels a side for {classes} labels, and room "
                f"for a program around them; one image has {shorter}"
            )
        return side


def _loss(y: Tensor, logits: Tensor) -> Tensor:
    return cross_entropy(logits, y)


def _rows(mask: Tensor, index: Tensor) -> Tensor:
    return mask if len(mask) == 1 else mask[index]


def _middle(x: Tensor, side: int) -> tuple[slice, slice]:
    """Rows and columns of an image of that side in the middle of images `x` (B, C, H, W)."""
    top, left = (x.shape[2] - side) // 2, (x.shape[3] - side) // 2
    return slice(top, top + side), slice(left, left + side)


def _around(x: Tensor, side: int) -> Tensor:
    """Mask of the program (the paper's M), (C, H, W): 1 at the program, 0 at the task's image."""
    mask = torch.ones_like(x[0])
    rows, columns = _middle(x, side)
    mask[:, rows, columns] = 0.0
    return mask


def embedded(x: Tensor, program: Tensor, shown: Tensor, mask: Tensor | None) -> Tensor:
    """Program with an image in the middle, equation 2, (B, C, H, W) in [0, 1]; outside `mask` the image `x`.

    program: (C, H, W) in [-1, 1]. shown: (B, side, side) in [0, 1].
    """
    rows, columns = _middle(x, shown.shape[1])
    inputs = ((program + 1.0) / 2.0).expand_as(x).clone()
    inputs[:, :, rows, columns] = shown[:, None].to(x.dtype)
    return inputs if mask is None else inputs.where(mask, x)


@hookimpl
def benchmark_component() -> type[PreparedAttack]:
    """The plugin."""
    return Reprogramming
