"""Operators that rearrange features: reshaping, slices, permutations, zero padding, joining."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .layers import NotUnderstoodError
from .nodes import Add, Node, Select
from .tracing import ROWS

__all__ = ["HANDLERS"]

_aten = torch.ops.aten
_RESHAPING = (_aten.view.default, _aten._unsafe_view.default, _aten.reshape.default)


def _moved(operation: Any) -> Any:
    """Handler that determines the new position of each feature by applying the operator to numbers."""

    def handler(*args: Any, **kwargs: Any) -> Any:
        if operation in _RESHAPING and len(args) == 2 and isinstance(args[0], Node) and args[1][0] == ROWS:
            return Select(_whole(args[1][1:], args[0].size), args[0])
        nodes = [node for node in _flat(args) if isinstance(node, Node)]
        if any(isinstance(value, Tensor) for value in _flat(args)):
            raise NotUnderstoodError("it joins the input with constants")
        parts = [_places(operation, args, kwargs, node) for node in nodes]
        if isinstance(parts[0], list):
            return [_select(nodes[0], place) for place in parts[0]]
        found = _select(nodes[0], parts[0])
        for node, place in zip(nodes[1:], parts[1:], strict=True):
            found = Add(found.shape, found, _select(node, place))
        return found

    return handler


def _whole(sides: list[int], size: int) -> tuple[int, ...]:
    """Shape with its single unknown side, -1, filled in."""
    known = math.prod(side for side in sides if side != -1)
    return tuple(size // known if side == -1 else side for side in sides)


def _flat(value: Any) -> list[Any]:
    return [item for part in value for item in _flat(part)] if isinstance(value, list | tuple) else [value]


def _places(operation: Any, args: Any, kwargs: Any, node: Node) -> Any:
    """One plus the position of each feature among those of `node` in all rows, (ROWS, *shape) int64; 0 for others."""

    def numbered(value: Any) -> Any:
        if isinstance(value, Node):
            numbers = torch.arange(ROWS * value.size).reshape(ROWS, *value.shape) + 1
            return numbers if value is node else torch.zeros_like(numbers)
        return [numbered(item) for item in value] if isinstance(value, list | tuple) else value

    moved = operation(*(numbered(arg) for arg in args), **kwargs)
    return moved if isinstance(moved, Tensor) else list(moved)


def _select(node: Node, places: Tensor) -> Node:
    if len(places) != ROWS:
        raise NotUnderstoodError("it joins rows")
    places = places - 1
    index, shape = places[0].flatten(), tuple(places.shape[1:])
    steps = (torch.arange(ROWS) * node.size).reshape(-1, 1)
    expected = torch.where(index >= 0, index + steps, -1)
    if not torch.equal(places.flatten(1), expected) or bool((index >= node.size).any()):
        raise NotUnderstoodError("it joins rows")
    if torch.equal(index, torch.arange(node.size)):
        return node if shape == node.shape else Select(shape, node)
    return Select(shape, node, index=index)


def _pad(node: Node, pad: list[int], value: float = 0.0) -> Any:
    if value != 0:
        raise NotUnderstoodError(f"it pads with {value}, not 0")
    return _moved(_aten.constant_pad_nd.default)(node, pad)


def _window(node: Node, kernel: list[int], stride: list[int], offset: tuple[int, int]) -> Node:
    """Values at one offset of each window, (C, H', W')."""
    sides = [(node.shape[1 + at] - kernel[at]) // stride[at] + 1 for at in (0, 1)]
    ends = [offset[at] + stride[at] * (sides[at] - 1) + 1 for at in (0, 1)]
    part = (slice(None), *(slice(offset[at], ends[at], stride[at]) for at in (0, 1)))
    index = torch.arange(node.size).reshape(node.shape)[part]
    return Select(tuple(index.shape), node, index=index.flatten(), part=part)


def windows(node: Node, kernel: list[int], stride: list[int]) -> list[Node]:
    """Values (C, H', W') at each offset of the windows that slide over a source (C, H, W)."""
    return [_window(node, kernel, stride, (i, j)) for i in range(kernel[0]) for j in range(kernel[1])]


_MOVERS = (
    *_RESHAPING,
    _aten.permute.default,
    _aten.transpose.int,
    _aten.slice.Tensor,
    _aten.select.int,
    _aten.split.Tensor,
    _aten.split_with_sizes.default,
    _aten.unbind.int,
    _aten.squeeze.dim,
    _aten.squeeze.dims,
    _aten.unsqueeze.default,
    _aten.expand.default,
    _aten.flip.default,
    _aten.pixel_shuffle.default,
    _aten.pixel_unshuffle.default,
    _aten.cat.default,
    _aten.stack.default,
    _aten.roll.default,
)

HANDLERS: dict[Any, Any] = {
    **{operation: _moved(operation) for operation in _MOVERS},
    _aten.constant_pad_nd.default: _pad,
}
