"""Ensembles: members that agree are one, votes are counted by hand, and every member is trained, counted and asked."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from benchmark_plugins.defenses.bit_depth import BitDepth
from benchmark_plugins.defenses.ensemble import Combination, Ensemble, Members, combined, fresh
from benchmark_plugins.defenses.label_smoothing import LabelSmoothing
from benchmark_plugins.models.boosted_trees import BoostedTrees
from benchmark_plugins.models.linear import Linear
from benchmark_plugins.models.mlp import MLP
from torch import Tensor, nn

from benchmark.api import Batch, DataSpec, Defense
from benchmark.errors import ConfigError
from benchmark.run import run
from benchmark.sampling import SampleRandom, using
from benchmark.stages.fit import built
from benchmark.system import System
from tests.core.cells import fitted_of, loaded_of, small_config

SPEC = DataSpec((1, 4, 4), 3)
X = torch.rand(8, *SPEC.shape, generator=torch.Generator().manual_seed(1))


def _rng(count: int = 8) -> SampleRandom:
    return SampleRandom(0, torch.arange(count))


def _system(*defenses: Defense) -> System:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = built(Linear().build(SPEC), SPEC, defenses)
    return System(model, SPEC, defenses)


def _ensemble(combine: Combination = Combination.mean, members: int = 3, votes: int = 1) -> Ensemble:
    return Ensemble(members, MLP(), 0, combine, votes)


LOGITS = torch.tensor([[[2.0, 0.0, 1.0]], [[0.0, 1.0, 0.5]], [[0.0, 0.2, 0.1]], [[3.0, 0.0, 1.0]]])


def test_members_that_disagree_give_what_is_computed_by_hand() -> None:
    torch.testing.assert_close(combined(LOGITS, Combination.mean), torch.tensor([[1.25, 0.3, 0.65]]))
    mean = LOGITS.softmax(2).mean(0)
    torch.testing.assert_close(combined(LOGITS, Combination.probabilities).exp(), mean)
    assert combined(LOGITS[:3], Combination.vote).argmax(1).tolist() == [1]  # two votes against one
    assert combined(LOGITS[:3], Combination.mean).argmax(1).tolist() == [0]
    tied = combined(LOGITS, Combination.vote)  # two votes each: the larger mean probability, whatever the order
    assert tied.argmax(1).tolist() == [0]
    assert combined(LOGITS[..., [1, 0, 2]], Combination.vote).argmax(1).tolist() == [1]
    torch.testing.assert_close(tied.exp(), (torch.tensor([[2.0, 2.0, 0.0]]) + 0.5 * mean) / 4.5)


@pytest.mark.parametrize("combine", list(Combination))
def test_five_identical_members_are_one(combine: Combination) -> None:
    one = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    with using(_rng(6)):
        five = combined(one.expand(5, -1, -1), combine)
    assert torch.equal(five.argmax(1), one.argmax(1))
    if combine is not Combination.vote:
        torch.testing.assert_close(five.softmax(1), one.softmax(1))


def test_the_gradient_of_the_mean_is_the_mean_of_the_gradients() -> None:
    system = _system(_ensemble())
    x = X.clone().requires_grad_(True)
    (grad,) = torch.autograd.grad(system(x)[:, 1].sum(), x)
    members = system.model
    assert isinstance(members, Members)
    parts = [torch.autograd.grad(member(x)[:, 1].sum(), x)[0] for member in members.list]
    torch.testing.assert_close(grad, torch.stack(parts).mean(0))
    assert not torch.allclose(parts[0], parts[1])


def test_a_vote_lets_the_gradient_of_the_mean_probability_through() -> None:
    logits = LOGITS.clone().requires_grad_(True)
    (vote,) = torch.autograd.grad(combined(logits, Combination.vote)[:, 0].sum(), logits)
    (soft,) = torch.autograd.grad(combined(logits, Combination.probabilities)[:, 0].sum(), logits)
    assert torch.equal(vote, soft)


def test_every_member_is_drawn_about_equally_often() -> None:
    logits = torch.eye(3)[:, None].expand(3, 3000, 3)
    with using(_rng(3000)):
        share = combined(logits, Combination.random).mean(0)
    assert bool(((share - 1 / 3).abs() < 4 * (2 / 9 / 3000) ** 0.5).all())


def test_the_first_member_is_the_undefended_model_and_other_stages_surround_each() -> None:
    system = _system(_ensemble())
    members = system.model
    assert isinstance(members, Members)
    assert torch.equal(system.undefended().logits(X, _rng()), members.list[0](X))
    before, after = (_system(*stack) for stack in ((BitDepth(2), _ensemble()), (_ensemble(), BitDepth(2))))
    assert torch.equal(before.logits(X, _rng()), after.logits(X, _rng()))
    assert members.place == 0
    assert [_system(_ensemble(members=n)).passes for n in (1, 4)] == [1, 4]


class Raw(nn.Module):
    """Weights without a layer that could reset them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


@pytest.mark.parametrize("model", [nn.Linear(4, 3), Raw(), nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))])
def test_a_fresh_copy_has_weights_of_its_own(model: nn.Module) -> None:
    before = [p.clone() for p in model.parameters()]
    made = fresh(model)
    assert not torch.equal(next(iter(made.parameters())), before[0])
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_an_ensemble_of_networks_and_trees_is_trained_stored_and_rebuilt(tmp_path: Path) -> None:
    mixed = Ensemble(2, BoostedTrees(rounds=5), 1, Combination.probabilities)
    config = small_config(tmp_path, defenses=(mixed,), examples=60)
    assert run(config).error is None
    loaded = loaded_of(config)
    system, _ = fitted_of(config, loaded)
    members = system.model
    assert isinstance(members, Members)
    test = loaded.splits.test
    right = [float((member(test.x()).argmax(1) == test.y).double().mean()) for member in members.list]
    assert min(right) > 0.5  # each of them was trained, and the trees fitted
    assert system.passes == 3


def test_members_that_learn_from_labels_refuse_soft_ones(tmp_path: Path) -> None:
    mixed = Ensemble(1, BoostedTrees(rounds=1), 1)
    refused = run(small_config(tmp_path, defenses=(LabelSmoothing(), mixed), examples=10))
    assert refused.status == "refused"
    assert "defense.ensemble has members that learn from hard labels, but another defense made the labels soft" in str(
        refused.error
    )


def test_members_are_trained_by_the_loss_of_the_stack_below() -> None:
    defense = _ensemble(members=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = built(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), SPEC, (defense,))
    seen: list[Tensor] = []

    def below(module: nn.Module, batch: object) -> Tensor:
        value: Tensor = module(X).square().mean()
        seen.append(value)
        return value

    loss = defense.loss(model, Batch(torch.arange(8), X, torch.zeros(8).long()), below, _rng())
    assert len(seen) == 2
    assert not torch.equal(seen[0], seen[1])
    torch.testing.assert_close(loss, torch.stack(seen).mean())


def test_senseless_ensembles_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"ensemble\.members is 0 .*; expected at least 1 member"):
        _ensemble(members=0)
    with pytest.raises(ConfigError, match=r"ensemble\.votes is 3 with ensemble\.combine=vote; expected at least 1"):
        _ensemble(Combination.vote, votes=3)
    random = _ensemble(Combination.random, votes=5)
    assert random.smoother() == (dataclasses.replace(random, combine=Combination.mean, votes=1),)
    assert _system(random).votes == 5
