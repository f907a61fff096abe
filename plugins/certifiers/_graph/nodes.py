"""Nodes of a piecewise linear computation.

A value is a tensor (B, *shape) of independent rows. Every node is one of: the input, an affine map of one source, a sum
of two, an elementwise function with one kink at zero, or an elementwise maximum of two. Convolutions, pooling, batch
normalisation in evaluation mode, padding, slices, clipping and sorting are built from these.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "Add",
    "Affine",
    "Convolution",
    "Input",
    "Linear",
    "Maximum",
    "Node",
    "Rectifier",
    "Scale",
    "Select",
    "Window",
]


@dataclass(frozen=True, eq=False)
class Node:
    """A value of the computation. shape: of one row."""

    shape: tuple[int, ...]

    @property
    def sources(self) -> tuple[Node, ...]:
        """Values that this one is computed from."""
        return ()

    @property
    def size(self) -> int:
        """Number of features of one row."""
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Input(Node):
    """The input of the system."""


@dataclass(frozen=True, eq=False)
class Affine(Node, ABC):
    """W v + shift for one source v. shift: broadcasts to (B, *shape), or None."""

    source: Node
    shift: Tensor | None = field(default=None, kw_only=True)

    @property
    def sources(self) -> tuple[Node, ...]:
        """The single source."""
        return (self.source,)

    def apply(self, value: Tensor) -> Tensor:
        """W v + shift for `value` v (B, *source.shape), (B, *shape)."""
        out = self.linear(value)
        return out if self.shift is None else out + self.shift

    @abstractmethod
    def linear(self, value: Tensor) -> Tensor:
        """W v, (B, *shape)."""

    @abstractmethod
    def magnitude(self, radius: Tensor) -> Tensor:
        """abs(W) r for `radius` r (B, *source.shape), the half width of an interval, (B, *shape)."""

    @abstractmethod
    def adjoint(self, coefficients: Tensor) -> Tensor:
        """W^T a for `coefficients` a (B, *shape), (B, *source.shape)."""


@dataclass(frozen=True, eq=False)
class Linear(Affine):
    """Dense affine map. weight: (outputs, inputs), for a source of shape (inputs,)."""

    weight: Tensor

    def linear(self, value: Tensor) -> Tensor:
        """W v."""
        return value @ self.weight.T

    def magnitude(self, radius: Tensor) -> Tensor:
        """abs(W) r."""
        return radius @ self.weight.abs().T

    def adjoint(self, coefficients: Tensor) -> Tensor:
        """W^T a."""
        return coefficients @ self.weight


@dataclass(frozen=True, eq=False)
class Convolution(Affine):
    """Convolution. weight: (outputs, inputs / groups, height, width), for a source (inputs, H, W), zero-padded."""

    weight: Tensor
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def _by(self, value: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(value, weight.to(value.dtype), None, self.stride, self.padding, self.dilation, self.groups)

    def linear(self, value: Tensor) -> Tensor:
        """Convolution without its bias."""
        return self._by(value, self.weight)

    def magnitude(self, radius: Tensor) -> Tensor:
        """Convolution by the absolute weights."""
        return self._by(radius, self.weight.abs())

    def adjoint(self, coefficients: Tensor) -> Tensor:
        """Transposed convolution, cropped to the size of the source."""
        kernel = self.weight.shape[2:]
        missing = []
        for at in (0, 1):
            reached = (self.shape[1 + at] - 1) * self.stride[at] + self.dilation[at] * (kernel[at] - 1) + 1
            missing.append(self.source.shape[1 + at] + 2 * self.padding[at] - reached)
        weight = self.weight.to(coefficients.dtype)
        return F.conv_transpose2d(
            coefficients, weight, None, self.stride, self.padding, missing, self.groups, self.dilation
        )


@dataclass(frozen=True, eq=False)
class Scale(Affine):
    """Factor for each feature. scale: broadcasts to (B, *shape)."""

    scale: Tensor

    def linear(self, value: Tensor) -> Tensor:
        """Each feature times its factor."""
        return value * self.scale

    def magnitude(self, radius: Tensor) -> Tensor:
        """Each width times the magnitude of the factor."""
        return radius * self.scale.abs()

    def adjoint(self, coefficients: Tensor) -> Tensor:
        """Coefficients times the same factors."""
        return coefficients * self.scale


@dataclass(frozen=True, eq=False)
class Select(Affine):
    """Features moved, repeated, dropped or replaced by zero.

    index: (size,) int64, position in the flattened source of each feature, -1 for zero; None for the identity.
    part: equivalent slices of the source, if any, which are faster.
    """

    index: Tensor | None = None
    part: tuple[slice, ...] | None = None

    def linear(self, value: Tensor) -> Tensor:
        """Features at their new positions."""
        if self.index is None:
            return value.reshape(len(value), *self.shape)
        if self.part is not None:
            return value[(slice(None), *self.part)]
        flat = value.flatten(1)
        if bool((self.index < 0).any()):
            flat = F.pad(flat, (0, 1))  # index -1 is the zero at the end
        return flat[:, self.index].reshape(len(value), *self.shape)

    def magnitude(self, radius: Tensor) -> Tensor:
        """Widths at their new positions."""
        return self.linear(radius)

    def adjoint(self, coefficients: Tensor) -> Tensor:
        """Coefficients at their original positions, summed where a feature was repeated."""
        if self.index is None:
            return coefficients.reshape(len(coefficients), *self.source.shape)
        if self.part is not None:
            whole = coefficients.new_zeros(len(coefficients), *self.source.shape)
            whole[(slice(None), *self.part)] = coefficients
            return whole
        kept = self.index >= 0
        back = coefficients.new_zeros(len(coefficients), self.source.size)
        back = back.index_add(1, self.index[kept], coefficients.flatten(1)[:, kept])
        return back.reshape(len(coefficients), *self.source.shape)


@dataclass(frozen=True, eq=False)
class Add(Node):
    """left + right, of one shape."""

    left: Node
    right: Node

    @property
    def sources(self) -> tuple[Node, ...]:
        """Both operands."""
        return (self.left, self.right)


@dataclass(frozen=True, eq=False)
class Rectifier(Node):
    """below * v where v < 0 and above * v elsewhere: ReLU (0, 1), leaky (s, 1), absolute value (-1, 1).

    below <= above, so that it is convex.
    """

    source: Node
    below: float = 0.0
    above: float = 1.0

    @property
    def sources(self) -> tuple[Node, ...]:
        """The single source."""
        return (self.source,)

    def apply(self, value: Tensor) -> Tensor:
        """Elementwise value, (B, *shape)."""
        if (self.below, self.above) == (0.0, 1.0):
            return value.relu()
        return torch.where(value < 0, self.below * value, self.above * value)


@dataclass(frozen=True)
class Window:
    """Max pooling of a source (C, H, W)."""

    source: Node
    kernel: tuple[int, int]
    stride: tuple[int, int]

    def apply(self, value: Tensor) -> Tensor:
        """Maximum of each window, (B, C, H', W'), for `value` (B, C, H, W)."""
        return F.max_pool2d(value, self.kernel, self.stride)


@dataclass(frozen=True, eq=False)
class Maximum(Node):
    """Elementwise maximum of left and right.

    window: the pooling equivalent to a tree of such nodes, at its last node; None elsewhere.
    """

    left: Node
    right: Node
    window: Window | None = None

    @property
    def sources(self) -> tuple[Node, ...]:
        """Both operands."""
        return (self.left, self.right)
