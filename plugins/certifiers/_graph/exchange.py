"""Exchange with external verifiers, in ONNX and VNN-LIB. VNN-COMP, arXiv:2412.19985, section 2.

A verifier gets the computation read from a system and one property per example: some input of the box has another score
at least as large as that of the label. `unsat` is a certificate that rests on the verifier alone; `sat` counts only if
the counterexample is adversarial for the system itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from benchmark.api import DataError, Norm, Refused, SampleRandom, System, Threat

from .graph import Graph
from .nodes import Add, Affine, Convolution, Linear, Node, Rectifier, Scale, Select
from .reading import read

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Operator", "Verdict", "export", "operators", "replayed", "verdict", "vnnlib"]

OPSET = 17
FORGIVEN = 1e-4
"""Largest distance of a counterexample from the box, VNN-COMP's tolerance; it is clipped before it is judged."""
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


@dataclass(frozen=True)
class Operator:
    """One ONNX operator. inputs: names of values, or constants. output: the name of its value."""

    kind: str
    inputs: tuple[str | Tensor, ...]
    output: str
    attributes: dict[str, Any]


def operators(graph: Graph) -> Iterator[Operator]:
    """ONNX operators for one row: from `input` (1, *S) to `logits` (1, K), in single precision."""
    names: dict[Node, str] = {graph.input: "input"}
    for place, node in enumerate(graph.nodes[1:], 1):
        name = names[node] = "logits" if node is graph.logits else f"value_{place}"
        at = [names[source] for source in node.sources]
        if isinstance(node, Affine):
            yield from _affine(node, at[0], name)
        elif isinstance(node, Rectifier):
            yield _rectifier(node, at[0], name)
        else:
            yield Operator("Add" if isinstance(node, Add) else "Max", (at[0], at[1]), name, {})


def _rectifier(node: Rectifier, source: str, name: str) -> Operator:
    if (node.below, node.above) == (-1.0, 1.0):
        return Operator("Abs", (source,), name, {})
    if (node.below, node.above) == (0.0, 1.0):
        return Operator("Relu", (source,), name, {})
    return Operator("LeakyRelu", (source,), name, {"alpha": node.below / node.above})


def _affine(node: Affine, source: str, name: str) -> Iterator[Operator]:
    linear = name if node.shift is None else f"{name}_linear"
    if isinstance(node, Linear):
        yield Operator("MatMul", (source, node.weight.T), linear, {})
    elif isinstance(node, Convolution):
        attributes = {
            "strides": [*node.stride],
            "pads": [*node.padding, *node.padding],
            "dilations": [*node.dilation],
            "group": node.groups,
        }
        yield Operator("Conv", (source, node.weight), linear, attributes)
    elif isinstance(node, Scale):
        yield Operator("Mul", (source, node.scale), linear, {})
    else:
        assert isinstance(node, Select)
        yield from _select(node, source, linear)
    if node.shift is not None:
        yield Operator("Add", (linear, node.shift), name, {})


def _select(node: Select, source: str, name: str) -> Iterator[Operator]:
    shape = torch.tensor([1, *node.shape])
    if node.index is None:
        yield Operator("Reshape", (source, shape), name, {})
        return
    yield Operator("Reshape", (source, torch.tensor([1, node.source.size])), f"{name}_flat", {})
    yield Operator("Concat", (f"{name}_flat", torch.zeros(1, 1)), f"{name}_padded", {"axis": 1})
    index = torch.where(node.index < 0, node.source.size, node.index)  # the zero at the end
    yield Operator("Gather", (f"{name}_padded", index), f"{name}_moved", {"axis": 1})
    yield Operator("Reshape", (f"{name}_moved", shape), name, {})


def export(system: System, x: Tensor, y: Tensor, *, threat: Threat) -> dict[str, bytes]:
    """Files of a benchmark in VNN-COMP's format, by name, for the rows of `x` (B, *S) with labels `y` (B,).

    They are `model.onnx`, `instance_<row>.vnnlib` per row, and `instances.csv` with a timeout of 300 seconds each.
    Needs the extra `onnx`.

    Raises:
        Refused: under another norm than linf, or if the computation is not understood. DataError: without onnx.
    """
    _check_norm(threat)
    graph = read(system, x, y, "the export to ONNX").graph
    texts = {f"instance_{row}.vnnlib": vnnlib(x[row], int(y[row]), threat, graph.logits.size) for row in range(len(x))}
    texts["instances.csv"] = "".join(f"model.onnx,{name},300\n" for name in texts)
    return {"model.onnx": _serialised(graph), **{name: text.encode("ascii") for name, text in texts.items()}}


def _check_norm(threat: Threat) -> None:
    if threat.norm is not Norm.linf:
        raise Refused(
            f"VNN-LIB has bounds on single inputs, so external verifiers support linf only, but threat.norm is "
            f"{threat.norm.value}; choose a threat with norm linf"
        )


def _serialised(graph: Graph) -> bytes:
    try:
        from onnx import TensorProto, checker, helper, numpy_helper
    except ImportError as error:
        raise DataError(
            "the export to ONNX needs the package onnx; pip install 'adversarial-benchmark[onnx]'"
        ) from error
    steps: list[Any] = []
    constants: list[Any] = []
    for operator in operators(graph):
        inputs = []
        for value in operator.inputs:
            if isinstance(value, Tensor):
                array = (value.float() if value.is_floating_point() else value).contiguous().cpu().numpy()
                constants.append(numpy_helper.from_array(array, f"constant_{len(constants)}"))
                inputs.append(constants[-1].name)
            else:
                inputs.append(value)
        steps.append(helper.make_node(operator.kind, inputs, [operator.output], **operator.attributes))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, *node.shape])
        for name, node in (("input", graph.input), ("logits", graph.logits))
    ]
    whole = helper.make_graph(steps, "system", ends[:1], ends[1:], constants)
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def vnnlib(x: Tensor, y: int, threat: Threat, classes: int) -> str:
    """Property of one example `x` (*S): an input of the box whose score of `y` is not above all others."""
    low, high = _box(x, threat)
    lines = [f"(declare-const X_{at} Real)" for at in range(len(low))]
    lines += [f"(declare-const Y_{k} Real)" for k in range(classes)]
    for at, (least, most) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        lines += [f"(assert (>= X_{at} {_decimal(least)}))", f"(assert (<= X_{at} {_decimal(most)}))"]
    others = " ".join(f"(and (>= Y_{k} Y_{y}))" for k in range(classes) if k != y)
    return "\n".join([f"; label {y}, linf radius {threat.eps}", *lines, f"(assert (or {others}))", ""])


def _box(x: Tensor, threat: Threat) -> tuple[Tensor, Tensor]:
    flat = x.flatten().double()
    return (flat - threat.radius).clamp_min(0.0), (flat + threat.radius).clamp_max(1.0)


def _decimal(value: float) -> str:
    """Decimal digits without an exponent, which VNN-LIB does not have."""
    return f"{value:.18f}"


@dataclass(frozen=True)
class Verdict:
    """A verifier's answer for one property. said: sat, unsat, unknown, timeout or error. x: (D,) float64, or None."""

    said: str
    x: Tensor | None = None


def verdict(text: str) -> Verdict:
    """Parse a result file of VNN-COMP: a word, and after `sat` a counterexample `((X_0 0.1) ... (Y_0 2.0))`.

    The scores given by the verifier are ignored.

    Raises:
        DataError: if it begins with another word, or an input is missing.
    """
    word, _, rest = text.strip().partition("\n")
    said = {"sat": "sat", "unsat": "unsat", "holds": "unsat", "violated": "sat", "unknown": "unknown"}.get(word.strip())
    if word.strip() in ("timeout", "error", "run_instance_timeout"):
        return Verdict("error" if word.strip() == "error" else "timeout")
    if said is None:
        raise DataError(
            f"a verifier's result begins with {word[:40]!r}; expected sat, unsat, unknown, timeout or error"
        )
    if said != "sat":
        return Verdict(said)
    found = {int(at): float(value) for at, value in re.findall(rf"\(\s*X_(\d+)\s+({NUMBER})\s*\)", rest)}
    if sorted(found) != list(range(len(found))) or not found:
        raise DataError(
            "a verifier's result is sat without a complete counterexample; expected ((X_0 0.1) (X_1 0.2) ...)"
        )
    return Verdict(said, torch.tensor([found[at] for at in range(len(found))], dtype=torch.float64))


def replayed(system: System, x: Tensor, y: int, found: Verdict, *, threat: Threat, rng: SampleRandom) -> Tensor | None:
    """Counterexample (1, *S) of a `sat` if the system misclassifies it, else None.

    Args:
        x: (*S), the example of the property. rng: of this one example.

    Raises:
        DataError: if it lies outside the box by more than `FORGIVEN`, or has another number of inputs.
    """
    _check_norm(threat)
    if found.x is None:
        return None
    low, high = _box(x, threat)
    if len(found.x) != len(low):
        raise DataError(f"a counterexample has {len(found.x)} inputs, but the example has {len(low)}")
    outside = float(torch.maximum(low - found.x, found.x - high).max())
    if not outside <= FORGIVEN:
        raise DataError(
            f"a counterexample is {outside:.3g} outside the box of its property; expected at most {FORGIVEN}"
        )
    inside = found.x.maximum(low).minimum(high).float().reshape(1, *x.shape)
    logits = system.logits(inside, rng)
    return inside if int(logits.argmax()) != y else None
