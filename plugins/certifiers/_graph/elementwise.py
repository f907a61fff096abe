"""Elementwise operators: sums, constant factors, rectifiers, clipping, maxima and minima."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .layers import NotUnderstoodError
from .moving import windows
from .nodes import Add, Maximum, Node, Rectifier, Scale, Select, Window
from .tracing import ROWS

__all__ = ["HANDLERS"]

_aten = torch.ops.aten


def _constant(value: Any, node: Node) -> Tensor:
    """Number, or tensor that broadcasts to (B, *shape) of a node and is the same for every row."""
    if isinstance(value, Node):
        raise NotUnderstoodError("it multiplies two values that depend on the input")
    found = torch.as_tensor(value, dtype=torch.float64) if not isinstance(value, Tensor) else value
    if found.ndim > len(node.shape) and len(found) == ROWS and bool((found == found[:1]).all()):
        found = found[:1]
    if found.ndim > len(node.shape) and found.shape[0] != 1:
        raise NotUnderstoodError("a constant differs from row to row")
    try:
        fits = torch.broadcast_shapes(found.shape, (1, *node.shape)) == (1, *node.shape)
    except RuntimeError:
        fits = False
    if not fits:
        raise NotUnderstoodError("a constant has another shape")
    return found


def scaled(node: Any, factor: Any) -> Node:
    """Each feature times a constant."""
    if not isinstance(node, Node):
        node, factor = factor, node
    return Scale(node.shape, node, scale=_constant(factor, node))


def divided(node: Any, by: Any) -> Node:
    """Each feature divided by a constant."""
    if not isinstance(node, Node) or isinstance(by, Node):
        raise NotUnderstoodError("it divides by a value that depends on the input")
    return Scale(node.shape, node, scale=1.0 / _constant(by, node))


def added(left: Any, right: Any, *, alpha: float = 1) -> Node:
    """left + alpha * right."""
    if isinstance(left, Node) and isinstance(right, Node):
        if left.shape != right.shape:
            raise NotUnderstoodError(f"it adds values of shapes {left.shape} and {right.shape}")
        return Add(left.shape, left, right if alpha == 1 else scaled(right, alpha))
    if isinstance(left, Node):
        shift = alpha * _constant(right, left)
        return Scale(left.shape, left, shift=shift, scale=torch.ones_like(shift))
    shift = _constant(left, right)
    return Scale(right.shape, right, shift=shift, scale=torch.full_like(shift, alpha))


def subtracted(left: Any, right: Any, *, alpha: float = 1) -> Node:
    """left - alpha * right."""
    return added(left, right, alpha=-alpha)


def subtracted_from(right: Any, left: Any, alpha: float = 1) -> Node:
    """left - alpha * right, with the operands in the order of torch.rsub."""
    return added(left, right, alpha=-alpha)


def negated(node: Node) -> Node:
    """-v."""
    return scaled(node, -1.0)


def rectified(node: Node) -> Node:
    """Node of a ReLU."""
    return Rectifier(node.shape, node)


def leaky(node: Node, slope: float = 0.01) -> Node:
    """Node of a leaky ReLU."""
    if not 0 <= slope <= 1:
        raise NotUnderstoodError(f"its slope {slope} is not between 0 and 1")
    return Rectifier(node.shape, node, slope, 1.0)


def absolute(node: Node) -> Node:
    """Node of the absolute value."""
    return Rectifier(node.shape, node, -1.0, 1.0)


def raised_to(node: Node, low: Any) -> Node:
    """max(v, low): low + relu(v - low)."""
    return added(rectified(subtracted(node, low)), low)


def lowered_to(node: Node, high: Any) -> Node:
    """min(v, high)."""
    return negated(raised_to(negated(node), -high))


def clipped(node: Node, low: Any = None, high: Any = None) -> Node:
    """min(max(v, low), high)."""
    found = node if low is None else raised_to(node, low)
    return found if high is None else lowered_to(found, high)


def squashed(node: Node, low: Any = -1.0, high: Any = 1.0) -> Node:
    """Node of Hardtanh, or ReLU6."""
    return clipped(node, low, high)


def larger(left: Any, right: Any) -> Node:
    """Elementwise maximum."""
    if isinstance(left, Node) and isinstance(right, Node):
        if left.shape != right.shape:
            raise NotUnderstoodError(f"it compares values of shapes {left.shape} and {right.shape}")
        return Maximum(left.shape, left, right)
    return raised_to(left, right) if isinstance(left, Node) else raised_to(right, left)


def smaller(left: Any, right: Any) -> Node:
    """Elementwise minimum."""
    if isinstance(left, Node) and isinstance(right, Node):
        return negated(larger(negated(left), negated(right)))
    return lowered_to(left, right) if isinstance(left, Node) else lowered_to(right, left)


def max_pool(
    node: Node, kernel: Any, stride: Any = (), padding: Any = (0, 0), dilation: Any = (1, 1), ceil: bool = False
) -> list[Any]:
    """Maximum of each window."""
    if any(padding) or ceil or any(step != 1 for step in dilation) or len(node.shape) != 3:
        raise NotUnderstoodError("its windows are padded or dilated")
    kernel = [kernel[0], kernel[-1]]
    stride = [stride[0], stride[-1]] if len(stride) else kernel
    values = windows(node, kernel, stride)
    while len(values) > 1:
        paired = [larger(a, b) for a, b in zip(values[::2], values[1::2], strict=False)]
        values = paired + values[len(values) - len(values) % 2 :]
    last = values[0]
    if isinstance(last, Maximum):
        last = replace(last, window=Window(node, (kernel[0], kernel[1]), (stride[0], stride[1])))
    return [last, None]


def same(node: Node, *_: Any, **options: Any) -> Node:
    """The value itself; only casts to 32 or 64 bit floats are accepted."""
    if options.get("dtype") not in (None, torch.float32, torch.float64):
        raise NotUnderstoodError(f"it rounds to {options['dtype']}")
    return Select(node.shape, node)


HANDLERS: dict[Any, Any] = {
    _aten.add.Tensor: added,
    _aten.add.Scalar: added,
    _aten.sub.Tensor: subtracted,
    _aten.sub.Scalar: subtracted,
    _aten.rsub.Scalar: subtracted_from,
    _aten.rsub.Tensor: subtracted_from,
    _aten.mul.Tensor: scaled,
    _aten.mul.Scalar: scaled,
    _aten.div.Tensor: divided,
    _aten.div.Scalar: divided,
    _aten.neg.default: negated,
    _aten.relu.default: rectified,
    _aten.leaky_relu.default: leaky,
    _aten.abs.default: absolute,
    _aten.clamp.default: clipped,
    _aten.clamp.Tensor: clipped,
    _aten.clamp_min.default: raised_to,
    _aten.clamp_max.default: lowered_to,
    _aten.hardtanh.default: squashed,
    _aten.maximum.default: larger,
    _aten.minimum.default: smaller,
    _aten.max_pool2d_with_indices.default: max_pool,
    _aten.clone.default: same,
    _aten.alias.default: same,
    _aten.detach.default: same,
    _aten.lift_fresh_copy.default: same,
    _aten._to_copy.default: same,
}
