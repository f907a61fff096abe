"""Conversion of recorded operators to nodes; unknown operators are refused."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from benchmark.api import Refused

from . import elementwise, layers, moving
from .graph import Graph
from .nodes import Input, Node
from .tracing import ROWS

__all__ = ["lower"]

Handler = Callable[..., Any]
_aten = torch.ops.aten

HANDLERS: dict[Any, Handler] = {**layers.HANDLERS, **elementwise.HANDLERS, **moving.HANDLERS}
"""Handler of each known operator: from its arguments, which include nodes, to a node or a list of nodes."""

FILLED = {
    *(_aten.zeros_like.default, _aten.ones_like.default, _aten.full_like.default),
    *(_aten.new_zeros.default, _aten.new_ones.default, _aten.new_full.default),
}
"""Operators that depend on the shape of a value only."""


def lower(recorded: fx.GraphModule, shape: tuple[int, ...], owner: str, dtype: torch.dtype = torch.float64) -> Graph:
    """Nodes of a recorded pass.

    Values that do not depend on the input are computed at once, with gradients if enabled.

    Args:
        recorded: from :func:`trace`. shape: of one input. owner: the certifier, for messages. dtype: of all constants.

    Raises:
        Refused: naming the first unknown operator.
    """
    reading = _Reading(recorded, Input(tuple(shape)), owner, dtype)
    for step in recorded.graph.nodes:
        if step.op == "output":
            logits = reading.known.get(step.args[0])
            if not isinstance(logits, Node):
                raise Refused(f"{owner} needs a system whose output depends on its input")
            return Graph.of(logits)
        reading.known[step] = reading.read(step)
    raise AssertionError("a recorded pass ends with its output")


@dataclass
class _Reading:
    recorded: fx.GraphModule
    input: Input
    owner: str
    dtype: torch.dtype

    known: dict[fx.Node, Any] = field(default_factory=dict)

    def read(self, step: fx.Node) -> Any:
        """Node, list of nodes, or constant of a step."""
        if step.op == "placeholder":
            return self.input
        if step.op == "get_attr":
            return _attribute(self.recorded, str(step.target))
        resolved: Any = fx.node.map_arg((step.args, step.kwargs), self.known.__getitem__)
        args, kwargs = resolved
        if step.target is operator.getitem:
            return args[0][args[1]]
        name = str(step.target).removeprefix("aten.").rpartition(".")[0]
        if torch.Tag.nondeterministic_seeded in getattr(step.target, "tags", ()):
            raise Refused(f"{self.owner} certifies a fixed function, but this system draws random numbers ({name})")
        if not _has_node((args, kwargs)):
            return step.target(*args, **kwargs)  # type: ignore[operator]
        if step.target in FILLED:
            filled: Any = fx.node.map_aggregate((args, kwargs), self._blank)
            return step.target(*filled[0], **filled[1])
        handler = HANDLERS.get(step.target)
        if handler is None:
            raise Refused(
                f"{self.owner} does not understand the operator {name} in this system; see docs/certificates.md"
            )
        try:
            plain: Any = fx.node.map_aggregate(args, self._plain)
            found = handler(*plain, **kwargs)
        except layers.NotUnderstoodError as error:
            raise Refused(f"{self.owner} does not understand the operator {name} in this system: {error}") from None
        _check_shape(found, step, self.owner, name)
        return found

    def _blank(self, value: Any) -> Any:
        return torch.zeros(ROWS, *value.shape) if isinstance(value, Node) else value

    def _plain(self, value: Any) -> Any:
        """Constants in the precision of the proof."""
        return value.to(self.dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


def _attribute(module: fx.GraphModule, target: str) -> Any:
    found: Any = module
    for part in target.split("."):
        found = getattr(found, part)
    return found


def _has_node(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_node(item) for item in value.values())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return any(_has_node(item) for item in value)
    return isinstance(value, Node)


def _check_shape(found: Any, step: fx.Node, owner: str, name: str) -> None:
    """Check that the recorded pass had `ROWS` rows of the derived shape."""
    said: Any = step.meta.get("val")
    pairs = zip(found, said, strict=False) if isinstance(found, list | tuple) else [(found, said)]
    for node, value in pairs:
        if isinstance(node, Node) and (not isinstance(value, Tensor) or tuple(value.shape) != (ROWS, *node.shape)):
            raise Refused(f"{owner} needs systems that process each row separately, but the operator {name} mixes rows")
