"""Adversarial training: its losses against numbers on paper, its inner maximisations against closed forms."""

from __future__ import annotations

import copy
import dataclasses
from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from benchmark_plugins.defenses import adversarial_training as trainer
from benchmark_plugins.defenses._training import maximization, objectives, passes
from torch import Tensor, nn

from benchmark import registry
from benchmark.api import Batch, Defense
from benchmark.errors import ConfigError
from benchmark.sampling import SampleRandom
from benchmark.testing import contract
from benchmark.testing.worlds import Net, examples
from benchmark.threat import Norm, Threat

CLEAN, ADVERSARIAL = torch.tensor([[1.0, 3.0, 2.0]]).double(), torch.tensor([[2.0, 1.0, 0.0]]).double()
DIVERGENCE = 0.7299082805


def plain(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch.x), batch.y)


def batch(count: int = 12) -> Batch:
    train, _ = examples(count)
    return Batch(train.ids, train.x(), train.y)


def random(seed: int = 0, count: int = 12) -> SampleRandom:
    return SampleRandom(seed, examples(count)[0].ids)


def training(**settings: Any) -> Any:
    return contract.build("defense", "adversarial_training", **settings)


def gradients(defense: Defense, model: nn.Module, rng: SampleRandom | None = None) -> list[Tensor]:
    loss = defense.loss(model, batch(), plain, rng or random())
    return list(torch.autograd.grad(loss, list(model.parameters())))


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def close(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.allclose(a, b, atol=1e-6) for a, b in zip(one, other, strict=True))


class Lookup(nn.Module):
    """The two rows of logits on paper: one for clean inputs (0), one for adversarial ones (1)."""

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = torch.where(x[:, :1] > 0.5, ADVERSARIAL, CLEAN)
        return logits


# --- the losses ---


def test_the_divergence_goes_from_the_clean_to_the_adversarial_distribution() -> None:
    assert float(objectives.divergence(CLEAN, ADVERSARIAL)) == pytest.approx(DIVERGENCE, abs=1e-10)
    assert float(objectives.divergence(ADVERSARIAL, CLEAN)) == pytest.approx(0.9957228673, abs=1e-10)
    assert float(objectives.divergence(CLEAN, CLEAN)) == 0.0


def test_the_divergence_has_no_slope_at_the_clean_input() -> None:
    m = CLEAN.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(objectives.divergence(CLEAN, m).sum(), m)
    assert float(slope.abs().max()) < 1e-16


def test_the_terms_of_mart() -> None:
    y = torch.tensor([1])
    boosted = objectives.cross_entropy(ADVERSARIAL, y) + objectives.rival_penalty(ADVERSARIAL, y)
    assert float(boosted) == pytest.approx(2.5019502414, abs=1e-10)
    doubt = 1 - objectives.true_probability(CLEAN, y)
    assert float(doubt) == pytest.approx(0.3347590442, abs=1e-10)
    mart = training(objective=trainer.Objective.mart, weight=5.0)
    rows = Batch(torch.zeros(1).long(), torch.zeros(1, 1), y)
    assert float(mart.objective_at(Lookup(), rows, torch.ones(1, 1), plain)) == pytest.approx(3.7236672331, abs=1e-9)


def test_the_rival_penalty_lives_where_probabilities_round_to_one() -> None:
    logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    value = objectives.rival_penalty(logits, torch.tensor([1]))
    (slope,) = torch.autograd.grad(value.sum(), logits)
    assert float(value.detach()) == pytest.approx(200.0 - torch.tensor(2.0).log().item(), abs=1e-4)
    assert slope.tolist() == [[1.0, -0.5, -0.5]]


def test_the_decoupled_divergence_has_the_gradients_of_the_divergence() -> None:
    sides = {}
    for name, measure in (("kl", objectives.divergence), ("dkl", objectives.decoupled_divergence)):
        m, n = CLEAN.clone().requires_grad_(True), ADVERSARIAL.clone().requires_grad_(True)
        sides[name] = torch.autograd.grad(measure(m, n).sum(), (m, n))
    for kl, dkl in zip(sides["kl"], sides["dkl"], strict=True):
        assert torch.allclose(kl, dkl, atol=1e-12)
    clean, adversarial = (side[0].tolist() for side in sides["dkl"])
    assert clean == pytest.approx([-0.245775, 0.179676, 0.066099], abs=1e-6)
    assert adversarial == pytest.approx([0.575210, -0.420512, -0.154698], abs=1e-6)


def test_the_decoupled_divergence_is_the_double_sum_of_its_paper() -> None:
    m, n = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)).double(), torch.eye(5, 4).double()
    p = m.softmax(1)
    gaps = (m[:, :, None] - m[:, None]) - (n[:, :, None] - n[:, None])
    double_sum = (p[:, :, None] * p[:, None] * gaps.square()).sum((1, 2)) / 4
    assert torch.allclose(objectives.decoupled_divergence(m, n), double_sum - (p * n.log_softmax(1)).sum(1))


def test_the_generalized_divergence_moves_both_sides_by_class_means() -> None:
    m, n = CLEAN.clone().requires_grad_(True), ADVERSARIAL.clone().requires_grad_(True)
    value = objectives.generalized_divergence(m, n, torch.tensor([1]))
    assert torch.allclose(value, objectives.decoupled_divergence(m, n))  # a class of one row is its own mean
    clean, adversarial = torch.autograd.grad(value.sum(), (m, n))
    p, q = CLEAN.softmax(1), ADVERSARIAL.softmax(1)
    assert clean[0].tolist() == pytest.approx([-0.245775, 0.179676, 0.066099], abs=1e-6)
    assert torch.allclose(adversarial, q - p - clean)  # of the cross-entropy, and of the squared error
    two, labels = torch.cat([CLEAN, ADVERSARIAL]), torch.tensor([1, 1])
    mean = two.softmax(1).mean(0)
    gap = two - two.flip(0)
    expected = ((mean * gap**2).sum(1) - (mean * gap).sum(1) ** 2) / 2
    soft = -(two.softmax(1) * two.flip(0).log_softmax(1)).sum(1)
    assert torch.allclose(objectives.generalized_divergence(two, two.flip(0), labels), expected + soft)


def test_trades_adds_the_weighted_divergence_to_the_loss_of_the_stack() -> None:
    trades = training(objective=trainer.Objective.trades, weight=6.0)
    rows = Batch(torch.zeros(1).long(), torch.zeros(1, 1), torch.tensor([1]))
    value = float(trades.objective_at(Lookup(), rows, torch.ones(1, 1), plain))
    assert value == pytest.approx(0.4076059644 + 6.0 * DIVERGENCE, abs=1e-9)


@pytest.mark.parametrize("objective", [trainer.Objective.trades, trainer.Objective.dkl, trainer.Objective.gkl])
def test_without_weight_trades_has_the_gradients_of_plain_training(objective: trainer.Objective) -> None:
    model = Net(examples()[1])
    loss = torch.autograd.grad(plain(model, batch()), list(model.parameters()))
    assert same(gradients(training(objective=objective, weight=0.0), model), list(loss))


@pytest.mark.parametrize("objective", list(trainer.Objective))
def test_at_eps_zero_it_is_plain_training(objective: trainer.Objective) -> None:
    model = Net(examples()[1])
    loss = torch.autograd.grad(plain(model, batch()), list(model.parameters()))
    assert same(gradients(training(objective=objective, eps="0"), model), list(loss))


def test_dkl_trains_as_trades_does() -> None:
    model = Net(examples()[1])
    one, other = (gradients(training(objective=o), model) for o in (trainer.Objective.trades, trainer.Objective.dkl))
    assert close(one, other)


class _Counting(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.training_passes, self.attack_passes = model, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        self.training_passes += self.training
        self.attack_passes += not self.training
        logits: Tensor = self.model(x)
        return logits


def test_trades_passes_the_clean_inputs_once() -> None:
    model = _Counting(Net(examples()[1]))
    training(objective=trainer.Objective.trades, steps=10).loss(model, batch(), plain, random())
    assert model.training_passes == 2  # clean and adversarial
    assert model.attack_passes == 1 + 1 + 10  # the number of classes, the clean logits, the steps


# --- HAT ---


def _helped(**settings: Any) -> tuple[Any, nn.Module]:
    train, spec = examples()
    model = Net(spec)
    fits = []

    def fit(module: nn.Module, given: Any, loss: Any) -> None:
        fits.append(module)
        with torch.no_grad():
            next(module.parameters()).mul_(-1.0)

    hat = training(objective=trainer.Objective.hat, **settings).start(model, train, spec, fit)
    assert len(fits) == 1
    assert fits[0] is not model
    return hat, model


def test_without_its_helper_hat_is_trades() -> None:
    hat, model = _helped(helper_weight=0.0, weight=2.5)
    assert same(gradients(hat, model), gradients(training(objective=trainer.Objective.trades, weight=2.5), model))


def test_the_helper_labels_the_adversarial_input_and_stays_as_it_is() -> None:
    hat, model = _helped(helper_weight=0.5, helper_reach=1.0, weight=0.0)
    before = copy.deepcopy(hat.helper.state_dict())
    here, x_adv = batch(), batch().x.flip(0)
    y = hat.helper(x_adv).argmax(1)
    expected = plain(model, here) + 0.5 * F.cross_entropy(model(x_adv), y)  # at reach 1 the point is x_adv itself
    assert torch.allclose(hat.objective_at(model, here, x_adv, plain), expected)
    gradients(hat, model)
    assert all(torch.equal(v, before[k]) for k, v in hat.helper.state_dict().items())
    assert not any(p.requires_grad for p in hat.helper.parameters())


# --- the inner maximisations ---

WEIGHT = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, -0.5]])


def linear() -> nn.Module:
    module = nn.Linear(3, 2)
    with torch.no_grad():
        module.weight.copy_(WEIGHT)
        module.bias.zero_()
    return module


def middle(count: int = 200) -> Batch:
    x = SampleRandom(3, torch.arange(count)).uniform(3, stream="x", low=0.35, high=0.65)
    return Batch(torch.arange(count), x, torch.arange(count) % 2)


def one_step(**settings: Any) -> Tensor:
    here = middle()
    x_adv: Tensor = maximization.one_step(linear(), here, rng=SampleRandom(0, here.ids), **settings)
    return x_adv - here.x


def test_a_step_of_eps_from_the_clean_input_is_fgsm() -> None:
    here = middle()
    delta = one_step(noise=0.0, step_size=0.1, bound=0.1)
    away = (WEIGHT[1 - here.y] - WEIGHT[here.y]).sign()
    assert torch.allclose(delta, 0.1 * away, atol=1e-6)
    fgsm = contract.build("attack", "fgsm")
    threat = Threat(norm=Norm.linf, eps=Fraction(1, 10))
    by_attack = maximization.attacked(linear(), here, fgsm, threat, SampleRandom(0, here.ids))
    assert torch.allclose(delta, by_attack - here.x, atol=1e-7)


def test_rs_fgsm_stays_in_the_ball_and_n_fgsm_does_not() -> None:
    inside = one_step(noise=0.1, step_size=0.125, bound=0.1)
    assert float(inside.abs().max()) <= 0.1 + 1e-6
    # A start of -0.1 that steps 0.125 up ends at 0.025: no end is nearer to x than that, and most are on the border.
    assert float(inside.abs().min()) >= 0.025 - 1e-6
    outside = one_step(noise=0.2, step_size=0.1, bound=None)
    assert 0.2 < float(outside.abs().max()) <= 0.3 + 1e-6
    assert float(outside.abs().mean()) == pytest.approx(0.125, abs=0.01)  # E|U(-.2, .2) + .1| = (.3^2 + .1^2) / .8


@pytest.mark.parametrize("norm", [Norm.linf, Norm.l2])
def test_the_divergence_is_ascended_inside_the_ball(norm: Norm) -> None:
    here, model, threat = middle(), linear(), Threat(norm=norm, eps=Fraction(1, 10))
    rng = SampleRandom(0, here.ids)
    x_adv = maximization.most_divergent(model, here, threat, steps=10, step_size=0.025, rng=rng)
    assert bool(threat.around(here.x, rng).audit(x_adv).inside.all())
    clean = model(here.x)
    found = objectives.divergence(clean, model(x_adv)).detach()
    w = WEIGHT[0] - WEIGHT[1]
    step = 0.1 * (w.sign() if norm is Norm.linf else w / w.norm())
    ends = torch.stack([objectives.divergence(clean, model(here.x + s * step)) for s in (1.0, -1.0)]).detach()
    assert bool((found <= ends.max(0).values + 1e-5).all())  # of a linear model one of the two ends is the best
    assert torch.allclose(found, torch.where((found - ends[0]).abs() < 1e-4, ends[0], ends[1]), atol=1e-4)


def test_a_constant_model_leaves_the_divergence_without_a_direction() -> None:
    here, model = middle(4), nn.Linear(3, 2)
    nn.init.zeros_(model.weight)
    for norm in (Norm.linf, Norm.l2):
        threat = Threat(norm=norm, eps=Fraction(1, 10))
        rng = SampleRandom(0, here.ids)
        x_adv = maximization.most_divergent(model, here, threat, steps=3, step_size=0.05, rng=rng)
        assert bool(torch.isfinite(x_adv).all())
        assert float((x_adv - here.x).abs().max()) < 0.01


class _Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.layer = nn.BatchNorm1d(3), linear()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layer(self.norm(x))
        return logits


@pytest.mark.parametrize("how", [m for m in trainer.Maximization if m is not trainer.Maximization.auto])
def test_statistics_are_those_of_the_training_passes_alone(how: trainer.Maximization) -> None:
    here, model = middle(32), _Normed().train()
    reference = copy.deepcopy(model)
    defense = training(ratio=1.0, maximization=how)
    seen: list[Tensor] = []

    def spy(module: nn.Module, rows: Batch) -> Tensor:
        seen.append(rows.x)
        return plain(module, rows)

    defense.loss(model, here, spy, SampleRandom(0, here.ids))
    reference(seen[0])
    assert len(seen) == 1
    assert torch.equal(model.norm.get_buffer("running_mean"), reference.norm.get_buffer("running_mean"))
    assert torch.equal(model.norm.get_buffer("running_var"), reference.norm.get_buffer("running_var"))


def test_modes_are_as_found_even_when_the_attack_raises() -> None:
    model = _Normed().train()
    model.norm.eval()  # frozen by whoever trains

    def fail() -> None:
        with passes.evaluating(model):
            assert not model.training
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (model.training, model.norm.training, model.layer.training) == (True, False, True)


# --- several balls, and radii that grow ---


def test_the_worst_ball_is_chosen_per_example() -> None:
    here, model = middle(8), linear()
    candidates = [here.x, here.x.flip(1), 1.0 - here.x]
    chosen = maximization.worst(model, here, candidates)
    losses = torch.stack([objectives.cross_entropy(model(c), here.y) for c in candidates])
    assert torch.allclose(objectives.cross_entropy(model(chosen), here.y), losses.max(0).values)


def test_unions_of_norms_average_or_take_the_worst() -> None:
    model, here = linear(), middle(16)
    rng = SampleRandom(0, here.ids)

    def value(**settings: Any) -> float:
        defense = training(ratio=1.0, attack=contract.build("attack", "fgsm"), **settings)
        return float(defense.loss(model, here, plain, rng).detach())

    linf, l2 = value(), value(norm=Norm.l2, eps="1/2")
    assert value(others=("l2:1/2",)) == pytest.approx((linf + l2) / 2, abs=1e-6)
    assert value(others=("l2:1/2",), union=trainer.Union.max) >= max(linf, l2) - 1e-6


def test_radii_grow_from_a_clean_epoch() -> None:
    defense = training(ramp=0.5, others=("l2:1",), eps="1/10")
    radii = [[t.eps for t in defense.at_epoch(epoch, 8).threats()] for epoch in range(8)]
    grown = [Fraction(min(e, 4), 4) for e in range(8)]
    assert radii == [[g / 10, g] for g in grown]
    assert defense.training_threat().eps == Fraction(1, 10)
    model = Net(examples()[1])
    loss = torch.autograd.grad(plain(model, batch()), list(model.parameters()))
    assert same(gradients(defense.at_epoch(0, 8), model), list(loss))


# --- settings ---


def test_settings_that_were_added_later_leave_old_keys_alone() -> None:
    assert set(registry.settings(training())) == {"attack", "norm", "eps", "ratio"}
    assert registry.settings(training(objective=trainer.Objective.trades))["objective"] == "trades"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"ramp": 1.5}, r"ramp is 1\.5; expected a share of the epochs"),
        ({"steps": 0}, "has 0 steps of size None; expected at least 1 step"),
        ({"others": ("l9:1",)}, "others has 'l9:1'; expected a norm and a radius, such as l2:1/2"),
        (
            {"norm": Norm.l2, "maximization": trainer.Maximization.n_fgsm},
            "n_fgsm, which works under linf, but it trains",
        ),
        ({"norm": Norm.l1, "objective": trainer.Objective.trades}, "divergence, which works under linf, l2, but it"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        dataclasses.replace(training(), **settings)
