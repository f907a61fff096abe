"""Momentum iterative FGSM with gradients at transformed inputs: the loop that the transfer attacks share.

The loop is that of MI-FGSM (Dong et al., CVPR 2018, arXiv:1710.06081, algorithm 1). A method supplies where and how the
slope is taken. All steps are made, broken or not: an example that only just fools the surrogate transfers less.

Differences from the papers, here and in each method: the loss is the log-odds (`losses.ce`), whose gradient is that of
the cross-entropy divided by 1 - p_y; slopes are normalised by their mean absolute value, as the published code does,
and by their length under l2, where the papers give only linf; and the system is asked only about inputs in the box [0,
1].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmark.api import Norm

from .._base.active import Active, Loss
from .._base.vectors import columns

__all__ = ["Slope", "Tuning", "ascend_with_momentum", "gradient_through"]


Slope = Callable[[Active, Tensor, Tensor, int], Tensor]
"""From the rows, x_adv (b, *S), the velocity (b, *S) and the number of the step to the slope (b, *S)."""

Tuning = Callable[[Active, Tensor, Tensor, int], Tensor]
"""From the rows, x_adv (b, *S), its slope (b, *S) and the step to what is added to the next slope (b, *S)."""


def gradient_through(active: Active, change: Callable[[Tensor], Tensor], x: Tensor, loss: Loss) -> Tensor:
    """Gradient (b, *S) at `x` (b, *S) of the loss after `change`; one forward and one backward pass."""
    leaf = x.detach().requires_grad_(True)
    with torch.enable_grad():
        changed = change(leaf)
    (pulled,) = torch.autograd.grad(changed, leaf, active.gradient(changed.detach(), loss)[0])
    return pulled


def _unit(slope: Tensor, norm: Norm) -> Tensor:
    """(B, *S): each row divided by its mean absolute value, or by its length under l2; zero rows stay zero."""
    flat = slope.flatten(1)
    size = flat.square().mean(1).sqrt() * flat.shape[1] ** 0.5 if norm is Norm.l2 else flat.abs().mean(1)
    size = torch.where(size > 0, size, torch.ones_like(size))
    return slope / columns(size, slope)


def ascend_with_momentum(
    active: Active,
    *,
    loss: Loss,
    steps: int,
    step_size: float,
    momentum: float,
    slope: Slope | None = None,
    tuning: Tuning | None = None,
    passes: int = 1,
) -> Tensor:
    """Repeat v <- momentum * v + unit(slope), x <- project(x + step_size * steepest(v)), from the clean input.

    Without momentum and without a slope of its own this is iterative FGSM.

    Args:
        active: the examples. loss: the loss to ascend. step_size: length of a step in the ball's norm.
        slope: direction of ascent; None takes the gradient of the loss. tuning: correction of the next slope, if any.
        passes: forward and backward passes per step; an example whose query budget does not last for another step keeps
            its iterate.

    Returns:
        x_adv (B, *S): the last iterates. Cost: `steps` * `passes` forward and backward passes per example.
    """
    result = x_adv = active.ball.x
    velocity = correction = torch.zeros_like(x_adv)
    for step in range(steps):
        left = active.target.remaining()
        mask = None if left is None else left >= passes
        active, x_adv, velocity, correction = active.keep(mask, x_adv, velocity, correction)
        if len(active) == 0:
            break
        here = slope(active, x_adv, velocity, step) if slope else active.gradient(x_adv, loss)[0]
        velocity = momentum * velocity + _unit(here + correction, active.ball.norm)
        if tuning is not None:
            correction = tuning(active, x_adv, here, step)
        x_adv = active.ball.project(x_adv.add(active.ball.steepest(velocity), alpha=step_size))
        result = result.index_copy(0, active.index, x_adv)
    return result
