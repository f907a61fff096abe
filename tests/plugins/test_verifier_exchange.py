"""ONNX and VNN-LIB for outside verifiers: the same computation, the same property, and verdicts that are replayed."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from benchmark_plugins.certifiers._graph.exchange import Verdict, export, operators, replayed, verdict, vnnlib
from benchmark_plugins.certifiers._graph.graph import Graph
from benchmark_plugins.certifiers._graph.reading import read
from torch import Tensor, nn

from benchmark.api import DataSpec
from benchmark.errors import DataError, Refused
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.threat import Norm, Threat

THREAT = Threat(Norm.linf, Fraction(1, 10))
ONE = SampleRandom(0, torch.arange(1))


class Mixed(nn.Module):
    """A kind of each operator."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.last = nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.Linear(8, 3)
            self.norm = nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.norm(self.first(x)), 0.2)
        h = torch.maximum(h, F.pad(h[:, :, 1:], (0, 0, 0, 1))) + torch.relu(h.flip(3)).abs()
        logits: Tensor = self.last(h.flatten(1))
        return logits.abs() - 0.1


def system() -> System:
    return System(Mixed(), DataSpec((1, 4, 4), 3))


def inputs() -> tuple[Tensor, Tensor]:
    x = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return x, system().logits(x, SampleRandom(0, torch.arange(3))).argmax(1)


def carried_out(kind: str, given: list[Tensor], how: dict[str, Any]) -> Tensor:
    """An operator in torch, as defined by the reference of ONNX."""
    if kind == "Conv":
        return F.conv2d(given[0], given[1], None, how["strides"], how["pads"][:2], how["dilations"], how["group"])
    plain: dict[str, Callable[[], Tensor]] = {
        "MatMul": lambda: given[0] @ given[1],
        "Add": lambda: given[0] + given[1],
        "Mul": lambda: given[0] * given[1],
        "Max": lambda: torch.maximum(*given),
        "Relu": given[0].relu,
        "Abs": given[0].abs,
        "LeakyRelu": lambda: F.leaky_relu(given[0], how["alpha"]),
        "Reshape": lambda: given[0].reshape(given[1].tolist()),
        "Concat": lambda: torch.cat(given, how["axis"]),
        "Gather": lambda: given[0].index_select(how["axis"], given[1]),
    }
    return plain[kind]()


def interpreted(graph: Graph, x: Tensor) -> Tensor:
    """The scores that the operators give for one row."""
    values: dict[str, Tensor] = {"input": x}
    for step in operators(graph):
        given = [values[v] if isinstance(v, str) else v.float() if v.is_floating_point() else v for v in step.inputs]
        values[step.output] = carried_out(step.kind, given, step.attributes)
    return values["logits"]


def test_the_operators_compute_what_the_system_does() -> None:
    (x, y), here = inputs(), system()
    graph = read(here, x, y, "certifier.test").graph
    for row in range(3):
        torch.testing.assert_close(
            interpreted(graph, x[row : row + 1]), here.logits(x[row : row + 1], ONE), rtol=1e-5, atol=1e-6
        )
    kinds = {step.kind for step in operators(graph)}
    assert kinds == {"Conv", "Mul", "Add", "LeakyRelu", "Max", "Relu", "Abs", "Reshape", "Concat", "Gather", "MatMul"}


def test_a_property_has_the_box_and_every_other_class() -> None:
    x = torch.tensor([0.05, 0.5, 0.97])
    text = vnnlib(x, 1, THREAT, 3)
    ends = {(m[0], int(m[1])): float(m[2]) for m in re.findall(r"\(assert \((>=|<=) X_(\d+) ([\d.]+)\)\)", text)}
    low, high = [ends[">=", at] for at in range(3)], [ends["<=", at] for at in range(3)]
    np.testing.assert_allclose(low, [0.0, 0.4, 0.87], atol=1e-7)
    np.testing.assert_allclose(high, [0.15, 0.6, 1.0], atol=1e-7)
    assert "(assert (or (and (>= Y_0 Y_1)) (and (>= Y_2 Y_1))))" in text
    assert text.count("declare-const") == 6
    assert text.isascii()


def test_verdicts_are_read_in_the_words_of_vnn_comp() -> None:
    assert verdict("unsat\n") == Verdict("unsat")
    assert verdict("holds") == Verdict("unsat")
    assert verdict("timeout") == verdict("run_instance_timeout") == Verdict("timeout")
    found = verdict("sat\n((X_1 2.5e-1)\n(X_0 .5)\n(Y_0 3.0)\n(Y_1 4))")
    assert found.said == "sat"
    assert found.x is not None
    assert found.x.tolist() == [0.5, 0.25]
    with pytest.raises(DataError, match=r"begins with 'maybe'; expected sat, unsat, unknown, timeout or error"):
        verdict("maybe")
    with pytest.raises(DataError, match=r"result is sat without a complete counterexample"):
        verdict("sat\n((X_1 0.2))")


def test_a_counterexample_counts_only_if_the_system_gets_it_wrong_inside_the_box() -> None:
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        layer.bias.zero_()
    here, x = System(layer, DataSpec((2,), 2)), torch.tensor([0.55, 0.45])

    def replay(values: list[float]) -> Tensor | None:
        said = Verdict("sat", torch.tensor(values, dtype=torch.float64))
        found: Tensor | None = replayed(here, x, 0, said, threat=THREAT, rng=ONE)
        return found

    found = replay([0.46, 0.54])
    assert found is not None
    assert found.shape == (1, 2)
    assert replay([0.5, 0.49]) is None  # the verifier was wrong: the system is right there
    assert replayed(here, x, 0, Verdict("unsat"), threat=THREAT, rng=ONE) is None
    moved = replay([0.45 - 5e-5, 0.54])  # forgiven, and moved into the box before it counts
    assert moved is not None
    assert float(moved[0, 0]) == pytest.approx(0.45)
    with pytest.raises(DataError, match=r"is 0\.05 outside the box of its property; expected at most 0\.0001"):
        replay([0.4, 0.54])
    with pytest.raises(DataError, match=r"is nan outside"):
        replay([float("nan"), 0.54])
    with pytest.raises(DataError, match=r"has 1 inputs, but the example has 2"):
        replay([0.5])


def test_another_norm_is_refused() -> None:
    x, y = inputs()
    with pytest.raises(Refused, match=r"external verifiers support linf only, but threat\.norm is l2"):
        export(system(), x, y, threat=Threat(Norm.l2, Fraction(1)))


def test_onnx_evaluates_the_files_to_the_same_scores() -> None:
    reference = pytest.importorskip("onnx.reference", reason="needs the extra onnx")
    (x, y), here = inputs(), system()
    files = export(here, x, y, threat=THREAT)
    session = reference.ReferenceEvaluator(files["model.onnx"])
    for row in range(3):
        (said,) = session.run(None, {"input": x[row : row + 1].numpy()})
        np.testing.assert_allclose(said, here.logits(x[row : row + 1], ONE).numpy(), rtol=1e-4, atol=1e-5)
    lines = files["instances.csv"].decode().splitlines()
    assert lines == [f"model.onnx,instance_{row}.vnnlib,300" for row in range(3)]
    assert files["instance_1.vnnlib"].decode() == vnnlib(x[1], int(y[1]), THREAT, 3)
