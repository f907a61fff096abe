"""Defenses that act through the loss: regularisers, free and ensemble training, distillation, against closed forms."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from benchmark_plugins.defenses._training.passes import Undisturbed
from benchmark_plugins.defenses.gradient_alignment import misalignment
from benchmark_plugins.defenses.gradient_regularization import input_gradient
from benchmark_plugins.defenses.jacobian_regularization import squared_jacobian
from torch import Tensor, nn

from benchmark.api import Batch, Defense, Examples, Loss
from benchmark.config.schema import Training
from benchmark.errors import ConfigError
from benchmark.oracles.linear import nearest_class_mean
from benchmark.sampling import SampleRandom
from benchmark.stages.fitting import Fitting
from benchmark.stages.training import train
from benchmark.testing import contract
from benchmark.testing.worlds import Net, examples
from tests.core.cells import fitted_of, loaded_of, plugin, small_config


def plain(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch.x), batch.y if batch.soft is None else batch.soft)


def batch(count: int = 12) -> Batch:
    rows, _ = examples(count)
    return Batch(rows.ids, rows.x(), rows.y)


def random(count: int = 12) -> SampleRandom:
    return SampleRandom(0, examples(count)[0].ids)


def defense(name: str, **settings: Any) -> Any:
    return contract.build("defense", name, **settings)


class Linear(nn.Module):
    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T


WEIGHT = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, -0.5]]).double()
X = torch.rand(6, 3, generator=torch.Generator().manual_seed(0)).double()
Y = torch.arange(6) % 2


# --- regularisers ---


def test_the_input_gradient_of_a_logistic_model() -> None:
    model = Linear(WEIGHT)
    slope = input_gradient(model, X, Y).flatten(1)
    p = torch.softmax(model(X), 1).gather(1, Y[:, None]).squeeze(1)
    exact = (1 - p).square() * (WEIGHT[0] - WEIGHT[1]).square().sum()
    assert torch.allclose(slope.square().sum(1), exact)
    penalised = defense("gradient_regularization", strength=0.7)
    rows = Batch(torch.arange(6), X, Y)
    value = penalised.loss(model, rows, plain, SampleRandom(0, rows.ids)) - plain(model, rows)
    assert float(value.detach()) == pytest.approx(0.7 * float(exact.mean().detach()))


def test_the_input_gradient_penalty_is_differentiated_by_the_weights() -> None:
    def penalty(weight: Tensor) -> Tensor:
        model = Undisturbed(Linear(torch.zeros_like(WEIGHT)), {"weight": weight})
        squared: Tensor = input_gradient(model, X, Y).flatten(1).square().sum(1)
        return squared.mean()

    assert torch.autograd.gradcheck(penalty, WEIGHT.clone().requires_grad_(True))


def test_random_projections_have_the_squared_jacobian_as_their_mean() -> None:
    weight = torch.randn(5, 7, generator=torch.Generator().manual_seed(1)).double()
    exact, count = float(weight.square().sum()), 20000
    rng = SampleRandom(0, torch.arange(count))
    found = squared_jacobian(Linear(weight), torch.zeros(count, 7).double(), projections=1, rng=rng).detach()
    assert float(found.mean()) == pytest.approx(exact, abs=4 * float(found.std()) / count**0.5)
    few = torch.arange(200)
    several = squared_jacobian(Linear(weight), torch.zeros(200, 7).double(), projections=64, rng=rng.rows(few))
    assert float(several.detach().std()) == pytest.approx(float(found.std()) / 8, rel=0.25)


def test_the_jacobian_of_a_scaled_isometry_needs_no_luck() -> None:
    rng, model = SampleRandom(0, torch.arange(5)), Linear(3.0 * torch.eye(4))
    found = squared_jacobian(model, torch.zeros(5, 4), projections=1, rng=rng)
    assert torch.allclose(found.detach(), torch.full((5,), 36.0))
    rows = Batch(torch.arange(5), torch.zeros(5, 4), torch.zeros(5).long())
    value = defense("jacobian_regularization", strength=0.1).loss(model, rows, plain, SampleRandom(0, rows.ids))
    assert float((value - plain(model, rows)).detach()) == pytest.approx(0.05 * 36.0, rel=1e-5)


def test_gradients_of_a_linear_model_are_aligned() -> None:
    moved = (X + 0.1).clamp(0, 1)
    assert float(misalignment(Linear(WEIGHT), X, moved, Y).detach().abs().max()) < 1e-12


def test_misalignment_is_one_minus_the_cosine_and_finite_where_there_is_no_gradient() -> None:
    here = batch(4)
    model = Net(examples()[1])
    moved = (here.x + 0.3).clamp(0, 1)
    one, other = (input_gradient(model, x, here.y).flatten(1) for x in (here.x, moved))
    assert torch.allclose(misalignment(model, here.x, moved, here.y), 1 - F.cosine_similarity(one, other), atol=1e-5)
    flat = Linear(torch.zeros(2, 3).double())
    value = misalignment(flat, X, X, Y)
    assert value.tolist() == [1.0] * 6
    (slope,) = torch.autograd.grad(value.sum(), flat.weight)
    assert bool(torch.isfinite(slope).all())


@pytest.mark.parametrize("name", ["gradient_regularization", "jacobian_regularization", "gradient_alignment"])
def test_a_regulariser_adds_a_pass_and_leaves_the_rest_of_the_loss(name: str) -> None:
    model = Net(examples()[1])
    on, off = (defense(name, strength=s).loss(model, batch(), plain, random()) for s in (0.5, 0.0))
    assert float(on.detach()) > float(off.detach())
    assert torch.equal(off, plain(model, batch()))


# --- free adversarial training ---


def test_a_replayed_step_moves_the_perturbation_by_the_gradient_of_the_weights_pass() -> None:
    free = defense("free_adversarial_training", eps="1/10", m=2).at_epoch(0, 1)
    model, here = Linear(WEIGHT), Batch(torch.arange(6), 0.3 + 0.4 * X, Y)
    rng = SampleRandom(0, here.ids)
    seen: list[Tensor] = []

    def spy(module: nn.Module, rows: Batch) -> Tensor:
        seen.append(rows.x.detach())
        return plain(module, rows)

    for rows in (here, here, dataclasses.replace(here, ids=here.ids[:4], x=here.x[:4], y=here.y[:4])):
        free.loss(model, rows, spy, rng).backward()
    away = (WEIGHT[1 - Y] - WEIGHT[Y]).sign()
    assert torch.equal(seen[0], here.x)
    assert torch.allclose(seen[1], here.x + 0.1 * away)
    assert torch.allclose(seen[2], here.x[:4] + 0.1 * away[:4])  # handed on, and cut to a smaller batch
    assert torch.equal(_first(free.at_epoch(1, 2), model, here), here.x)  # a new epoch starts from zero


def _first(free: Defense, model: nn.Module, rows: Batch) -> Tensor:
    seen: list[Tensor] = []

    def spy(module: nn.Module, given: Batch) -> Tensor:
        seen.append(given.x.detach())
        return plain(module, given)

    free.loss(model, rows, spy, SampleRandom(0, rows.ids))
    return seen[0]


def test_replays_take_each_batch_several_times_and_no_more_steps(tmp_path: Path) -> None:
    recipe = Training(epochs=4, batch_size=128, selection_attack=plugin("attack", "pgd", steps=1))
    visits: list[Tensor] = []

    @dataclasses.dataclass(frozen=True)
    class Watch(Defense):
        def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
            visits.append(batch.ids)
            return inner(model, batch)

    config = small_config(tmp_path, training=recipe)
    splits = loaded_of(config).splits
    model, folder = config.model.build(splits.spec), tmp_path / "work"
    defenses = (Watch(), defense("free_adversarial_training", m=4))
    fitting = Fitting(model, splits.spec, splits.train, None, recipe, defenses, None, 0, folder)
    train(fitting, config.trainer, lambda _: None)
    batches = [ids for ids in splits.train.ids.split(128) if len(ids) > 1]
    assert len(visits) == 4 * len(batches)
    rounds = [visits[i : i + 4] for i in range(0, len(visits), 4)]
    assert all(torch.equal(ids, group[0]) for group in rounds for ids in group)
    assert torch.equal(torch.cat([group[0] for group in rounds]).sort().values, splits.train.ids.sort().values)


# --- ensemble adversarial training ---


def _started(name: str, model: nn.Module, **settings: Any) -> tuple[Any, list[nn.Module]]:
    train, spec = examples()
    fits: list[nn.Module] = []

    def fit_(module: nn.Module, given: Examples, loss: Loss) -> None:
        fits.append(module)

    return defense(name, **settings).start(model, train, spec, fit_), fits


def test_without_other_nets_it_is_adversarial_training() -> None:
    model, attack = Net(examples()[1]), contract.build("attack", "fgsm")
    alone = defense("ensemble_adversarial_training", count=0, attack=attack)
    adversarial = defense("adversarial_training", attack=attack)
    one, other = (d.loss(model, batch(), plain, random()) for d in (alone, adversarial))
    assert torch.equal(one, other)


def test_sources_are_frozen_and_each_makes_its_share_of_the_batches() -> None:
    model = Net(examples()[1])
    ensemble, fits = _started("ensemble_adversarial_training", model, count=2)
    assert [id(net) for net in ensemble.nets] == [id(net) for net in fits]
    before = [copy.deepcopy(net.state_dict()) for net in ensemble.nets]
    drawn = [ensemble.attacked_net(model, SampleRandom(seed, torch.arange(3))) for seed in range(600)]
    counts = [sum(net is source for net in drawn) for source in (*ensemble.nets, model)]
    assert sum(counts) == 600
    assert all(abs(count - 200) < 4 * (600 * 2 / 9) ** 0.5 for count in counts)
    ensemble.loss(model, batch(), plain, random()).backward()
    for net, state in zip(ensemble.nets, before, strict=True):
        assert not any(p.requires_grad for p in net.parameters())
        assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())


# --- distillation ---


@pytest.mark.parametrize(
    ("temperature", "softened"),
    [(1.0, (0.0900, 0.2447, 0.6652)), (10.0, (0.3006, 0.3322, 0.3672)), (100.0, (0.3300, 0.3333, 0.3367))],
)
def test_the_student_learns_the_teachers_softened_answers(temperature: float, softened: tuple[float, ...]) -> None:
    class Answers(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([[1.0, 2.0, 3.0]]).expand(len(x), -1)

    distilled, _ = _started("distillation", Answers(), temperature=temperature)
    seen: list[Batch] = []

    def spy(module: nn.Module, rows: Batch) -> Tensor:
        seen.append(rows)
        return plain(module, rows)

    model = Net(examples()[1])
    value = distilled.loss(model, batch(), spy, random())
    soft = seen[0].soft
    assert soft is not None
    assert soft[0].tolist() == pytest.approx(softened, abs=1e-4)
    expected = -(soft * F.log_softmax(model(batch().x) / temperature, 1)).sum(1).mean()
    assert torch.allclose(value, expected)


def test_a_teacher_is_trained_first_and_the_same_again(tmp_path: Path) -> None:
    recipe = Training(epochs=2, learning_rate=0.02, selection_attack=plugin("attack", "pgd", steps=1))
    defenses = (plugin("defense", "distillation", temperature=2.0),)
    cards = [
        fitted_of(small_config(tmp_path / name, training=recipe, defenses=defenses))[1] for name in ("one", "other")
    ]
    assert cards[0].weights_sha256 == cards[1].weights_sha256
    assert cards[0].epochs_run == 2  # the student's
    # An untrained teacher answers with the uniform distribution, whose cross-entropy no student gets below log 10.
    assert cards[0].history[-1]["train_loss"] < 0.9 * math.log(10)


def test_the_share_of_gradients_that_are_exactly_zero_jumps_with_the_temperature() -> None:
    """The 435 rows of the digits that the nearest-class-mean model gets right, its logits times T, in float32."""
    problem = nearest_class_mean()
    model, x, y = problem.model(), problem.x.float(), problem.y
    right = model(x).argmax(1) == y
    assert int(right.sum()) == 435
    zero = {}
    for temperature in (1, 5, 10, 20, 50, 100):
        leaf = x[right].clone().requires_grad_(True)
        losses = F.cross_entropy(model(leaf) * temperature, y[right], reduction="sum")
        (slope,) = torch.autograd.grad(losses, leaf)
        zero[temperature] = float((slope.flatten(1) == 0).all(1).float().mean())
    assert [zero[t] for t in (1, 5, 10, 20)] == [0.0] * 4
    assert zero[50] == pytest.approx(0.5448, abs=5e-5)
    assert zero[100] == pytest.approx(0.8230, abs=5e-5)


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("gradient_regularization", {"strength": -1.0}, "strength is -1.0; expected at least 0"),
        ("jacobian_regularization", {"projections": 0}, "and 0 projections; expected a strength"),
        ("gradient_alignment", {"strength": -1.0}, "strength is -1.0; expected at least 0"),
        ("free_adversarial_training", {"m": 0}, "m is 0; expected at least 1 step on each batch"),
        (
            "ensemble_adversarial_training",
            {"count": -1},
            "has count -1 and ratio 0.5; expected at least 0 other networks",
        ),
        ("distillation", {"temperature": 0.0}, "temperature is 0.0; expected more than 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        dataclasses.replace(defense(name), **settings)
