"""Input sets of proofs: a ball of a norm, intersected with the box [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import Norm

__all__ = ["Around"]


@dataclass(frozen=True)
class Around:
    """All inputs of the box within a distance of each row. x: (B, *S) float64. radius: (B,). norm: linf, l2 or l1."""

    x: Tensor
    radius: Tensor
    norm: Norm

    @property
    def low(self) -> Tensor:
        """Smallest value of each feature, (B, *S)."""
        return (self.x - self._columns()).clamp_min(0.0).minimum(self.x)

    @property
    def high(self) -> Tensor:
        """Largest value of each feature, (B, *S)."""
        return (self.x + self._columns()).clamp_max(1.0).maximum(self.x)

    def _columns(self) -> Tensor:
        return self.radius.reshape(-1, *[1] * (self.x.ndim - 1))

    def rows(self, index: slice | Tensor) -> Around:
        """Input sets of some of the rows."""
        return Around(self.x[index], self.radius[index], self.norm)

    def least(self, coefficients: Tensor) -> Tensor:
        """Lower bound of a . x over the ball, for `coefficients` a (B, M, *S); exact under linf, (B, M).

        Under l2 and l1 the larger of two bounds: Hoelder's inequality, without the box, and the ball's bounding box,
        without the norm.
        """
        flat = coefficients.flatten(2)
        middle, width = ((self.low + self.high) / 2).flatten(1)[:, :, None], ((self.high - self.low) / 2).flatten(1)
        boxed = (flat @ middle - flat.abs() @ width[:, :, None]).squeeze(2)
        if self.norm is Norm.linf:
            return boxed
        dual = flat.square().sum(2).sqrt() if self.norm is Norm.l2 else flat.abs().amax(2)
        free = (flat @ self.x.flatten(1)[:, :, None]).squeeze(2) - self.radius[:, None] * dual
        return torch.maximum(boxed, free)
