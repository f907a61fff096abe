"""Defenses that act on weights: perturbation, averages, retractions and norms, against closed forms."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from benchmark_plugins.defenses._training.operators import matrices, spectral_norm
from benchmark_plugins.defenses.parseval import retracted
from benchmark_plugins.defenses.weight_averaging import Rule
from benchmark_plugins.defenses.weight_perturbation import perturbation
from torch import Tensor, nn

from benchmark.api import Batch, DataSpec, Defense, Loss
from benchmark.config.schema import Optimizer, Schedule, Training
from benchmark.errors import ConfigError
from benchmark.sampling import SampleRandom
from benchmark.stages.fitting import Fitting
from benchmark.stages.training import train
from benchmark.testing import contract
from benchmark.testing.worlds import Net, examples
from tests.core.cells import fitted_of, loaded_of, plugin, small_config


def plain(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch.x), batch.y)


def batch(count: int = 12) -> Batch:
    rows, _ = examples(count)
    return Batch(rows.ids, rows.x(), rows.y)


def random() -> SampleRandom:
    return SampleRandom(0, examples(12)[0].ids)


def defense(name: str, **settings: Any) -> Any:
    return contract.build("defense", name, **settings)


def gradients(loss: Tensor, model: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


# --- adversarial weight perturbation ---


class Normed(nn.Module):
    """Two layers with batch normalisation between them."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.first, self.norm, self.last = nn.Linear(108, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draw) / 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(torch.tanh(self.norm(self.first(x.flatten(1)))))
        return logits


def statistics(model: Normed) -> list[Tensor]:
    """Mean and variance that the batch normalisation has seen."""
    return [model.norm.get_buffer(name) for name in ("running_mean", "running_var")]


def test_each_weight_moves_by_its_share_of_the_norm_along_the_gradient() -> None:
    model, gamma = Normed().train(), 0.005
    offsets = perturbation(model, batch(), plain, gamma)
    assert set(offsets) == {"first.weight", "last.weight"}
    slopes = dict(zip([n for n, _ in model.named_parameters()], gradients(plain(model, batch()), model), strict=True))
    for name, offset in offsets.items():
        weight = dict(model.named_parameters())[name].detach()
        assert float(offset.norm() / weight.norm()) == pytest.approx(gamma, rel=1e-6)
        assert float(F.cosine_similarity(offset.flatten(), slopes[name].flatten(), 0)) == pytest.approx(1.0, abs=1e-6)


def test_the_gradient_is_that_at_the_moved_weights_and_nothing_stays_moved() -> None:
    model, here = Normed().train(), batch()
    before = {n: v.clone() for n, v in model.state_dict().items()}
    offsets = perturbation(model, here, plain, 0.01)
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())  # statistics, too
    found = gradients(defense("weight_perturbation", gamma=0.01).loss(model, here, plain, random()), model)
    assert all(torch.equal(v, before[n]) for n, v in model.named_parameters())
    moved = Normed().train()
    with torch.no_grad():
        for name, parameter in moved.named_parameters():
            parameter.add_(offsets.get(name, torch.zeros(())))
    expected = gradients(plain(moved, here), moved)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, expected, strict=True))
    assert torch.allclose(statistics(model)[0], statistics(moved)[0])  # of the one pass that is learnt from
    assert int(model.norm.num_batches_tracked) == 1  # type: ignore[arg-type]


def test_the_examples_are_made_once_for_the_weights_as_they_are() -> None:
    made: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            made.append(x)
            logits: Tensor = net(x)
            return logits

    net, spy = Net(examples()[1]), Spy()
    spy.net = net
    attack = contract.build("attack", "pgd", steps=3, stop_on_success=False)
    adversarial = defense("adversarial_training", attack=attack, ratio=1.0)
    alone = adversarial.loss(spy, batch(), plain, random())
    passes, x_adv = len(made), made[-1]
    made.clear()
    defense("weight_perturbation").loss(spy, batch(), lambda m, b: adversarial.loss(m, b, plain, random()), random())
    assert len(made) == passes + 1  # the second loss, and no second attack
    assert torch.equal(made[-1], x_adv)
    assert torch.equal(made[-2], x_adv)
    assert bool(torch.isfinite(alone))


def test_before_adversarial_training_it_moves_the_loss_below_alone() -> None:
    model, here, attack = Normed().eval(), batch(), contract.build("attack", "fgsm")
    adversarial = defense("adversarial_training", attack=attack, ratio=0.25)
    below = defense("weight_perturbation", gamma=0.01)
    clean_and_hard: list[float] = []

    def moved(module: nn.Module, rows: Batch) -> Tensor:
        offsets = perturbation(model, rows, plain, 0.01)
        at = Normed().eval()
        with torch.no_grad():
            for name, parameter in at.named_parameters():
                parameter.add_(offsets.get(name, torch.zeros(())))
        clean_and_hard.append(float(plain(at, rows).detach()))
        found: Tensor = below.loss(module, rows, plain, random())
        return found

    value = adversarial.loss(model, here, moved, random())
    hard, clean = clean_and_hard
    assert float(value.detach()) == pytest.approx(0.25 * hard + 0.75 * clean, abs=1e-5)


def test_the_warm_up_is_without_it() -> None:
    slow = defense("weight_perturbation", gamma=0.01, warm_up=2)
    assert [slow.at_epoch(epoch, 5).gamma for epoch in range(4)] == [0.0, 0.0, 0.01, 0.01]


# --- averages ---


@dataclasses.dataclass(frozen=True)
class Prescribed(Defense):
    """Sets the only weight to the number of the step, from 0 on, or to 1 after ten steps of 0."""

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        return 0.0 * inner(model, batch)

    def after_step(self, model: nn.Module) -> None:
        counter = model.get_buffer("counter")
        step = float(counter)
        next(model.parameters()).fill_(step if counter.dtype == torch.float64 else float(step >= 10))
        counter.add_(1)


class Weight(nn.Module):
    """One weight. counting: whether it shall count on."""

    def __init__(self, *, counting: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(-5.0))
        self.register_buffer("counter", torch.zeros((), dtype=torch.float64 if counting else torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x.flatten(1)[:, :3]


def averaged(averaging: Defense, folder: Path, *, epochs: int, counting: bool) -> Fitting:
    """A training of ten steps per epoch whose weight is prescribed."""
    rows, spec = examples(40)
    recipe = Training(
        epochs=epochs, batch_size=4, optimizer=Optimizer.sgd, schedule=Schedule.constant, learning_rate=1e-3,
        selection_attack=plugin("attack", "pgd", steps=1),
    )  # fmt: skip
    model = Weight(counting=counting)
    fitting = Fitting(model, spec, rows, None, recipe, (Prescribed(), averaging), None, 0, folder)
    train(fitting, small_config(folder).trainer, lambda _: None)
    return fitting


@pytest.mark.parametrize(("decay", "epochs", "value"), [(0.99, 11, 0.6339676587), (0.9, 2, 0.6513215599)])
def test_an_exponential_average_approaches_its_weights_by_its_decay(
    decay: float, epochs: int, value: float, tmp_path: Path
) -> None:
    """After n steps from 0 towards 1 it is 1 - decay^n."""
    fitting = averaged(defense("weight_averaging", decay=decay), tmp_path, epochs=epochs, counting=False)
    assert 1.0 - decay ** (10 * (epochs - 1)) == pytest.approx(value, abs=1e-10)
    assert float(fitting.deployed.get_parameter("weight")) == pytest.approx(value, abs=1e-6)


def test_the_stochastic_average_is_the_mean_of_the_ends_of_epochs(tmp_path: Path) -> None:
    average = defense("weight_averaging", rule=Rule.swa, begin=0.5)
    fitting = averaged(average, tmp_path, epochs=6, counting=True)
    assert float(fitting.deployed.get_parameter("weight")) == pytest.approx((39 + 49 + 59) / 3)
    early = dataclasses.replace(average, begin=0.9)
    before = averaged(early, tmp_path / "early", epochs=1, counting=True)  # int(0.9) is the first epoch
    assert float(before.deployed.get_parameter("weight")) == pytest.approx(9.0)


def test_statistics_of_the_stochastic_average_are_taken_anew_on_clean_inputs(tmp_path: Path) -> None:
    rows, spec = examples(40)
    recipe = Training(epochs=2, batch_size=8, selection_attack=plugin("attack", "pgd", steps=1))
    shifted = _Shifts()
    fitting = Fitting(
        Normed(), spec, rows, None, recipe, (shifted, defense("weight_averaging", rule=Rule.swa)), None, 0, tmp_path
    )
    train(fitting, small_config(tmp_path).trainer, lambda _: None)
    model = fitting.deployed
    assert isinstance(model, Normed)
    values = [model.first(x.flatten(1)) for x in rows.x().split(8)]
    assert torch.allclose(statistics(model)[0], torch.stack([v.mean(0) for v in values]).mean(0), atol=1e-6)
    assert torch.allclose(statistics(model)[1], torch.stack([v.var(0) for v in values]).mean(0), atol=1e-6)


@dataclasses.dataclass(frozen=True)
class _Shifts(Defense):
    """Trains on negatives, so that statistics of training are not those of the clean inputs."""

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        return inner(model, dataclasses.replace(batch, x=1.0 - batch.x))


def test_the_average_of_the_recipe_and_of_the_defense_are_the_same(tmp_path: Path) -> None:
    recipe = Training(epochs=2, learning_rate=0.01, selection_attack=plugin("attack", "pgd", steps=3))
    by_recipe = small_config(tmp_path, training=dataclasses.replace(recipe, ema=0.9))
    by_defense = small_config(tmp_path, training=recipe, defenses=(defense("weight_averaging", decay=0.9),))
    loaded = loaded_of(by_recipe)
    one, other = (fitted_of(c, loaded)[0].model for c in (by_recipe, by_defense))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


# --- Parseval and spectral norms ---


def matrix(rows: int, columns: int) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows)).double()


@pytest.mark.parametrize("shape", [(5, 8), (8, 5)])
def test_a_retraction_maps_each_singular_value(shape: tuple[int, int]) -> None:
    w, beta = matrix(*shape) / 2, 0.1
    s = torch.linalg.svdvals(w)
    expected = ((1 + beta) * s - beta * s**3).abs().sort(descending=True).values
    assert torch.allclose(torch.linalg.svdvals(retracted(w, beta)), expected)


def test_retractions_end_in_an_orthonormal_matrix_which_stays() -> None:
    w = matrix(4, 7) / 2
    for _ in range(200):
        w = retracted(w, 0.1)
    assert torch.allclose(w @ w.T, torch.eye(4).double(), atol=1e-8)
    assert torch.allclose(retracted(w, 0.1), w, atol=1e-8)


def test_after_its_steps_no_layer_stretches() -> None:
    spec = DataSpec((1, 6, 6), 3)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular", bias=False))
    parseval = defense("parseval", beta=0.3)
    with torch.no_grad():
        for _ in range(300):
            parseval.after_step(model)
    assert float(torch.linalg.svdvals(_as_matrix(model, spec.shape)).max()) <= 1.0 + 1e-5
    kernel = model[0].weight
    assert isinstance(kernel, Tensor)
    assert torch.allclose(torch.linalg.svdvals(3.0 * kernel.flatten(1)), torch.ones(4), atol=1e-5)


def _as_matrix(model: nn.Module, shape: tuple[int, ...]) -> Tensor:
    size = math.prod(shape)
    with torch.no_grad():
        columns: Tensor = model(torch.eye(size).reshape(size, *shape)).flatten(1)
    return columns.T


def test_margins_of_an_orthonormal_layer_change_by_sqrt_2_at_most() -> None:
    layer = nn.Linear(8, 3, bias=False)
    with torch.no_grad():
        for _ in range(300):
            defense("parseval", beta=0.3).after_step(layer)
    w = layer.weight.detach()
    gaps = torch.stack([w[i] - w[j] for i in range(3) for j in range(i)])
    assert torch.allclose(gaps.norm(dim=1), torch.full((3,), math.sqrt(2.0)), atol=1e-5)


def test_power_iteration_finds_the_largest_singular_value_and_its_slope() -> None:
    w = matrix(6, 9).requires_grad_(True)
    norm = spectral_norm(w, steps=200, seed=1)
    (slope,) = torch.autograd.grad(norm, w)
    u, s, v = torch.linalg.svd(w.detach(), full_matrices=False)
    assert float(norm.detach()) == pytest.approx(float(s[0]), rel=1e-9)
    assert torch.allclose(slope, torch.outer(u[:, 0], v[0]), atol=1e-6)
    assert float(spectral_norm(w.detach(), steps=1, seed=1)) <= float(s[0])


def test_the_penalty_is_half_the_sum_of_squared_norms() -> None:
    model = Normed()
    spectral = defense("spectral_regularization", strength=0.3, steps=300)
    difference = spectral.loss(model, batch(), plain, random()) - plain(model, batch())
    squared = sum(float(torch.linalg.svdvals(m.detach()).max()) ** 2 for _, m in matrices(model))
    assert float(difference.detach()) == pytest.approx(0.15 * squared, rel=1e-4)


def test_a_convolution_stretches_at_most_sqrt_of_its_kernel_as_much_as_its_matrix() -> None:
    side, kernel = 8, torch.randn(1, 1, 3, 3, generator=torch.Generator().manual_seed(2))
    padded = torch.zeros(side, side)
    padded[:3, :3] = kernel[0, 0]
    exact = float(torch.fft.fft2(padded).abs().max())  # singular values of a circulant convolution
    model = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular", bias=False)
    with torch.no_grad():
        model.weight.copy_(kernel)
    assert float(torch.linalg.svdvals(_as_matrix(model, (1, side, side))).max()) == pytest.approx(exact, rel=1e-5)
    read = float(spectral_norm(kernel.flatten(1), steps=100, seed=0))
    assert read < exact <= 3.0 * read + 1e-6


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("weight_perturbation", {"gamma": -1.0}, "has gamma -1.0 and warm_up 0; expected a share"),
        ("weight_averaging", {"decay": 1.0}, "has decay 1.0 and begin 0.0; expected a decay and a share"),
        ("parseval", {"beta": 0.9}, "beta is 0.9; expected 0 to 0.5"),
        ("spectral_regularization", {"steps": 0}, "and 0 steps; expected a strength of at least 0 and at least 1 step"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        dataclasses.replace(defense(name), **settings)
