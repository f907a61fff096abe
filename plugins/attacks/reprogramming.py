"""Adversarial reprogramming: the system does another task. Elsayed, Goodfellow & Sohl-Dickstein, ICLR 2019.

arXiv:1806.11146, section 3. A program surrounds a small picture, and the system's answer is read as that of the task.
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
    """Each example is replaced by the program with a picture of the task in the middle, of the label to reach.

    So under `threat.goal=random_class` the attack's success rate is the accuracy of the system on the task, on pictures
    that the program was not trained with, and 1 / classes is chance. Label k of the task is label k of the system.
    Nothing is left of the example, and the norm does not apply: box and region are all that it answers to. Without a
    label to reach the picture has a random one other than the example's, and any answer but that counts.

    Differences from the paper: inputs lie in [0, 1] and not in [-1, 1], W begins at 0, and has no penalty.

    task: what to do. share: of the image's shorter side that the picture takes. epochs: how often each of `examples`
    pictures is drawn anew; batch: pictures per step. step_size: Adam's, in the paper's units; every two epochs it is
    multiplied by `decay`.
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
            raise ConfigError(f"attack.share is {self.share}; expected a part of the image's side, above 0 and below 1")
        if not 0 < self.decay <= 1:
            raise ConfigError(f"attack.decay is {self.decay}; expected a factor above 0, at most 1")

    def check(self, spec: DataSpec, threat: Threat) -> None:
        """Refuse what is no image, and one too small for a picture and a program, and labels that the task lacks."""
        self._side(spec.shape, spec.classes)

    def prepare(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> dict[str, Tensor]:
        """`epochs` forward and backward passes per picture; there is one for each example, which counts them."""
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
        """The program around a picture for each example. No pass through the system."""
        side = self._side(tuple(x.shape[1:]), target.classes)
        other = 1 + rng.integers(target.classes - 1, 1, stream="reprogramming/other").squeeze(1)
        labels = y if threat.targeted else (y + other) % target.classes
        shown = pictures(self.task, labels, target.classes, side, rng, draw=None)
        return embedded(x, target.prepared["program"].to(x.dtype), shown, threat.around(x, rng).mask)

    def _side(self, size: tuple[int, ...], classes: int) -> int:
        """Side of the picture in pixels.

        Raises:
            Refused: if one example is no image, or one too small for a picture and a program.
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
    """Rows and columns of a picture of that side in the middle of images `x` (B, C, H, W)."""
    top, left = (x.shape[2] - side) // 2, (x.shape[3] - side) // 2
    return slice(top, top + side), slice(left, left + side)


def _around(x: Tensor, side: int) -> Tensor:
    """(C, H, W): 1 where the program is (the paper's M), 0 where the picture is."""
    mask = torch.ones_like(x[0])
    rows, columns = _middle(x, side)
    mask[:, rows, columns] = 0.0
    return mask


def embedded(x: Tensor, program: Tensor, shown: Tensor, mask: Tensor | None) -> Tensor:
    """Program with a picture in the middle, equation 2, (B, C, H, W) in [0, 1]; outside `mask` the image `x`.

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
