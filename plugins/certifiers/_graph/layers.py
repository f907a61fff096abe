"""Operators of layers: dense, convolution, averages, batch normalisation in evaluation mode."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .nodes import Convolution, Linear, Node, Scale, Select

__all__ = ["HANDLERS", "NotUnderstoodError"]

_aten = torch.ops.aten


class NotUnderstoodError(Exception):
    """An operator is used in a way that no node represents."""


def dense(node: Any, matrix: Any) -> Node:
    """Product of (B, D) and a constant (D, E)."""
    if not isinstance(node, Node) or not isinstance(matrix, Tensor):
        raise NotUnderstoodError("its weights depend on the input")
    return Linear((matrix.shape[1],), node, weight=matrix.T)


def dense_with_bias(bias: Any, node: Any, matrix: Any, *, beta: float = 1, alpha: float = 1) -> Node:
    """Bias plus the product of (B, D) and a constant (D, E)."""
    if not isinstance(bias, Tensor) or beta != 1 or alpha != 1:
        raise NotUnderstoodError("it is scaled, or its bias depends on the input")
    plain = dense(node, matrix)
    assert isinstance(plain, Linear)
    return Linear(plain.shape, plain.source, shift=bias.reshape(1, -1).expand(1, *plain.shape), weight=plain.weight)


def linear(node: Any, weight: Any, bias: Any = None) -> Node:
    """Dense layer recorded as a single operator."""
    matrix = weight.T if isinstance(weight, Tensor) else weight
    return dense(node, matrix) if bias is None else dense_with_bias(bias, node, matrix)


def _sides(kernel: Any, node: Node, stride: Any, padding: Any, dilation: Any) -> tuple[int, ...]:
    return tuple(
        (node.shape[1 + at] + 2 * padding[at] - dilation[at] * (kernel[at] - 1) - 1) // stride[at] + 1 for at in (0, 1)
    )


def convolution(
    node: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool, _: Any, groups: int
) -> Node:
    """Convolution of images."""
    if not isinstance(node, Node) or not isinstance(weight, Tensor) or isinstance(bias, Node):
        raise NotUnderstoodError("its weights depend on the input")
    if transposed or weight.ndim != 4:
        raise NotUnderstoodError("it is transposed, or not of images")
    pair = [(pairs[0], pairs[-1]) for pairs in (stride, padding, dilation)]
    shape = (len(weight), *_sides(weight.shape[2:], node, *pair))
    shift = None if bias is None else bias.reshape(1, -1, 1, 1)
    return Convolution(
        shape, node, shift=shift, weight=weight, stride=pair[0], padding=pair[1], dilation=pair[2], groups=groups
    )


def average(
    node: Node,
    kernel: Any,
    stride: Any = (),
    padding: Any = (0, 0),
    ceil: bool = False,
    count: bool = True,
    by: Any = None,
) -> Node:
    """Mean of each window, as a convolution of each channel."""
    if ceil or by is not None or (any(padding) and not count) or len(node.shape) != 3:
        raise NotUnderstoodError("its windows are not all divided by their size")
    kernel = [kernel[0], kernel[-1]]
    stride = (stride[0], stride[-1]) if len(stride) else tuple(kernel)
    padding = (padding[0], padding[-1])
    channels = node.shape[0]
    weight = torch.full((channels, 1, *kernel), 1.0 / (kernel[0] * kernel[1]), dtype=torch.float64)
    shape = (channels, *_sides(kernel, node, stride, padding, (1, 1)))
    return Convolution(shape, node, weight=weight, stride=stride, padding=padding, groups=channels)


def adaptive_average(node: Node, sides: Any) -> Node:
    """Mean of windows that divide the image evenly."""
    if any(node.shape[1 + at] % sides[at] for at in (0, 1)):
        raise NotUnderstoodError(f"it does not divide {node.shape[1]}x{node.shape[2]} evenly into {sides}")
    return average(node, [node.shape[1 + at] // sides[at] for at in (0, 1)])


def mean(node: Node, dims: Any, keep: bool = False, *, dtype: Any = None) -> Node:
    """Mean over the height and the width of images, or over all features of a row."""
    axes = sorted(axis % (len(node.shape) + 1) for axis in dims)
    if dtype is not None or axes not in ([2, 3], [1]) or len(node.shape) != max(axes):
        raise NotUnderstoodError("it is not a mean over the pixels of images")
    if axes == [1]:
        weight = torch.full((1, node.size), 1.0 / node.size, dtype=torch.float64)
        return Select((1,), Linear((1,), node, weight=weight)) if keep else _no_feature()
    whole = average(node, node.shape[1:])
    return whole if keep else Select((node.shape[0],), whole)


def _no_feature() -> Node:
    raise NotUnderstoodError("it leaves no feature")


def normalise(
    node: Any, weight: Any, bias: Any, middle: Any, variance: Any, training: bool, _: float, eps: float
) -> list[Any]:
    """Batch normalisation by stored statistics."""
    if training or middle is None or any(isinstance(value, Node) for value in (weight, bias, middle, variance)):
        raise NotUnderstoodError("it normalises by statistics of the batch")
    scale = (variance + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    shift = -middle * scale if bias is None else bias - middle * scale
    fit = (1, -1, *[1] * (len(node.shape) - 1))
    return [Scale(node.shape, node, shift=shift.reshape(fit), scale=scale.reshape(fit)), None, None]


def normalise_always(node: Any, weight: Any, bias: Any, middle: Any, variance: Any, momentum: float, eps: float) -> Any:
    """Batch normalisation by the operator that is always in evaluation mode."""
    return normalise(node, weight, bias, middle, variance, False, momentum, eps)


HANDLERS: dict[Any, Any] = {
    _aten.mm.default: dense,
    _aten.addmm.default: dense_with_bias,
    _aten.linear.default: linear,
    _aten.convolution.default: convolution,
    _aten.avg_pool2d.default: average,
    _aten._adaptive_avg_pool2d.default: adaptive_average,
    _aten.mean.dim: mean,
    _aten.native_batch_norm.default: normalise,
    _aten._native_batch_norm_legit_no_training.default: normalise_always,
    _aten.cudnn_batch_norm.default: normalise,
}
