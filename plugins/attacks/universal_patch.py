"""Universal adversarial patch: one for all images. Brown et al., 2017, arXiv:1712.09665, section 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import (
    EVERY_TASK,
    Ball,
    DataSpec,
    Norm,
    PreparedAttack,
    SampleRandom,
    Supports,
    Target,
    Threat,
    hookimpl,
)

from ._ascent.universal import batches, epochs_within, goals
from ._base.active import Active, AttackLoss
from ._base.settings import check_at_least, check_positive
from ._physical.patches import PatchShape, Sticker, check_placement, penalty_slope, put, sticker
from .patch import moved, patch_slope


@dataclass(frozen=True)
class UniversalPatch(PreparedAttack):
    """One patch prepared from examples of the training split, pasted at a random position, rotation and size.

    Under a targeted threat there is one patch for each label. The threat gives the size, as for `patch`.
    Difference from the paper: steps along the sign of an averaged gradient.

    shape, rotation, smallest, step_size, momentum, loss, tv, nps: see `patch`. epochs: passes over the examples, each
    time at other positions. batch: examples averaged per step.
    """

    tasks: ClassVar[frozenset[str]] = EVERY_TASK
    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.l0}), targeted=True, randomized=True)

    shape: PatchShape = PatchShape.square
    rotation: float = 22.5
    smallest: float = 0.8
    epochs: int = 20
    batch: int = 50
    step_size: float = 0.05
    momentum: float = 0.9
    loss: AttackLoss = AttackLoss.ce
    tv: float = 0.0
    nps: float = 0.0

    def __post_init__(self) -> None:
        check_at_least(1, examples=self.examples, epochs=self.epochs, batch=self.batch)
        check_positive(step_size=self.step_size)
        check_at_least(0, momentum=self.momentum, tv=self.tv, nps=self.nps)
        check_placement(self.rotation, self.smallest)

    def check(self, spec: DataSpec, threat: Threat) -> None:
        """Refuse data other than images, and a radius of less than one pixel."""
        self._blank(spec.shape, threat)

    def _blank(self, size: tuple[int, ...], threat: Threat) -> Sticker | None:
        return sticker(size, threat, self.shape, self.rotation, self.smallest, "universal_patch")

    def prepare(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> dict[str, Tensor]:
        """`epochs` forward and backward passes per example, under a targeted threat per target label."""
        blank = self._blank(tuple(x.shape[1:]), threat)
        if blank is None:
            return {"patch": torch.empty(0)}
        wanted = goals(target, threat)
        epochs = epochs_within(target, self.epochs, len(wanted))
        ball = threat.around(x, rng)
        patches = [self._trained(target, ball, y, blank, goal, epochs, rng) for goal in wanted]
        return {"patch": torch.stack(patches)}

    def _trained(
        self, target: Target, ball: Ball, y: Tensor, blank: Sticker, goal: int | None, epochs: int, rng: SampleRandom
    ) -> Tensor:
        """Patch that makes examples leave their labels `y`, or reach the label `goal`, (C, side, side)."""
        x = ball.x
        patch = torch.full((1, x.shape[1], blank.side, blank.side), 0.5, dtype=x.dtype, device=x.device)
        velocity = torch.zeros_like(patch)
        labels = y if goal is None else torch.full_like(y, goal)
        every = Active.of(target, ball, labels, targeted=goal is not None)
        for epoch in range(epochs):
            step_size = self.step_size * (1.0 - epoch / epochs)
            for index in batches(y, goal, self.batch):
                slope = patch_slope(
                    every.rows(index),
                    patch,
                    blank,
                    rng.rows(index),
                    self.loss,
                    draws=1,
                    first=epoch,
                ).mean(0, keepdim=True)
                slope = slope - penalty_slope(patch, self.tv, self.nps)
                patch, velocity = moved(patch, velocity, slope, step_size=step_size, momentum=self.momentum)
        return patch[0]

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Examples with the patch pasted on. No pass through the system."""
        blank = self._blank(tuple(x.shape[1:]), threat)
        if blank is None or len(x) == 0:
            return x
        patch = target.prepared["patch"].to(x.dtype)
        patch = patch[y] if threat.targeted else patch
        return put(x, patch, blank.places(rng, stream="patch/shown"), threat.around(x, rng).mask)


@hookimpl
def benchmark_component() -> type[PreparedAttack]:
    """The plugin."""
    return UniversalPatch
