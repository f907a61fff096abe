"""A piecewise linear computation: nodes in topological order, and their evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .nodes import Add, Affine, Maximum, Node, Rectifier

__all__ = ["Graph"]


@dataclass(frozen=True)
class Graph:
    """A computation from (B, *shape) in [0, 1] to logits (B, K).

    nodes: each after its sources, the input first, the logits last, and only nodes that the logits depend on.
    """

    nodes: tuple[Node, ...]

    @classmethod
    def of(cls, logits: Node) -> Graph:
        """Graph of the nodes that `logits` depends on."""
        order: dict[Node, None] = {}
        stack: list[tuple[Node, bool]] = [(logits, False)]
        while stack:
            node, ready = stack.pop()
            if node in order:
                continue
            if ready:
                order[node] = None
            else:
                stack += [(node, True), *((source, False) for source in reversed(node.sources))]
        return cls(tuple(order))

    @property
    def logits(self) -> Node:
        """The last node."""
        return self.nodes[-1]

    @property
    def input(self) -> Node:
        """The first node; a computation that ignores its input has no graph."""
        return self.nodes[0]

    def values(self, x: Tensor) -> dict[Node, Tensor]:
        """Values (B, *shape) of all nodes for inputs `x` (B, *S)."""
        values: dict[Node, Tensor] = {}
        for node in self.nodes:
            at = [values[source] for source in node.sources]
            if isinstance(node, Affine | Rectifier):
                values[node] = node.apply(at[0])
            elif isinstance(node, Add):
                values[node] = at[0] + at[1]
            elif isinstance(node, Maximum):
                values[node] = torch.maximum(at[0], at[1])
            else:
                values[node] = x
        return values

    def __call__(self, x: Tensor) -> Tensor:
        """Logits, (B, K), for inputs `x` (B, *S)."""
        return self.values(x)[self.logits]
