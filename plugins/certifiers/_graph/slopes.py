"""Upper bounds of Lipschitz constants of a computation in the l2 norm."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from .graph import Graph
from .nodes import Add, Affine, Convolution, Linear, Maximum, Node, Rectifier, Scale, Select

__all__ = ["constants", "pair_constants", "spectral_norm"]

MOST_ENTRIES = 1 << 24
"""Largest size of a matrix whose singular values are computed; larger maps have the bound sqrt(norm_1 norm_inf)."""
UP = 1.0 + 1e-9


def spectral_norm(node: Affine) -> float:
    """Largest singular value of an affine node, or an upper bound of it."""
    if isinstance(node, Scale):
        return float(node.scale.abs().amax())
    if isinstance(node, Select):
        if node.index is None or not bool((node.index >= 0).any()):
            return 1.0
        return math.sqrt(float(torch.bincount(node.index[node.index >= 0]).amax()))
    if isinstance(node, Linear):
        return float(torch.linalg.matrix_norm(node.weight, 2)) * UP
    assert isinstance(node, Convolution)
    weight, (rows, columns) = node.weight, (node.size, node.source.size)
    if rows * columns <= MOST_ENTRIES:
        unit = torch.eye(rows, dtype=weight.dtype, device=weight.device).reshape(rows, *node.shape)
        matrix = node.adjoint(unit).flatten(1)
        gram = matrix @ matrix.T if rows < columns else matrix.T @ matrix
        return math.sqrt(float(torch.linalg.eigvalsh(gram)[-1].clamp_min(0.0))) * UP
    largest_row = node.magnitude(torch.ones(1, *node.source.shape, dtype=weight.dtype, device=weight.device)).amax()
    absolute = replace(node, weight=weight.abs())
    largest_column = absolute.adjoint(torch.ones(1, *node.shape, dtype=weight.dtype, device=weight.device)).amax()
    return math.sqrt(float(largest_row * largest_column)) * UP


def constants(graph: Graph) -> dict[Node, float]:
    """Upper bound of every node's Lipschitz constant with respect to the input."""
    found: dict[Node, float] = {}
    for node in graph.nodes:
        at = [found[source] for source in node.sources]
        if isinstance(node, Affine):
            found[node] = at[0] * spectral_norm(node)
        elif isinstance(node, Rectifier):
            found[node] = at[0] * max(abs(node.below), abs(node.above))
        elif isinstance(node, Add):
            found[node] = at[0] + at[1]
        elif isinstance(node, Maximum):
            found[node] = found[node.left.sources[0]] if _disjoint(node) else (at[0] ** 2 + at[1] ** 2) ** 0.5
        else:
            found[node] = 1.0
    return found


def _disjoint(node: Maximum) -> bool:
    """True if it compares different features of one value, none of them twice."""
    left, right = node.left, node.right
    if not isinstance(left, Select) or not isinstance(right, Select) or left.source is not right.source:
        return False
    if left.index is None or right.index is None or left.shift is not None or right.shift is not None:
        return False
    both = torch.cat([left.index, right.index])
    return len(both.unique()) == len(both)


def pair_constants(graph: Graph, coefficients: Tensor) -> Tensor:
    """Lipschitz constants of combinations (B, M, K) of the scores, with the last affine maps merged in, (B, M)."""
    node, count = graph.logits, coefficients.shape[:2]
    while isinstance(node, Affine):
        coefficients = node.adjoint(coefficients.reshape(-1, *node.shape)).reshape(*count, *node.source.shape)
        node = node.source
    return coefficients.flatten(2).square().sum(2).sqrt() * constants(graph)[node] * UP
