"""Substitutes trained on a system's labels: which points are asked about, what they teach, and transfer from them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmark_plugins.attacks.deepfool import DeepFool
from benchmark_plugins.attacks.mi_fgsm import MIFGSM
from benchmark_plugins.attacks.square import Square
from benchmark_plugins.attacks.substitute import Points, Substitute, ask, augmented, signs
from benchmark_plugins.attacks.universal import Universal
from benchmark_plugins.models.boosted_trees import BoostedTrees
from benchmark_plugins.models.mlp import MLP
from torch import Tensor, nn

from benchmark.cli import main
from benchmark.data import DataSpec
from benchmark.errors import ConfigError
from benchmark.oracles.linear import LinearClassifier, nearest_class_mean
from benchmark.records.outcomes import OUTCOMES, Outcomes
from benchmark.records.store import Store
from benchmark.run import run
from benchmark.sampling import SampleRandom
from benchmark.system import REJECTED, System
from benchmark.system.target import Target
from benchmark.threat import Access, Norm, Threat
from tests.core.cells import plugin, small_config

DIGITS = nearest_class_mean("digits")
LABELS = Threat(access=Access.labels, eps=Fraction(1, 10))


def substitute(**settings: Any) -> Substitute:
    return Substitute(**{"model": MLP(), "attack": MIFGSM(), **settings})


def target_of(count: int, queries: int | None = None) -> Target:
    system = System(DIGITS.model(), DataSpec(tuple(DIGITS.x.shape[1:]), 10))
    rng = SampleRandom(0, torch.arange(count))
    return Target(system, rng=rng, classes=10, access=Access.labels, queries=queries)


def prepared(method: Substitute, threat: Threat = LABELS, seed: int = 0) -> tuple[dict[str, Tensor], Target]:
    count = method.examples
    target = target_of(count, threat.queries)
    wrong = (DIGITS.y[:count] + 1) % 10  # true labels are not used
    rng = SampleRandom(seed, torch.arange(count))
    return method.prepare(target, DIGITS.x[:count].float(), wrong, threat=threat, rng=rng), target


def trained(method: Substitute, weights: dict[str, Tensor]) -> nn.Module:
    network: nn.Module = method.model.build(DataSpec(tuple(DIGITS.x.shape[1:]), 10))
    network.load_state_dict(weights)
    return network.eval()


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_each_round_doubles_the_points_and_asks_about_each_once(rounds: int) -> None:
    _, target = prepared(substitute(examples=20, rounds=rounds, epochs=1))
    assert target.ledger.forwards.tolist() == [2**rounds] * 20
    assert int(target.ledger.backwards.sum()) == 0


@pytest.mark.parametrize(("queries", "spent"), [(1, 1), (2, 2), (3, 2), (7, 4), (8, 8), (15, 8), (100, 32)])
def test_the_budget_ends_the_rounds(queries: int, spent: int) -> None:
    method = substitute(examples=4, rounds=5, epochs=1)
    _, target = prepared(method, replace(LABELS, queries=queries))
    assert target.ledger.forwards.tolist() == [spent] * 4
    weights, _ = prepared(replace(method, rounds=spent.bit_length() - 1))
    cut, _ = prepared(method, replace(LABELS, queries=queries))
    assert all(torch.equal(weights[name], value) for name, value in cut.items())


def test_new_points_lie_along_the_sign_of_the_gradient_of_the_assigned_probability() -> None:
    weight = torch.tensor([[2.0, -1.0, 0.0], [-1.0, 3.0, 0.0]])
    network = LinearClassifier(weight, torch.zeros(2))
    x = torch.tensor([[0.5, 0.5, 0.5], [0.95, 0.5, 0.5], [0.5, 0.02, 0.5]])
    rng = SampleRandom(0, torch.arange(3))
    points = replace(Points.initial(x), labels=torch.tensor([0, 0, REJECTED]))
    assert signs(network, x, points.labels).tolist() == [[1, -1, 0], [1, -1, 0], [1, -1, 0]]  # of two classes
    made = augmented(network, points, LABELS.unbounded().around(x, rng), 0.1)
    assert torch.equal(made.x[:3], x)
    torch.testing.assert_close(made.x[3:], torch.tensor([[0.6, 0.4, 0.5], [1.0, 0.4, 0.5], [0.6, 0.0, 0.5]]))
    assert made.owners.tolist() == [0, 1, 2, 0, 1, 2]
    back = augmented(network, points, LABELS.unbounded().around(x, rng), -0.1)
    torch.testing.assert_close(back.x[3], torch.tensor([0.4, 0.6, 0.5]))


def test_labels_are_the_systems_and_only_new_points_are_asked_about() -> None:
    x = DIGITS.x[:6].float()
    target = target_of(6)
    first = ask(target, Points.initial(x))
    assert torch.equal(first.labels, DIGITS.model()(x).argmax(1))
    more = replace(first, x=torch.cat([x, 1 - x]), owners=first.owners.repeat(2))
    again = ask(target, more)
    assert torch.equal(again.labels, DIGITS.model()(more.x).argmax(1))
    assert target.ledger.forwards.tolist() == [2] * 6


def test_the_same_seed_gives_the_same_substitute_and_another_another() -> None:
    method = substitute(examples=20, rounds=2, epochs=2)
    (one, _), (two, _), (other, _) = prepared(method), prepared(method), prepared(method, seed=1)
    assert all(torch.equal(one[name], value) for name, value in two.items())
    assert not all(torch.equal(one[name], value) for name, value in other.items())


def test_agreement_with_a_linear_system_rises_with_the_rounds() -> None:
    x = DIGITS.x[150:].float()  # which the substitute has not seen
    said = DIGITS.model()(x).argmax(1)
    agreement, broken = [], []
    for rounds in (0, 2, 4):
        method = substitute(rounds=rounds, period=1)
        weights, _ = prepared(method)
        agreement.append(float((trained(method, weights)(x).argmax(1) == said).double().mean()))
        rng = SampleRandom(0, torch.arange(len(x)))
        system = System(DIGITS.model(), DataSpec(tuple(x.shape[1:]), 10))
        target = Target(system, rng=rng, classes=10, access=Access.labels, prepared=weights)
        x_adv = method.perturb(target, x, said, threat=LABELS, rng=rng)
        assert not LABELS.around(x, rng).audit(x_adv).excess.any()
        assert int(target.ledger.forwards.sum()) == 0
        broken.append(float((DIGITS.model()(x_adv).argmax(1) != said).double().mean()))
    assert agreement == sorted(agreement)
    assert agreement[-1] > agreement[0] + 0.04
    assert broken[-1] > broken[0] > 0.2


def test_trees_are_broken_through_a_network_trained_on_their_labels(tmp_path: Path) -> None:
    threat = replace(LABELS, queries=9)
    config = small_config(
        tmp_path,
        model=BoostedTrees(rounds=8, leaves=12, depth=4),
        attack=substitute(examples=100, rounds=6),
        threat=threat,
        examples=60,
    )
    result = run(config)
    assert result.status == "complete", result.error
    store = Store(tmp_path / "results")
    record = store.record(result.key)
    assert record is not None
    assert record.cost is not None
    assert (record.cost.prepared_forwards, record.cost.prepared_backwards) == (100 * 8, 0)
    assert (record.cost.forwards, record.cost.backwards) == (0, 0)
    outcomes = Outcomes.load(store.cell(result.key) / OUTCOMES)
    assert float(outcomes.broken.double().mean()) > 0.3
    cells = str(tmp_path / "results" / "cells")
    assert main(["verify", cells, "--store", str(tmp_path / "results"), "--data", str(tmp_path)]) == 0
    assert run(config).cached
    keys = {config.cell_key()}
    for changes in ({"rounds": 2}, {"step_size": 0.2}, {"period": None}, {"model": MLP(hidden=(8,))}, {"epochs": 3}):
        keys.add(replace(config, attack=replace(config.attack, **changes)).cell_key())
    assert len(keys) == 6


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"rounds": -1}, r"attack\.rounds is -1; expected at least 0"),
        ({"period": 0}, r"attack\.period is 0; expected at least 1"),
        ({"model": BoostedTrees()}, r"attack\.model is BoostedTrees, which has no gradients; expected a network"),
        ({"attack": DeepFool()}, r"attack\.attack is DeepFool, which does not keep to the threat's ball"),
        ({"attack": Universal()}, r"attack\.attack is Universal, which is prepared once per cell"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        substitute(**settings)


def test_it_can_what_its_attack_can_with_labels_alone() -> None:
    can = substitute(attack=Square()).supports
    assert (can.norms, can.access) == (Square.supports.norms, Access.labels)
    assert Norm.l1 in can.norms
    assert not can.top5
    assert plugin("attack", "substitute", model=MLP(), attack=MIFGSM()).supports.randomized
