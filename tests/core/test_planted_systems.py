"""Systems with a planted fault, each under many attacks: the party at fault is named and no number is too high.

Honest systems of many kinds beside them raise no alarm.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.api import DataSpec, Defense, Model
from benchmark.config.schema import Training
from benchmark.records.record import Record
from benchmark.records.store import Store
from benchmark.run import run
from benchmark.testing import contract
from benchmark.threat import Threat, parse_eps
from tests.core.cells import declared, plugin, small_config

ATTACKS: dict[str, dict[str, Any]] = {
    "none": {},
    "noise": {},
    "fgsm": {},
    "pgd": {"steps": 5},
    "apgd": {"steps": 5},
    "deepfool": {},
    "square": {"queries": 20},
    "rays": {},
}
BLIND: dict[str, dict[str, Any]] = {
    "none": {},
    "noise": {},
    "square": {"queries": 20},
    "rays": {},
    "hop_skip_jump": {},
    "nes": {},
    "spsa": {},
    "bandits": {},
}
"""Attacks that ask for no gradient."""


THREAT = Threat(eps=parse_eps("1/20"), queries=60)


@functools.cache
def means() -> tuple[Tensor, Tensor]:
    """Nearest class mean of the digits as a linear classifier: right without training."""
    train = plugin("dataset", "digits").load(Path(), offline=True).train
    x, y = train.x().flatten(1), train.y
    centres = torch.stack([x[y == k].mean(0) for k in range(10)])
    return 2 * centres, -(centres**2).sum(1)


def scores(x: Tensor) -> Tensor:
    weight, bias = means()
    return F.linear(x.flatten(1), weight.to(x.device), bias.to(x.device))


class Flipped(torch.autograd.Function):
    """The identity, with the gradient the wrong way round."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return -grads[0]


def _table(net: Net, x: Tensor) -> Tensor:
    known = plugin("dataset", "digits").load(Path(), offline=True).test
    rows = known.x().flatten(1)
    found = (x.flatten(1)[:, None] == rows[None]).all(2)
    label = torch.where(found.any(1), known.y[found.int().argmax(1)], torch.zeros(len(x), dtype=torch.int64))
    return F.one_hot(label, 10).float() + 0 * x.flatten(1)[:, :1]


def _counting(net: Net, x: Tensor) -> Tensor:
    net.calls += 1
    return scores(x) if net.calls % 3 else scores(x).roll(1, 1)


def _drifting(net: Net, x: Tensor) -> Tensor:
    net.calls += 1
    return scores(x) + 0.3 * net.calls * torch.eye(10)[0]


def _in_place(net: Net, x: Tensor) -> Tensor:
    x.sub_(0.5).div_(0.5)
    return scores(x * 0.5 + 0.5)


def _unless(broken: Tensor, z: Tensor) -> Tensor:
    return torch.where(broken[:, None], torch.nan, z)


FAULTS: dict[str, Callable[[Net, Tensor], Any]] = {
    "plain": lambda net, x: scores(x),
    "all_nan": lambda net, x: scores(x) * torch.nan,
    "infinite": lambda net, x: scores(x) + torch.tensor([torch.inf, *[0.0] * 9]),
    "minus_infinite": lambda net, x: scores(x) - torch.inf,
    "nan_on_some": lambda net, x: _unless(x.flatten(1)[:, 20] == 0, scores(x)),
    "nan_off_the_grid": lambda net, x: _unless(((x * 16).round() != x * 16).flatten(1).any(1), scores(x)),
    "batch_norm": lambda net, x: scores(F.batch_norm(x.flatten(1), None, None, training=True) * 0.3 + 0.3),
    "less_the_batch_mean": lambda net, x: scores(x - x.mean(0) + 0.3),
    "over_the_batch_maximum": lambda net, x: scores(x) - 0.2 * scores(x).amax(0),
    "leaning_on_the_last_row": lambda net, x: scores(x) + 0.3 * scores(x)[-1:],
    "double": lambda net, x: scores(x).double(),
    "bfloat16": lambda net, x: scores(x).bfloat16(),
    "float16": lambda net, x: scores(x).half(),
    "dropout": lambda net, x: scores(F.dropout(x, 0.1)),
    "torch_noise": lambda net, x: scores(x + 0.05 * torch.randn_like(x)),
    "numpy_noise": lambda net, x: scores(x + 0.2 * float(np.random.rand())),  # noqa: NPY002 - the fault
    "every_third_call": _counting,
    "drifting": _drifting,
    "in_place": _in_place,
    "a_tuple": lambda net, x: (scores(x), x),
    "a_dict": lambda net, x: {"logits": scores(x)},
    "labels": lambda net, x: scores(x).argmax(1),
    "integers": lambda net, x: F.one_hot(scores(x).argmax(1), 10),
    "probabilities": lambda net, x: scores(x).softmax(1),
    "rounded": lambda net, x: (scores(x) * 4).detach().round() + 0 * x.flatten(1)[:, :1],
    "gradient_reversed": lambda net, x: scores(Flipped.apply(x)),  # type: ignore[no-untyped-call]
    "clipped": lambda net, x: scores(torch.where((x > 0) & (x < 1), x, x.detach())),
    "white_stopped": lambda net, x: scores(torch.where(x < 1, x, x.detach())),
    "far_from_zero": lambda net, x: scores(x) + 1e8,
    "cold": lambda net, x: 1e4 * scores(x),
    "hot": lambda net, x: 1e-12 * scores(x),
    "memorised": _table,
}


class Net(nn.Module):
    """A classifier of the digits with a fault."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault, self.calls = fault, 0
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Any:
        return FAULTS[self.fault](self, x)


@dataclasses.dataclass(frozen=True)
class Planted(Model):
    """See FAULTS."""

    fault: str = "all_nan"

    def build(self, spec: DataSpec) -> nn.Module:
        return Net(self.fault)

    def pretrained(self, spec: DataSpec) -> dict[str, Tensor]:
        return {"unused": torch.zeros(1)}


FOUND = {
    "all_nan": "no_answer", "infinite": "no_answer", "minus_infinite": "no_answer", "nan_on_some": "no_answer",
    "batch_norm": "rows_depend_on_each_other", "less_the_batch_mean": "rows_depend_on_each_other",
    "over_the_batch_maximum": "rows_depend_on_each_other", "leaning_on_the_last_row": "rows_depend_on_each_other",
    "double": "cast_at_the_border", "bfloat16": "cast_at_the_border", "float16": "cast_at_the_border",
    "dropout": "undeclared_randomness", "torch_noise": "undeclared_randomness", "numpy_noise": "undeclared_randomness",
    "every_third_call": "undeclared_randomness", "drifting": "undeclared_randomness", "in_place": "changes_its_input",
    "probabilities": "probabilities_for_logits", "gradient_reversed": "gradient_misleads",
    "clipped": "gradient_stops_at_bounds", "white_stopped": "gradient_stops_at_bounds",
    "far_from_zero": "scores_lose_precision", "hot": "scores_nearly_equal",
}  # fmt: skip
"""The finding under every attack."""

REFUSED = {"a_tuple": "a tuple", "a_dict": "a dict", "labels": "with shape (2,)", "integers": "int64"}
"""The answer that is refused: the cell fails, and the model is named."""

NO_GRADIENT = {"rounded": "zero_gradients", "memorised": "zero_gradients"}
"""The finding where gradients were asked for."""


def chosen(kind: str) -> list[str]:
    """The attacks that a faulty system of that kind is tried under: PGD and two others by turns.

    So that together every attack meets systems of every class, in seconds; all with PLANTED_ATTACKS=all.
    """
    if os.environ.get("PLANTED_ATTACKS") == "all":
        return list(ATTACKS)
    turn = sum(kind.encode()) % len(ATTACKS)
    return list(dict.fromkeys(["pgd", *(list(ATTACKS) * 2)[turn : turn + 2]]))


def cells(root: Path, attacks: Iterable[str], **changes: Any) -> dict[str, Record]:
    """The records of a system under attack."""
    found = {}
    for name in attacks:
        settings = (ATTACKS | BLIND)[name]
        result = run(small_config(root, examples=16, attack=plugin("attack", name, **settings), **changes))
        record = Store(root / "results").record(result.key)
        assert record is not None, result
        found[name] = record
    return found


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "plain"])
def test_a_planted_fault_is_named_under_every_attack(tmp_path: Path, fault: str) -> None:
    with declared(("model", Planted)):
        found = cells(tmp_path, chosen(fault), model=Planted(fault), threat=THREAT)
        for attack, record in found.items():
            if fault in REFUSED:
                assert record.status == "failed"
                assert record.error is not None
                assert "model.planted from test-plugins 1.0 answered" in record.error, record.error
                assert REFUSED[fault] in record.error
                continue
            assert record.status == "complete", record.error
            assert record.counts is not None
            names = {finding.name: finding for finding in record.findings}
            if fault in FOUND:
                assert FOUND[fault] in names, (attack, names)
            if fault in ("batch_norm", "dropout", "every_third_call", "in_place", "double"):
                assert "model.planted from test-plugins 1.0" in names[FOUND[fault]].evidence
            if fault in NO_GRADIENT and attack in ("fgsm", "pgd"):
                assert NO_GRADIENT[fault] in names, (attack, names)
            if fault in ("all_nan", "infinite", "minus_infinite"):
                assert (record.counts.clean_correct, record.counts.robust_correct) == (0, 0)
            if fault == "nan_off_the_grid" and attack not in ("none", "deepfool"):
                assert "no_answer" in names or record.counts.robust_correct == record.counts.clean_correct
            assert "attack_depends_on_batch" not in names, "no attack is at fault here"
    if fault in ("double", "in_place"):
        with declared(("model", Planted)):
            plain = cells(tmp_path / "plain", chosen(fault), model=Planted("plain"), threat=THREAT)
        assert {k: r.counts for k, r in plain.items()} == {k: r.counts for k, r in found.items()}


def _net(activation: type[nn.Module]) -> Callable[[DataSpec], nn.Module]:
    return lambda spec: nn.Sequential(
        nn.Flatten(), nn.Linear(int(np.prod(spec.shape)), 30), activation(), nn.Linear(30, spec.classes)
    )


class _Scaled(nn.Module):
    def __init__(self, module: nn.Module, by: float) -> None:
        super().__init__()
        self.module, self.by = module, by

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.module(x)
        return z * self.by


def _convolution(spec: DataSpec) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(spec.shape[0], 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(6 * (spec.shape[1] // 2) * (spec.shape[2] // 2), spec.classes),
    )  # fmt: skip


def _normalised(layer: Callable[[], nn.Module]) -> Callable[[DataSpec], nn.Module]:
    return lambda spec: nn.Sequential(nn.Flatten(), nn.Linear(64, 32), layer(), nn.ReLU(), nn.Linear(32, spec.classes))


HONEST: dict[str, Callable[[DataSpec], nn.Module]] = {
    "relu": _net(nn.ReLU),
    "gelu": _net(nn.GELU),
    "silu": _net(nn.SiLU),
    "mish": _net(nn.Mish),
    "tanh": _net(nn.Tanh),
    "leaky": _net(nn.LeakyReLU),
    "convolution": _convolution,
    "batch_norm": _normalised(lambda: nn.BatchNorm1d(32)),
    "layer_norm": _normalised(lambda: nn.LayerNorm(32)),
    "group_norm": _normalised(lambda: nn.GroupNorm(4, 32)),
    "dropout_in_training": lambda spec: nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Linear(64, spec.classes)),
    "small_scores": lambda spec: _Scaled(_net(nn.ReLU)(spec), 1e-3),
    "large_scores": lambda spec: _Scaled(_net(nn.ReLU)(spec), 3.0),
}


@dataclasses.dataclass(frozen=True)
class Honest(Model):
    """See HONEST."""

    kind: str = "relu"

    def build(self, spec: DataSpec) -> nn.Module:
        return HONEST[self.kind](spec)


def _alarms(found: dict[str, Record]) -> list[str]:
    """Findings of all cells, which are complete and at least eight."""
    assert len(found) >= 8
    assert {attack: record.error for attack, record in found.items() if record.status != "complete"} == {}
    alarms = [(attack, each) for attack, record in found.items() for each in record.findings]
    return [f"{attack}: {each.name}: {each.evidence}" for attack, each in alarms if each.severity != "info"]


@pytest.mark.parametrize("kind", HONEST)
def test_an_honest_network_raises_no_alarm(tmp_path: Path, kind: str) -> None:
    training = Training(epochs=3, learning_rate=0.01, selection_attack=plugin("attack", "pgd", steps=3))
    with declared(("model", Honest)):
        found = cells(tmp_path, ATTACKS, model=Honest(kind), training=training, threat=THREAT)
    assert _alarms(found) == []


DEFENDED = ["jpeg", "random_transform", "bit_depth", "ensemble", "energy", "label_smoothing"]


@pytest.mark.parametrize("defense", DEFENDED)
def test_an_honest_defense_raises_no_alarm(tmp_path: Path, defense: str) -> None:
    stack: tuple[Defense, ...] = (contract.build("defense", defense),)
    model = plugin("model", "small_cnn") if defense != "label_smoothing" else plugin("model", "mlp")
    assert _alarms(cells(tmp_path, ATTACKS, model=model, defenses=stack, threat=THREAT)) == []


@pytest.mark.parametrize(
    ("dataset", "model"),
    [
        (("breast_cancer", {}), "mlp"),
        (("synthetic", {"shape": [3, 8, 8], "classes": 4, "train": 200, "select": 60, "test": 60}), "small_cnn"),
        (("synthetic", {"shape": [5], "classes": 2, "train": 200, "select": 60, "test": 60}), "linear"),
        (("digits", {}), "boosted_trees"),
    ],
    ids=["table", "three-channels", "two-classes", "trees"],
)
def test_other_data_and_models_raise_no_alarm(tmp_path: Path, dataset: tuple[str, dict[str, Any]], model: str) -> None:
    data = plugin("dataset", dataset[0], **dataset[1])
    attacks = BLIND if model == "boosted_trees" else ATTACKS
    assert _alarms(cells(tmp_path, attacks, dataset=data, model=plugin("model", model), threat=THREAT)) == []
