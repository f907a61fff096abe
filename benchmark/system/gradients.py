"""Steps before a network whose gradients are not those that torch would take."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["clipped", "straight_through"]


class _StraightThrough(torch.autograd.Function):
    """The value of one tensor with the gradient of another: BPDA (Athalye et al., ICML 2018, section 4.1)."""

    @staticmethod
    def forward(ctx: object, value: Tensor, surrogate: Tensor) -> Tensor:
        """`value`, unchanged."""
        return value.view_as(value)

    @staticmethod
    def backward(ctx: object, *grads: Tensor) -> tuple[None, Tensor]:
        """The gradient goes to the surrogate."""
        return None, grads[0]


def straight_through(value: Tensor, surrogate: Tensor) -> Tensor:
    """`value` (any shape), with gradients that flow to `surrogate` (the same shape) in its place."""
    passed: Tensor = _StraightThrough.apply(value, surrogate)  # type: ignore[no-untyped-call]
    return passed


def clipped(x: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Clip `x` (any shape) to [low, high], with gradient 1 also where it is exactly `low` or `high`.

    The gradient of `torch.clamp` there is 1 before torch 2.14 and 0 from then on: black and white pixels would lose
    their gradient, and attacks would be weaker without a word.
    """
    bounded = x.detach().clamp(low, high)
    return torch.where(x == bounded, x, bounded)
