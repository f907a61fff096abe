"""Adversarial patch, one for each image. Karmon, Zoran & Goldberg, ICML 2018, arXiv:1801.02608, section 3.

With the expectation over positions, rotations and sizes of Brown et al., 2017, arXiv:1712.09665, and optionally
printable colours, as in Sharif et al., CCS 2016, and Eykholt et al. (RP2), CVPR 2018, arXiv:1707.08945.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import EVERY_TASK, Attack, DataSpec, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._base.active import Active, AttackLoss, Loss
from ._base.settings import check_at_least, check_positive
from ._physical.patches import PatchShape, Sticker, check_placement, penalty_slope, put, sticker


@dataclass(frozen=True)
class Patch(Attack):
    """Ascends the mean loss over random positions of a patch, then pastes it at a position that was not optimised for.

    The threat gives the size: an l0 budget of eps features is a patch of eps / channels pixels, of any values. It is an
    ordinary attack under l0, weaker than those that choose their pixels. `universal_patch` uses one patch for all
    images.

    Difference from the papers: steps along the sign of an averaged gradient, for patches that end at the box anyway.

    shape: the outline. rotation: largest angle to either side, in degrees. smallest: smallest relative size.
    steps: iterations. draws: positions averaged per step. step_size: of the first step, in units of the [0, 1] range;
    it decreases linearly to zero.
    momentum: of the averaged gradients. loss: to maximise. tv, nps: weights of the mean variation between neighbouring
    texels, and of the mean distance from printable colours.
    """

    tasks: ClassVar[frozenset[str]] = EVERY_TASK
    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.l0}), targeted=True, randomized=True)

    shape: PatchShape = PatchShape.square
    rotation: float = 22.5
    smallest: float = 0.8
    steps: int = 100
    draws: int = 1
    step_size: float = 0.05
    momentum: float = 0.9
    loss: AttackLoss = AttackLoss.ce
    tv: float = 0.0
    nps: float = 0.0

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps, draws=self.draws)
        check_positive(step_size=self.step_size)
        check_at_least(0, momentum=self.momentum, tv=self.tv, nps=self.nps)
        check_placement(self.rotation, self.smallest)

    def check(self, spec: DataSpec, threat: Threat) -> None:
        """Refuse data other than images, and a radius of less than one pixel."""
        self._blank(spec.shape, threat)

    def _blank(self, size: tuple[int, ...], threat: Threat) -> Sticker | None:
        return sticker(size, threat, self.shape, self.rotation, self.smallest, "patch")

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """`steps` * `draws` forward and backward passes per example."""
        blank = self._blank(tuple(x.shape[1:]), threat)
        if blank is None or len(x) == 0:
            return x
        active = Active.of(target, threat.around(x, rng), y, targeted=threat.targeted)
        mask = active.ball.mask
        patch = torch.full((len(x), x.shape[1], blank.side, blank.side), 0.5, dtype=x.dtype, device=x.device)
        velocity = torch.zeros_like(patch)
        for step in range(self.steps):
            left = active.target.remaining()
            (active,) = active.keep(None if left is None else left >= self.draws)
            index = active.index
            if len(active) == 0:
                break
            slope = patch_slope(
                active,
                patch[index],
                blank,
                rng.rows(index),
                self.loss,
                draws=self.draws,
                first=step * self.draws,
            )
            slope = slope - penalty_slope(patch[index], self.tv, self.nps)
            patch[index], velocity[index] = moved(
                patch[index],
                velocity[index],
                slope,
                step_size=self.step_size * (1.0 - step / self.steps),
                momentum=self.momentum,
            )
        return put(x, patch, blank.places(rng, stream="patch/shown"), mask)


def patch_slope(
    active: Active,
    patch: Tensor,
    blank: Sticker,
    rng: SampleRandom,
    loss: Loss,
    *,
    draws: int,
    first: int,
) -> Tensor:
    """Gradient of the loss in each row's texels, the mean over `draws` random positions, (b, C, side, side).

    patch: (b or 1, C, side, side). first: the number of the first draw.
    """
    ball = active.ball
    total = torch.zeros(len(ball.x), *patch.shape[1:], dtype=patch.dtype, device=patch.device)
    for draw in range(first, first + draws):
        places = blank.places(rng, stream="patch", draw=draw)
        leaf = patch.detach().expand(len(ball.x), -1, -1, -1).clone().requires_grad_(True)
        with torch.enable_grad():
            shown = put(ball.x, leaf, places, ball.mask)
        gradient, _, _ = active.gradient(shown.detach(), loss)
        (pulled,) = torch.autograd.grad(shown, leaf, gradient)
        total = total + pulled.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    return total / draws


def moved(
    patch: Tensor, velocity: Tensor, slope: Tensor, *, step_size: float, momentum: float
) -> tuple[Tensor, Tensor]:
    """Texels after a step along the sign of the averaged gradient, separately for each row, and the average."""
    size = slope.flatten(1).abs().mean(1).reshape(-1, 1, 1, 1)
    velocity = momentum * velocity + slope / torch.where(size > 0, size, 1.0)
    return (patch + step_size * velocity.sign()).clamp(0.0, 1.0), velocity


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return Patch
