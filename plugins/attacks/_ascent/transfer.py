"""What the attacks made to transfer share: iterative FGSM with momentum, along slopes taken at altered inputs.

The loop is that of MI-FGSM (Dong et al., CVPR 2018, arXiv:1710.06081, algorithm 1). A method supplies where and how the
slope is taken. All steps are made, broken or not: an example that only just fools the surrogate transfers less.

Differences from the papers, here and in each method: the loss is :func:`ce` of `_losses`, whose gradient is that of the
cross-entropy divided by 1 - p_y; slopes are normalised by their mean absolute value, as the published code does, and by
their length under l2, where the papers give only linf; and the system is asked only about inputs in the box [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import Ball, ConfigError, Norm, Refused, SampleRandom, Target

from .._base.losses import AttackLoss, row_loss
from .._base.vectors import columns

__all__ = ["Asked", "Slope", "Tuning", "ascend_with_momentum", "image_size", "not_negative", "plain"]


def not_negative(**values: float) -> None:
    """Refuse a negative number.

    Raises:
        ConfigError: naming the field.
    """
    for name, value in values.items():
        if not value >= 0:
            raise ConfigError(f"attack.{name} is {value}; expected at least 0")


def image_size(shape: tuple[int, ...], name: str) -> tuple[int, int]:
    """Height and width of images of that `shape` (C, H, W).

    Raises:
        Refused: where it is the shape of no image.
    """
    if len(shape) != 3:
        raise Refused(f"attack.{name} needs images of shape (C, H, W), and one example has shape {tuple(shape)}")
    return shape[1], shape[2]


@dataclass(frozen=True)
class Asked:
    """The examples still worked on, and what is ascended: all that a slope is taken from.

    y: (B,) int64, the labels to leave, or to reach if `targeted`.
    """

    target: Target
    ball: Ball
    y: Tensor
    rng: SampleRandom
    loss: AttackLoss
    targeted: bool

    def rows(self, index: Tensor) -> Asked:
        """The same for the examples at `index` int64."""
        return Asked(
            self.target.rows(index),
            self.ball.rows(index),
            self.y[index],
            self.rng.rows(index),
            self.loss,
            self.targeted,
        )

    def gradient(self, x: Tensor) -> Tensor:
        """(B, *S): the gradient of the loss at `x` (B, *S); one forward and one backward pass."""
        return self.target.gradient(x, row_loss(self.loss, self.y, targeted=self.targeted))[0]

    def gradient_through(self, change: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """(B, *S): the gradient at `x` (B, *S) of the loss after `change`; one forward and one backward pass."""
        leaf = x.detach().requires_grad_(True)
        with torch.enable_grad():
            changed = change(leaf)
        (pulled,) = torch.autograd.grad(changed, leaf, self.gradient(changed.detach()))
        return pulled


Slope = Callable[[Asked, Tensor, Tensor, int], Tensor]
"""From the examples, x_adv (B, *S), the velocity (B, *S) and the number of the step to the slope (B, *S)."""

Tuning = Callable[[Asked, Tensor, Tensor, int], Tensor]
"""From the examples, x_adv (B, *S), its slope (B, *S) and the step to what is added to the next slope (B, *S)."""


def plain(asked: Asked, x_adv: Tensor, velocity: Tensor, step: int) -> Tensor:
    """(B, *S): the gradient where the attack stands."""
    return asked.gradient(x_adv)


def _unit(slope: Tensor, norm: Norm) -> Tensor:
    """(B, *S): each row divided by its mean absolute value, or by its length under l2; zero rows stay zero."""
    flat = slope.flatten(1)
    size = flat.square().mean(1).sqrt() * flat.shape[1] ** 0.5 if norm is Norm.l2 else flat.abs().mean(1)
    size = torch.where(size > 0, size, torch.ones_like(size))
    return slope / columns(size, slope)


def ascend_with_momentum(
    asked: Asked,
    *,
    steps: int,
    step_size: float,
    momentum: float,
    slope: Slope = plain,
    tuning: Tuning | None = None,
    passes: int = 1,
) -> Tensor:
    """Repeat v <- momentum * v + unit(slope), x <- project(x + step_size * steepest(v)), from the clean input.

    Without momentum, and with the plain slope, this is iterative FGSM.

    Args:
        asked: the examples. step_size: length of a step in the ball's norm.
        slope: what is ascended. tuning: what the next slope is corrected by, if anything.
        passes: how often a step asks about an example, forward and backward; one whose query budget does not last for
            another step keeps its iterate.

    Returns:
        x_adv (B, *S): the last iterates. Cost: `steps` * `passes` forward and backward passes per example.
    """
    result = asked.ball.x
    index = torch.arange(len(result), device=result.device)
    x_adv, velocity, correction = result, torch.zeros_like(result), torch.zeros_like(result)
    for step in range(steps):
        left = asked.target.remaining()
        if left is not None and bool((left < passes).any()):
            result = result.index_copy(0, index, x_adv)
            kept = (left >= passes).nonzero().squeeze(1)
            asked, index, x_adv = asked.rows(kept), index[kept], x_adv[kept]
            velocity, correction = velocity[kept], correction[kept]
        if len(index) == 0:
            return result
        here = slope(asked, x_adv, velocity, step)
        velocity = momentum * velocity + _unit(here + correction, asked.ball.norm)
        if tuning is not None:
            correction = tuning(asked, x_adv, here, step)
        x_adv = asked.ball.project(x_adv.add(asked.ball.steepest(velocity), alpha=step_size))
    return result.index_copy(0, index, x_adv)
