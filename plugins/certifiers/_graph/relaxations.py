"""Linear relaxations, propagated backwards. Zhang et al., NeurIPS 2018, arXiv:1811.00866 (CROWN).

A linear combination of values is bounded below by one of the inputs: affine nodes propagate it to their source by their
transpose, and a kink by a line below or above it, according to the sign of the coefficient. For ReLU between l < 0 < u
the line above has slope u / (u - l) and value -u l / (u - l) at 0; the line below has any slope in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .balls import Around
from .boxes import Interval, step
from .graph import Graph
from .nodes import Add, Affine, Maximum, Node, Rectifier

__all__ = ["Kink", "kinks", "lower_bound"]

ELEMENTS = 1 << 21
"""Largest number of coefficients of the widest node held at once."""


@dataclass(frozen=True)
class Kink:
    """Lines below and above relu for an argument between bounds: the source of a rectifier, or left - right.

    open: (B, *shape) bool, the argument may have either sign. above, rise: (B, *shape) slope of the line above, and its
    value at 0. below: (B, M or 1, *shape) slope of the line below, which is 0 at 0; free in [0, 1] where open.
    """

    open: Tensor
    above: Tensor
    rise: Tensor
    below: Tensor

    @classmethod
    def of(cls, low: Tensor, high: Tensor) -> Kink:
        """Relaxation for bounds (B, *shape); the line below minimises the enclosed area: slope 1 if u >= -l, else 0."""
        either = (low < 0) & (high > 0)
        active = (low >= 0).to(low.dtype)
        above = torch.where(either, high / (high - low).clamp_min(1e-300), active)
        below = torch.where(either, (high >= -low).to(low.dtype), active)
        return cls(either, above, torch.where(either, -low * above, 0.0), below[:, None])

    def rows(self, index: Tensor) -> Kink:
        """Relaxation of some of the rows."""
        return Kink(self.open[index], self.above[index], self.rise[index], self.below[index])

    def sloped(self, slope: Tensor) -> Kink:
        """Copy with another slope (B, M, *shape) in [0, 1] of the line below, where it is free."""
        return replace(self, below=torch.where(self.open[:, None], slope, self.below))

    def through(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients (B, M, *shape) of relu propagated to its argument, and the constant (B, M) that this adds."""
        up = coefficients.clamp_min(0.0)
        down = coefficients - up
        cost = (down.flatten(2) @ self.rise.flatten(1)[:, :, None]).squeeze(2)
        return up * self.below + down * self.above[:, None], cost


def kinks(graph: Graph, around: Around, *, backwards: bool = True) -> dict[Node, Kink]:
    """Relaxation of every kink for all inputs of a ball.

    Args:
        backwards: use the bounds of CROWN before kinks where these are tighter than intervals; otherwise intervals
        alone
            (CROWN-IBP, Zhang et al., ICLR 2020).
    """
    found: dict[Node, Interval] = {}
    relaxed: dict[Node, Kink] = {}
    direct: set[Node] = {graph.input}
    for node in graph.nodes:
        if not node.sources:
            found[node] = around.low, around.high
            continue
        if isinstance(node, Rectifier | Maximum):
            left = found[node.sources[0]]
            if isinstance(node, Rectifier):
                bounds = left
            else:
                right = found[node.right]
                bounds = left[0] - right[1], left[1] - right[0]
            if backwards and node.sources[0] not in direct:
                bounds = _tightened(graph, node, bounds, relaxed, around)
            relaxed[node] = Kink.of(*bounds)
            if isinstance(node, Rectifier):
                found[node.source] = bounds
        elif isinstance(node, Affine) and around.norm.value == "linf" and _is_direct(node, direct, graph):
            direct.add(node)
        found[node] = step(node, [found[source] for source in node.sources])
    return relaxed


def _is_direct(node: Affine, direct: set[Node], graph: Graph) -> bool:
    """True if intervals are exact before a kink here: at most one affine map of features of the box."""
    if node.source not in direct:
        return False
    from .nodes import Scale, Select

    seen, at = 0, node
    while isinstance(at, Affine):
        seen += not isinstance(at, Scale | Select)
        at = at.source  # type: ignore[assignment]
    return seen <= 1


def _tightened(graph: Graph, node: Node, bounds: Interval, relaxed: dict[Node, Kink], around: Around) -> Interval:
    """Bounds of the argument of a kink, by relaxations where intervals leave its sign open."""
    low, high = bounds[0].flatten(1).clone(), bounds[1].flatten(1).clone()
    row, unit = ((low < 0) & (high > 0)).nonzero(as_tuple=True)
    size = max(1, ELEMENTS // (2 * max(n.size for n in graph.nodes)))
    for r, u in zip(row.split(size), unit.split(size), strict=True):
        one = torch.zeros(len(u), 2, node.size, dtype=low.dtype, device=low.device)
        one[torch.arange(len(u), device=low.device), :, u] = torch.tensor(
            [1.0, -1.0], dtype=low.dtype, device=low.device
        )
        signed = one.reshape(len(u), 2, *node.shape)
        starts = {node.sources[0]: signed}
        if isinstance(node, Maximum):
            starts[node.right] = -signed
        here = {below: kink.rows(r) for below, kink in relaxed.items()}
        least = lower_bound(graph, starts, here, around.rows(r))
        low[r, u] = torch.maximum(low[r, u], least[:, 0])
        high[r, u] = torch.minimum(high[r, u], -least[:, 1])
    return low.reshape(bounds[0].shape), torch.maximum(low, high).reshape(bounds[0].shape)


def lower_bound(graph: Graph, starts: dict[Node, Tensor], relaxed: dict[Node, Kink], around: Around) -> Tensor:
    """Lower bounds of the sum of coefficients times values, for all inputs of a ball, (B, M).

    Args:
        starts: coefficients (B, M, *shape) by node. relaxed: the kinks below these nodes.
    """
    pending = dict(starts)
    count = next(iter(starts.values())).shape[:2]
    constant = torch.zeros(count, dtype=around.x.dtype, device=around.x.device)

    def give(node: Node, coefficients: Tensor) -> None:
        pending[node] = pending[node] + coefficients if node in pending else coefficients

    for node in reversed(graph.nodes):
        a = pending.pop(node, None)
        if a is None:
            continue
        if isinstance(node, Affine):
            rows = a.reshape(-1, *node.shape)
            if node.shift is not None:
                shift = node.shift.expand(1, *node.shape).flatten()
                constant = constant + (rows.flatten(1) @ shift).reshape(count)
            give(node.source, node.adjoint(rows).reshape(*count, *node.source.shape))
        elif isinstance(node, Rectifier):
            passed, cost = relaxed[node].through(a)
            steep = node.above - node.below
            constant = constant + steep * cost
            give(node.source, steep * passed + node.below * a)
        elif isinstance(node, Maximum):  # right + relu(left - right)
            passed, cost = relaxed[node].through(a)
            constant = constant + cost
            give(node.left, passed)
            give(node.right, a - passed)
        elif isinstance(node, Add):
            give(node.left, a)
            give(node.right, a)
        else:
            constant = constant + around.least(a)
    return constant
