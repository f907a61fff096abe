"""Conversion of a computation to affine layers with ReLU in between, which the exact oracle solves.

Every value is an affine function of the input and of ReLU outputs. Both are non-negative (inputs lie in [0, 1]), so a
ReLU passes them unchanged to any later layer that needs them: residual connections, sorting and pooling become a plain
chain.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import Refused
from benchmark.oracles.relu import Array, ReLUNet

from .graph import Graph
from .nodes import Affine, Maximum, Node, Rectifier

__all__ = ["chain"]

MOST_KINKS = 512
"""Largest number of ReLUs for which an exact distance is found in reasonable time."""


@dataclass
class _Form:
    """Sum over blocks of a matrix (size, block) times the block, plus a constant (size,)."""

    parts: dict[Node, Tensor]
    constant: Tensor

    def plus(self, other: _Form, factor: float = 1.0) -> _Form:
        parts = dict(self.parts)
        for block, matrix in other.parts.items():
            parts[block] = parts[block] + factor * matrix if block in parts else factor * matrix
        return _Form(parts, self.constant + factor * other.constant)

    def times(self, factor: float) -> _Form:
        return _Form({block: factor * m for block, m in self.parts.items()}, factor * self.constant)


def chain(graph: Graph, owner: str) -> ReLUNet:
    """The same function on the box [0, 1], from the flattened input.

    Raises:
        Refused: if it has more than `MOST_KINKS` units with a kink.
    """
    units = sum(node.size for node in graph.nodes if isinstance(node, Rectifier | Maximum))
    if units > MOST_KINKS:
        raise Refused(
            f"{owner} solves networks of at most {MOST_KINKS} ReLUs, but this one has {units}; use certifier=crown"
        )
    with torch.no_grad():
        forms, inside = _forms(graph)
    depth: dict[Node, int] = {graph.input: 0}
    for block, form in inside.items():
        depth[block] = 1 + max((depth[b] for b in form.parts), default=0)
    last = max(depth.values())
    needed = {block: max((depth[b] - 1 for b, f in inside.items() if block in f.parts), default=0) for block in depth}
    for block in forms[graph.logits].parts:
        needed[block] = last
    weights: list[Array] = []
    biases: list[Array] = []
    state = [graph.input]
    for layer in range(1, last + 1):
        fresh = [block for block in inside if depth[block] == layer]
        kept = [block for block in state if needed[block] >= layer]
        carried = [_Form({b: torch.eye(b.size, dtype=torch.float64)}, torch.zeros(b.size).double()) for b in kept]
        _append(weights, biases, [*(inside[b] for b in fresh), *carried], state)
        state = fresh + kept
    _append(weights, biases, [forms[graph.logits]], state)
    return ReLUNet(tuple(weights), tuple(biases))


def _append(weights: list[Array], biases: list[Array], forms: list[_Form], state: list[Node]) -> None:
    """Append the layer that computes `forms` from the blocks of `state`."""
    rows = [
        torch.cat([f.parts.get(b, torch.zeros(len(f.constant), b.size, dtype=torch.float64)) for b in state], 1)
        for f in forms
    ]
    weights.append(torch.cat(rows).numpy())
    biases.append(torch.cat([f.constant for f in forms]).numpy())


def _forms(graph: Graph) -> tuple[dict[Node, _Form], dict[Node, _Form]]:
    """Affine forms of all values, and of the arguments of all positive parts."""
    forms: dict[Node, _Form] = {}
    inside: dict[Node, _Form] = {}
    for node in graph.nodes:
        at = [forms[source] for source in node.sources]
        one = torch.eye(node.size, dtype=torch.float64)
        if isinstance(node, Affine):
            forms[node] = _mapped(node, at[0])
        elif isinstance(node, Rectifier):  # below v + (above - below) relu(v)
            inside[node] = at[0]
            forms[node] = (
                at[0].times(node.below).plus(_Form({node: one}, torch.zeros(node.size)), node.above - node.below)
            )
        elif isinstance(node, Maximum):  # right + relu(left - right)
            inside[node] = at[0].plus(at[1], -1.0)
            forms[node] = at[1].plus(_Form({node: one}, torch.zeros(node.size)))
        elif at:
            forms[node] = at[0].plus(at[1])
        else:
            forms[node] = _Form({node: one}, torch.zeros(node.size, dtype=torch.float64))
    for form in [*forms.values(), *inside.values()]:  # a factor 0 (below of ReLU) leaves nothing
        form.parts = {block: matrix.cpu() for block, matrix in form.parts.items() if bool((matrix != 0).any())}
        form.constant = form.constant.cpu()
    return forms, inside


def _mapped(node: Affine, form: _Form) -> _Form:
    source = node.source.shape
    constant = node.apply(form.constant.double().reshape(1, *source)).flatten()
    parts = {b: node.linear(m.T.reshape(-1, *source)).flatten(1).T for b, m in form.parts.items()}
    return _Form(parts, constant)
