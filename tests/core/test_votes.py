"""Random systems are judged by votes: as many seeded draws as are declared, the same for clean and attacked inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmark.api import DataSpec, Defense
from benchmark.commands.verify import verify_record
from benchmark.errors import Refused
from benchmark.records.outcomes import Outcomes
from benchmark.records.store import Store
from benchmark.run import run
from benchmark.sampling import SampleRandom, ambient
from benchmark.stages.fit import built
from benchmark.stages.judge import answer, judge, verdict_random
from benchmark.system import REJECTED, Detector, System
from benchmark.system.target import Target
from benchmark.threat import Threat, parse_eps
from tests.core.cells import declared, plugin, small_config

X, Y = torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64)


def _rng(count: int = 2) -> SampleRandom:
    return SampleRandom(0, torch.arange(count))


@dataclasses.dataclass(frozen=True)
class Script(Defense):
    """Answers with prepared probabilities, one list per turn."""

    randomized = True
    votes: int = 3
    rows: tuple[tuple[float, ...], ...] = ()

    def protect(self, model: nn.Module) -> nn.Module:
        return _Scripted(torch.tensor(self.rows))


class _Scripted(nn.Module):
    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, x: Tensor) -> Tensor:
        turn = ambient().turn
        assert turn is not None
        return self.rows[turn].log()


def _scripted(*rows: Sequence[float], detectors: Sequence[Detector] = ()) -> System:
    script = Script(len(rows), tuple(tuple(row) for row in rows))
    return System(nn.Identity(), DataSpec((1,), len(rows[0])), (script,), detectors)


def test_the_label_of_most_draws_wins_against_the_larger_mean_probability() -> None:
    said = answer(_scripted((0.51, 0.49), (0.51, 0.49), (0.01, 0.99)), X, Y, _rng())
    assert said.label.tolist() == [0, 0]
    torch.testing.assert_close(said.confidence, torch.full((2,), (0.51 + 0.51 + 0.01) / 3))
    torch.testing.assert_close(said.logits[0, 1].exp(), torch.tensor((0.49 + 0.49 + 0.99) / 3))


def test_a_tie_goes_to_the_larger_mean_probability_and_not_to_the_smaller_index() -> None:
    assert answer(_scripted((0.6, 0.4), (0.1, 0.9)), X, Y, _rng()).label.tolist() == [1, 1]
    assert answer(_scripted((0.9, 0.1), (0.4, 0.6)), X, Y, _rng()).label.tolist() == [0, 0]


class _Draws(Defense):
    detects = True

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        turn = ambient().turn
        assert turn is not None
        return turn.float()


def test_a_detector_refuses_by_more_than_half_of_the_draws() -> None:
    rows = [(0.6, 0.4)] * 4
    assert answer(_scripted(*rows, detectors=[Detector(_Draws(), 1.5, 1.0)]), X, Y, _rng()).label.tolist() == [0, 0]
    refused = answer(_scripted(*rows, detectors=[Detector(_Draws(), 0.5, 1.0)]), X, Y, _rng())
    assert refused.label.tolist() == [REJECTED, REJECTED]


@dataclasses.dataclass(frozen=True)
class Coin(Defense):
    """Gives class 1 with probability 0.3 whatever the input is."""

    randomized = True
    votes: int = 1

    def protect(self, model: nn.Module) -> nn.Module:
        return _Coin()


class _Coin(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        heads = ambient().uniform(stream="coin") < 0.3
        return torch.stack([~heads, heads], 1).float() + 0.0 * x.flatten(1).sum(1, keepdim=True)


@pytest.mark.parametrize("votes", [1, 2, 15])
def test_repeated_submission_of_an_unchanged_input_breaks_nothing(votes: int) -> None:
    system, x = System(nn.Identity(), DataSpec((3,), 2), (Coin(votes),)), torch.full((400, 3), 0.5)
    y, rng = torch.zeros(400, dtype=torch.int64), _rng(400)
    right = answer(system, x, y, rng.child("clean")).label == y
    ball = Threat(eps=parse_eps("1/10")).around(x, rng)
    verdict = judge(system, ball, x, y, None, verdict_random(system, rng), minimal=False, bounded=True)
    assert not bool((verdict.broken & right).any())


def test_one_lucky_draw_of_a_moved_input_breaks_nothing_where_many_vote() -> None:
    x, y, rng = torch.full((400, 3), 0.5), torch.zeros(400, dtype=torch.int64), _rng(400)
    ball = Threat(eps=parse_eps("1/10")).around(x, rng)
    broken = {}
    for votes in (1, 15):
        system = System(nn.Identity(), DataSpec((3,), 2), (Coin(votes),))
        right = answer(system, x, y, rng.child("clean")).label == y
        verdict = judge(system, ball, x + 0.01, y, None, verdict_random(system, rng), minimal=False, bounded=True)
        broken[votes] = int((verdict.broken & right).sum())
    assert 60 <= broken[1] <= 110  # 0.7 * 0.3 of 400 are lucky: 84, and a standard deviation of 8
    assert broken[15] == 0


def test_votes_of_a_run_are_recorded_and_verified_again(tmp_path: Path) -> None:
    with declared(("defense", Votes)):
        result = run(small_config(tmp_path, defenses=(Votes(5),), examples=40, attack=plugin("attack", "fgsm")))
        store = Store(tmp_path / "results")
        record = store.record(result.key)
        assert record is not None
        assert record.error is None
        assert record.system.config["defenses"][0]["params"] == {"votes": 5}
        assert "5 draws vote on each answer" in next(f.evidence for f in record.findings)
        outcomes = Outcomes.load(store.cell(result.key) / "outcomes.safetensors")
        proof = verify_record(store.cell(result.key), record, store, tmp_path / "data")
    assert proof.broken == proof.claimed == int(outcomes.broken.sum()) > 0


@dataclasses.dataclass(frozen=True)
class Votes(Defense):
    randomized = True
    votes: int = 5

    def protect(self, model: nn.Module) -> nn.Module:
        return _Noise(model)


class _Noise(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x + 0.1 * ambient().normal(*x.shape[1:], stream="noise"))
        return logits


# --- what else a stage at inference declares ---


@dataclasses.dataclass(frozen=True)
class Twice(Defense):
    def protect(self, model: nn.Module) -> nn.Module:
        return nn.Sequential(model)

    def passes(self, below: int) -> int:
        return 2 * below


@dataclasses.dataclass(frozen=True)
class ThreeMore(Twice):
    def passes(self, below: int) -> int:
        return below + 3


def test_the_passes_of_a_stack_are_charged_to_the_attack() -> None:
    model = nn.Linear(3, 2)
    spec, x = DataSpec((3,), 2), torch.zeros(2, 3)
    assert System(model, spec, (Twice(), ThreeMore())).passes == 5
    assert System(model, spec, (ThreeMore(), Twice())).passes == 8
    assert System(model, spec, (ThreeMore(), Twice())).undefended().passes == 1
    system = System(model, spec, (Twice(), ThreeMore()))
    target = Target(system, rng=_rng(), classes=2, passes=system.passes, queries=12)
    target.gradient(x, lambda z: z[:, 0])
    assert target.ledger.forwards.tolist() == target.ledger.backwards.tolist() == [5, 5]
    remaining = target.remaining()
    assert remaining is not None
    assert remaining.tolist() == [1, 1]


@dataclasses.dataclass(frozen=True)
class Wider(Defense):
    """Adds a layer for as many classes as there are, and takes images only."""

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        return nn.Sequential(model, nn.Linear(spec.classes, spec.classes))

    def check(self, spec: DataSpec) -> None:
        if not spec.image:
            raise Refused(f"defense.wider needs images (C, H, W), and one input has shape {spec.shape}")


def test_a_defense_builds_with_the_spec_after_given_weights_are_in_place(tmp_path: Path) -> None:
    model = built(nn.Linear(3, 2), DataSpec((3,), 2), (Wider(),))
    assert [tuple(p.shape) for p in model.parameters()] == [(2, 3), (2,), (2, 2), (2,)]
    with declared(("defense", Wider)):
        config = small_config(tmp_path, model=plugin("model", "nearest_class_mean"), defenses=(Wider(),), examples=10)
        assert run(config).status == "complete"
        refused = run(
            dataclasses.replace(config, model=plugin("model", "linear"), dataset=plugin("dataset", "breast_cancer"))
        )
    assert refused.status == "refused"
    assert refused.error == "defense.wider needs images (C, H, W), and one input has shape (30,)"
