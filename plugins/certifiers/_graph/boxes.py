"""Interval arithmetic over a computation. Gowal et al., ICCV 2019, arXiv:1810.12715, section 3."""

from __future__ import annotations

import torch
from torch import Tensor

from .graph import Graph
from .nodes import Add, Affine, Maximum, Node, Rectifier, Select

__all__ = ["Interval", "intervals", "last_intervals", "least_differences"]

Interval = tuple[Tensor, Tensor]


def intervals(graph: Graph, low: Tensor, high: Tensor) -> dict[Node, Interval]:
    """Interval bounds (B, *shape) of every node's values, for all inputs between `low` and `high` (B, *S)."""
    found: dict[Node, Interval] = {}
    for node in graph.nodes:
        found[node] = step(node, [found[source] for source in node.sources]) if node.sources else (low, high)
    return found


def last_intervals(graph: Graph, low: Tensor, high: Tensor) -> dict[Node, Interval]:
    """Intervals that :func:`least_differences` needs, and those they depend on; pooling is one step."""
    wanted = {_before_scores(graph)}
    for node in reversed(graph.nodes):
        if node in wanted:
            wanted.update(_inputs(node))
    found: dict[Node, Interval] = {}
    for node in graph.nodes:
        if node not in wanted:
            continue
        sources = [found[source] for source in _inputs(node)]
        if isinstance(node, Maximum) and node.window is not None:
            found[node] = node.window.apply(sources[0][0]), node.window.apply(sources[0][1])
        else:
            found[node] = step(node, sources) if sources else (low, high)
    return found


def _inputs(node: Node) -> tuple[Node, ...]:
    if isinstance(node, Maximum) and node.window is not None:
        return (node.window.source,)
    return node.sources


def _before_scores(graph: Graph) -> Node:
    """Last node before the final affine layers."""
    node = graph.logits
    while isinstance(node, Affine):
        node = node.source
    return node


def step(node: Node, sources: list[Interval]) -> Interval:
    """Interval of a node from those of its sources."""
    low, high = sources[0]
    if isinstance(node, Select):
        return node.apply(low), node.apply(high)
    if isinstance(node, Affine):
        centre = torch.lerp(low, high, 0.5)
        middle, width = node.apply(centre), node.magnitude(high - centre)
        return middle - width, middle + width
    if isinstance(node, Rectifier):
        ends = node.apply(low), node.apply(high)
        if node.below >= 0:
            return ends
        least = torch.where((low < 0) & (high > 0), 0.0, torch.minimum(*ends))  # both sides fall towards the kink
        return least, torch.maximum(*ends)
    other_low, other_high = sources[1]
    if isinstance(node, Add):
        return low + other_low, high + other_high
    assert isinstance(node, Maximum)
    return torch.maximum(low, other_low), torch.maximum(high, other_high)


def least_differences(graph: Graph, found: dict[Node, Interval], coefficients: Tensor) -> Tensor:
    """Lower bounds of combinations of the scores, with the last affine layers merged into them, (B, M).

    Bounding W_y - W_k directly is tighter than bounding both scores (Gowal et al., section 3.2).

    Args:
        found: from :func:`intervals` or :func:`last_intervals`. coefficients: (B, M, K).
    """
    node, constant = graph.logits, coefficients.new_zeros(coefficients.shape[:2])
    while isinstance(node, Affine):
        rows = coefficients.reshape(-1, *node.shape)
        if node.shift is not None:
            constant = constant + (rows * node.shift).flatten(1).sum(1).reshape(constant.shape)
        coefficients = node.adjoint(rows).reshape(*constant.shape, *node.source.shape)
        node = node.source
    low, high = found[node]
    flat = coefficients.flatten(2)
    middle, width = ((low + high) / 2).flatten(1)[:, :, None], ((high - low) / 2).flatten(1)[:, :, None]
    return constant + (flat @ middle - flat.abs() @ width).squeeze(2)
