"""Surrogates of a transfer attacker: found by key, beginning of a key or name; one system, or several as one."""

from __future__ import annotations

import dataclasses
import re
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from torch import Tensor, nn

from benchmark.api import Defense
from benchmark.cli import main
from benchmark.config.cell import RunConfig
from benchmark.config.resolve import resolve
from benchmark.data import DataSpec
from benchmark.errors import BudgetError, ConfigError, DataError, Refused
from benchmark.records.outcomes import OUTCOMES, Outcomes
from benchmark.records.record import Record
from benchmark.records.store import Store
from benchmark.records.witness import WITNESS, Witness
from benchmark.run import run
from benchmark.sampling import SampleRandom
from benchmark.stages.surrogate import fused, watched
from benchmark.sweep import app
from benchmark.system import REJECTED, Detector, System
from benchmark.system.target import Target
from benchmark.testing.worlds import world
from benchmark.threat import Access, Threat
from tests.core.cells import named_in, plugin, small_config

EPS = Fraction(1, 10)


def transfer(root: Path, surrogate: str, attack: str = "mi_fgsm", **changes: object) -> RunConfig:
    threat = Threat(eps=EPS, access=Access.transfer, surrogate=surrogate)
    return small_config(root, attack=plugin("attack", attack), threat=threat, examples=60, **changes)


def recorded(root: Path, config: RunConfig) -> tuple[Record, Outcomes, Witness]:
    """The cell, computed unless the store has it."""
    store, result = Store(root / "results"), run(config)
    assert result.status == "complete", result.error
    record = store.record(result.key)
    assert record is not None
    folder = store.cell(result.key)
    return record, Outcomes.load(folder / OUTCOMES), Witness.load(folder / WITNESS)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with digits/linear with seeds 0 and 1, digits/mlp and breast_cancer/linear."""
    root = tmp_path_factory.mktemp("surrogates")
    fgsm = plugin("attack", "fgsm")
    for config in (
        small_config(root, attack=fgsm, examples=60),
        small_config(root, attack=fgsm, examples=60, seed=1),
        small_config(root, attack=fgsm, examples=60, model=plugin("model", "mlp")),
        small_config(root, attack=fgsm, examples=60, dataset=plugin("dataset", "breast_cancer")),
    ):
        assert run(config).status == "complete"
    return root


@pytest.fixture(scope="module")
def keys(root: Path) -> dict[str, str]:
    found = {}
    for path in (root / "results" / "systems").iterdir():
        card = Store(root / "results").card(path.name)
        assert card is not None
        found[f"{card.system.dataset}/{card.system.model} {card.seed}"] = path.name
    return found


# --- which system is meant ---


def test_key_beginning_of_key_and_name_are_the_same_cell(root: Path, keys: dict[str, str]) -> None:
    mlp, store = keys["digits/mlp 0"], Store(root / "results")
    meant = [named_in(transfer(root, name), store) for name in (mlp, mlp[:8], "digits/mlp")]
    assert {config.threat.surrogate for config in meant} == {mlp}
    assert len({config.cell_key() for config in meant}) == 1
    first, again = run(transfer(root, mlp)), run(transfer(root, "digits/mlp"))
    assert again.cached
    assert first.key == again.key


def test_the_order_of_an_ensemble_does_not_matter(root: Path, keys: dict[str, str]) -> None:
    store = Store(root / "results")
    ordered = ",".join(sorted([keys["digits/mlp 0"], keys["digits/linear 1"]]))
    for names in ("digits/mlp", keys["digits/linear 1"]), (keys["digits/linear 1"][:9], "digits/mlp"):
        assert named_in(transfer(root, ",".join(names)), store).threat.surrogate == ordered


def test_a_list_on_the_command_line_is_an_ensemble() -> None:
    app.register()
    with initialize_config_module("benchmark.conf", version_base="1.3"):
        for given in "[digits/mlp,0123abcd]", "'digits/mlp,0123abcd'":
            cfg = compose("run", ["threat.access=transfer", f"threat.surrogate={given}"])
            assert resolve(cfg).threat.surrogates == ("digits/mlp", "0123abcd")


def test_what_cannot_be_found_is_said_with_what_there_is(root: Path, keys: dict[str, str], tmp_path: Path) -> None:
    store = Store(root / "results")
    with pytest.raises(DataError, match=r"threat\.surrogate is 'vgg', and .*systems has no such system; train it") as e:
        named_in(transfer(root, "vgg"), store)
    assert f"digits/mlp with seed 0 ({keys['digits/mlp 0'][:8]})" in str(e.value)
    with pytest.raises(DataError, match="the store has none yet"):
        named_in(transfer(root, "vgg"), Store(tmp_path))
    both = sorted([(keys["digits/linear 0"], 0), (keys["digits/linear 1"], 1)])
    said = ", ".join(f"digits/linear with seed {seed} ({key[:8]})" for key, seed in both)
    with pytest.raises(DataError, match=re.escape(f"'digits/linear' may be {said}; give more of the key")):
        named_in(transfer(root, "digits/linear"), store)
    with pytest.raises(ConfigError, match=r"which names digits/mlp with seed 0 \([0-9a-f]{8}\) twice"):
        named_in(transfer(root, f"digits/mlp,{keys['digits/mlp 0']}"), store)


def test_an_unknown_surrogate_is_asked_for_again(root: Path) -> None:
    for _ in range(2):
        result = run(transfer(root, "nothing"))
        assert result.status == "failed"
        assert not result.cached


def test_a_surrogate_for_other_inputs_is_refused(root: Path) -> None:
    result = run(transfer(root, "breast_cancer/linear"))
    assert result.status == "refused"
    assert result.error is not None
    assert "takes inputs (30,) of 2 classes, but digits/linear takes (1, 8, 8) of 10" in result.error
    with pytest.raises(Refused, match="choose a surrogate with the same inputs and classes"):
        named_in(transfer(root, "breast_cancer/linear"), Store(root / "results"))


def test_names_are_looked_up_again_when_systems_come(root: Path, keys: dict[str, str]) -> None:
    store = Store(root / "results")
    assert watched(transfer(root, keys["digits/mlp 0"]).threat, store) == []
    assert watched(small_config(root).threat, store) == []
    assert watched(transfer(root, f"{keys['digits/mlp 0']},digits/linear").threat, store) == [
        root / "results" / "systems"
    ]


# --- what comes of it ---


def test_a_surrogate_that_is_the_target_gives_the_white_box_result(root: Path, keys: dict[str, str]) -> None:
    mine = keys["digits/linear 0"]
    for attack in "fgsm", "mi_fgsm":
        _, white, adversarial = recorded(root, small_config(root, attack=plugin("attack", attack), examples=60))
        record, outcomes, witness = recorded(root, transfer(root, mine, attack))
        assert bool(white.broken.any())
        for name, values in white.tensors().items():
            assert torch.equal(values, outcomes.tensors()[name]), name
        assert torch.equal(adversarial.x_adv, witness.x_adv)
        (finding,) = [f for f in record.findings if f.name == "surrogate_is_target"]
        assert finding.evidence.startswith(f"the surrogate is the attacked system itself ({mine})")


def test_another_system_breaks_fewer_and_both_together_more(root: Path, keys: dict[str, str]) -> None:
    _, white, _ = recorded(root, small_config(root, attack=plugin("attack", "mi_fgsm"), examples=60))
    record, alone, _ = recorded(root, transfer(root, keys["digits/mlp 0"]))
    both, ensemble, _ = recorded(root, transfer(root, f"{keys['digits/mlp 0']},{keys['digits/linear 1']}"))
    assert not [f for f in [*record.findings, *both.findings] if f.name == "surrogate_is_target"]
    assert int(alone.broken.sum()) < int(ensemble.broken.sum()) <= int(white.broken.sum())
    assert int(alone.forwards[alone.attacked].unique()) == int(alone.backwards.max()) == 10
    assert int(ensemble.forwards[ensemble.attacked].unique()) == int(ensemble.backwards.max()) == 20
    assert main(["verify", str(root / "results" / "cells" / both.key), "--store", str(root / "results")]) == 0


# --- an ensemble ---


def target(system: System, count: int, **changes: object) -> Target:
    return Target(
        system, rng=SampleRandom(0, torch.arange(count)), classes=system.spec.classes, randomized=system.randomized,
        detectors=system.detectors, passes=system.passes, **changes,  # type: ignore[arg-type]
    )  # fmt: skip


def margin(logits: Tensor) -> Tensor:
    return logits[:, 1] - logits[:, 0]


def test_equal_members_are_as_one() -> None:
    made = world()
    one, two = target(made.system, 6), target(fused([made.system, made.system]), 6)
    assert torch.equal(one.logits(made.x), two.logits(made.x))
    for mine, theirs in zip(one.gradient(made.x, margin), two.gradient(made.x, margin), strict=True):
        assert torch.equal(mine, theirs)
    slope = torch.arange(18.0).reshape(6, 3)
    assert torch.equal(one.pullback(made.x)[1](slope), two.pullback(made.x)[1](slope))
    assert torch.equal(2 * one.ledger.forwards, two.ledger.forwards)
    assert torch.equal(2 * one.ledger.backwards, two.ledger.backwards)


class Affine(nn.Module):
    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.get_buffer("weight").T


def test_scores_and_gradients_are_the_means_of_the_members() -> None:
    weights = [torch.tensor([[1.0, 0.0], [0.0, k], [k, k]]) for k in (1.0, 2.0, 6.0)]
    members = [System(Affine(w), DataSpec((2,), 3)) for w in weights]
    asked = target(fused(members), 1)
    x = torch.tensor([[0.5, 0.25]])
    torch.testing.assert_close(asked.logits(x), x @ torch.stack(weights).mean(0).T)
    grad, _, _ = asked.gradient(x, margin)
    torch.testing.assert_close(grad, torch.tensor([[-1.0, 3.0]]))
    assert asked.ledger.forwards.tolist() == [6]
    assert asked.ledger.backwards.tolist() == [3]


def test_a_budget_is_for_all_members_together() -> None:
    made = world(count=2)
    asked = target(fused([made.system, made.system, made.system]), 2, queries=7)
    assert asked.remaining().tolist() == [2, 2]  # type: ignore[union-attr]
    asked.logits(made.x)
    asked.labels(made.x)
    assert asked.remaining().tolist() == [0, 0]  # type: ignore[union-attr]
    with pytest.raises(BudgetError, match=r"query 9 of an example, but threat\.queries allows 7"):
        asked.logits(made.x)


@dataclasses.dataclass(frozen=True)
class Bright(Defense):
    """Suspects what its own model scores high for class 0."""

    detects = True

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        scores: Tensor = model(x)[:, 0]
        return scores


def test_a_member_that_is_random_or_refuses_makes_the_ensemble_so() -> None:
    still, noisy = world(count=3).system, world(count=3, randomized=True).system
    assert fused([still, noisy]).randomized
    assert not fused([still, still]).randomized
    spec, x = DataSpec((2,), 3), torch.tensor([[1.0, 0.0], [0.25, 1.0]])
    wary = System(Affine(torch.eye(3, 2)), spec, (Bright(),), (Detector(Bright(), 0.5, 1.0),))
    calm = System(Affine(torch.tensor([[-9.0, 0.0], [0.0, 1.0], [0.0, 0.0]])), spec)
    assert target(fused([calm, wary]), 2).labels(x).tolist() == [REJECTED, 1]
    assert target(fused([calm]), 2).labels(x).tolist() == [1, 1]
