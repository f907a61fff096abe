"""Plain gradient descent on the input, fooling images and confusion: fixed points, finite differences, known ends."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from benchmark_plugins.attacks._ascent.descent import DescentLoss, squared
from benchmark_plugins.attacks._physical.logos import logos
from benchmark_plugins.attacks.confusion import Confusion, Doubt
from benchmark_plugins.attacks.fooling import Fooling, FoolingStart
from benchmark_plugins.attacks.gradient_descent import GradientDescent, step
from benchmark_plugins.metrics.confidence import Confidence
from torch import Tensor, nn

from benchmark.api import Attack
from benchmark.data import DataSpec
from benchmark.errors import ConfigError, Refused
from benchmark.oracles.linear import LinearClassifier, nearest_class_mean
from benchmark.records.outcomes import Outcomes
from benchmark.records.record import read_record
from benchmark.records.store import Store
from benchmark.run import run as run_cell
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.system.target import Target
from benchmark.threat import Goal, Norm, Region, RegionKind, Threat
from benchmark.threat.ball import Ball, distance
from tests.core.cells import plugin, small_config
from tests.plugins._made_outcomes import made_outcomes

DIGITS = nearest_class_mean("digits")
X, Y = DIGITS.x[:60].float(), DIGITS.y[:60]


def run(method: Attack, threat: Threat, model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Target]:
    classes = int(model(x).shape[1])
    rng = SampleRandom(0, torch.arange(len(x)) + 5)
    target = Target(System(model, DataSpec(tuple(x.shape[1:]), classes)), rng=rng, classes=classes)
    return method.perturb(target, x, y, threat=threat, rng=rng), target


def sharp(factor: float) -> LinearClassifier:
    """The digits' classifier with logits `factor` times as large: its probabilities are less even."""
    return LinearClassifier(factor * DIGITS.weight, factor * DIGITS.bias).requires_grad_(False)


def test_the_squared_loss_has_the_gradient_of_its_finite_differences() -> None:
    logits = torch.tensor([[1.0, -0.5, 0.3], [0.2, 2.0, -1.0]], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([2, 0])
    probabilities = logits.detach().exp() / logits.detach().exp().sum(1, keepdim=True)
    by_hand = (torch.eye(3, dtype=torch.float64)[y] - probabilities).square().sum(1) / 2
    torch.testing.assert_close(squared(logits, y), by_hand)
    assert torch.autograd.gradcheck(lambda z: squared(z, y), (logits,))
    for kind in DescentLoss:
        towards, away = (kind(logits, cast(Any, SimpleNamespace(y=y, targeted=t))) for t in (True, False))
        assert torch.equal(towards, -away)


def test_descent_ends_at_the_ridge_solution_of_a_linear_system() -> None:
    """With identity for softmax: (W^T W + penalty I)^-1 (W^T (goal - b) + penalty x_0), here inside the box."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(4, 9, generator=generator, dtype=torch.float64)
    bias = torch.randn(4, generator=generator, dtype=torch.float64)
    x = 0.3 + 0.4 * torch.rand(3, 9, generator=generator, dtype=torch.float64)
    goal, penalty = x @ weight.T + bias + 0.1, 0.5
    right = (goal - bias) @ weight + penalty * x
    ridge = torch.linalg.solve(weight.T @ weight + penalty * torch.eye(9, dtype=torch.float64), right.T).T
    ball, at = Ball(x, Norm.l2, 1e12), x
    for _ in range(600):
        at = step(at, (at @ weight.T + bias - goal) @ weight, ball, 0.03, penalty)
    torch.testing.assert_close(at, ridge)
    assert float((ridge - x).abs().max()) > 0.01


def test_a_heavy_penalty_returns_the_input_and_a_light_one_does_not() -> None:
    threat = Threat(Norm.l2, Fraction(2), goal=Goal.next_class)
    y = (Y + 1) % 10
    held, _ = run(GradientDescent(penalty=1e12), threat, sharp(1.0), X, y)
    assert torch.equal(held, X)
    model = sharp(1.0)
    free, target = run(GradientDescent(steps=200, penalty=0.0, search_steps=0), threat, model, X, y)
    reached = model(free).argmax(1) == y
    assert float(reached.float().mean()) > 0.8
    assert torch.equal(free[~reached], X[~reached])
    assert int(target.ledger.forwards.max()) == 200


def test_what_descent_finds_is_never_nearer_than_the_boundary() -> None:
    model, exact = sharp(1.0), DIGITS.distance(Norm.l2)[:60]
    near, _ = run(GradientDescent(), Threat(Norm.l2, Fraction(1)), model, X, Y)
    wrong = (model(near).argmax(1) != Y) & (exact > 0)
    ratio = distance(near, X, Norm.l2)[wrong] / exact[wrong]
    assert bool((ratio > 1 - 1e-6).all())
    assert int(wrong.sum()) >= 50
    assert float(ratio.median()) < 1.2


# --- fooling images ---


@pytest.mark.parametrize("loss", [DescentLoss.squared, DescentLoss.ce], ids=lambda v: v.value)
def test_fooling_images_are_sure_and_begin_as_noise(loss: DescentLoss) -> None:
    model, y = sharp(1.0), (Y + 3) % 10
    threat = Threat(Norm.linf, Fraction(8, 255), goal=Goal.next_class)
    x_adv, target = run(Fooling(confidence=0.9, loss=loss), threat, model, X, y)
    sure = model(x_adv).softmax(1).gather(1, y[:, None])
    assert float(sure.min()) >= 0.9
    assert int(target.ledger.forwards.max()) < 2000
    untouched, _ = run(Fooling(steps=1, step_size=1e-12), threat, model, X, y)
    assert float(untouched.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(untouched.std()) == pytest.approx(0.1, rel=0.05)


def test_fooling_images_take_no_loss_of_scaled_scores() -> None:
    with pytest.raises(ConfigError, match=r"attack\.loss is scaled.*choose attack\.loss=squared or ce"):
        Fooling(loss=DescentLoss.scaled)


def test_fooling_images_show_the_example_outside_the_region() -> None:
    x, model = X.reshape(-1, 1, 8, 8), sharp(1.0)
    threat = Threat(Norm.linf, Fraction(8, 255), region=Region(RegionKind.square, 4))
    x_adv, _ = run(Fooling(steps=50), threat, model, x, Y)
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[2:6, 2:6] = True
    assert torch.equal(x_adv[:, :, ~inside], x[:, :, ~inside])
    assert bool((x_adv[:, :, inside] != x[:, :, inside]).any(2).all())


def test_without_a_target_the_likeliest_wrong_label_of_the_noise_is_reached() -> None:
    model = sharp(1.0)
    noise, _ = run(Fooling(steps=1, step_size=1e-12), Threat(Norm.linf, Fraction(1)), model, X, Y)
    x_adv, _ = run(Fooling(confidence=0.5), Threat(Norm.linf, Fraction(1)), model, X, Y)
    expected = model(noise).scatter(1, Y[:, None], -torch.inf).argmax(1)
    assert torch.equal(model(x_adv).argmax(1), expected)


def test_a_confidence_is_a_probability() -> None:
    with pytest.raises(ConfigError, match=r"attack\.confidence is 1\.0; expected a probability between 0 and 1"):
        Fooling(confidence=1.0)


# --- confusion ---


@pytest.mark.parametrize("doubt", list(Doubt), ids=lambda v: v.value)
@pytest.mark.parametrize("norm", [Norm.linf, Norm.l2], ids=lambda v: v.value)
def test_two_classes_end_on_their_boundary(doubt: Doubt, norm: Norm) -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(2, 20, generator=generator)
    x = 0.3 + 0.4 * torch.rand(16, 20, generator=generator)
    model = LinearClassifier(weight, -(weight @ x.mean(0))).requires_grad_(False)
    eps = Fraction(1, 5) if norm is Norm.linf else Fraction(1)
    x_adv, _ = run(Confusion(doubt=doubt), Threat(norm, eps), model, x, model(x).argmax(1))
    assert float(model(x).softmax(1).amax(1).median()) > 0.6
    torch.testing.assert_close(model(x_adv).softmax(1), torch.full((16, 2), 0.5), rtol=0, atol=1e-3)


def test_confusion_never_makes_an_answer_surer_and_more_room_makes_it_less_sure() -> None:
    model = sharp(5.0)
    tops = [model(X).softmax(1).amax(1)]
    for eps in (Fraction(1, 50), Fraction(1, 10), Fraction(1, 4)):
        tops.append(model(run(Confusion(), Threat(Norm.linf, eps), model, X, Y)[0]).softmax(1).amax(1))
    assert bool((tops[1] <= tops[0]).all())
    means = [float(top.mean()) for top in tops]
    assert means == sorted(means, reverse=True)
    assert means[0] > 0.9
    assert means[-1] < 0.4


def test_confusion_costs_what_it_says() -> None:
    _, target = run(Confusion(steps=7), Threat(Norm.linf, Fraction(1, 10)), sharp(1.0), X, Y)
    assert target.ledger.forwards.unique().tolist() == [8]
    assert target.ledger.backwards.unique().tolist() == [7]


def test_confidence_of_five_examples_by_hand() -> None:
    """One is wrong clean, one invalid; of the three that count two are below 0.55."""
    outcomes = made_outcomes(
        torch.tensor([True, False, True, True, True]),
        valid=torch.tensor([True, True, False, True, True]),
        confidence=torch.tensor([0.5, 0.1, 0.2, 0.9, 0.4]),
    )
    mean, share = Confidence().measure(outcomes)
    assert (mean.name, mean.unit, mean.higher_is_better) == ("attacked_confidence", "probability", None)
    assert mean.value == pytest.approx(0.6)
    assert share.value == pytest.approx(2 / 3)
    assert mean.low is not None
    assert mean.high is not None
    assert mean.high - mean.value == pytest.approx(1.96 * (0.14 / 3 / 3) ** 0.5, rel=1e-3)
    unknown = dataclasses.replace(outcomes, confidence=None)
    assert [(m.value, m.low, m.high) for m in Confidence().measure(unknown)] == [(None, None, None)] * 2
    with pytest.raises(ConfigError, match=r"metric\.confidence\.threshold is 0; expected a probability above 0"):
        Confidence(threshold=0)


def test_a_cell_says_how_unsure_its_system_was_made(tmp_path: Path) -> None:
    found = {}
    for name in ("none", "confusion"):
        config = small_config(tmp_path, attack=plugin("attack", name), metrics=(Confidence(),), examples=60)
        result = run_cell(config)
        assert result.status == "complete", result.error
        folder = Store(tmp_path / "results").cell(result.key)
        outcomes, record = Outcomes.load(folder / "outcomes.safetensors"), read_record(folder)
        assert outcomes.confidence is not None
        assert bool(((outcomes.confidence > 0.1) & (outcomes.confidence <= 1)).all())
        found[name] = record.metric("attacked_confidence"), record.metric("confused"), outcomes.confidence
    before, after = found["none"], found["confusion"]
    assert bool((after[2] <= before[2]).all())
    assert before[0] is not None
    assert after[0] is not None
    assert (before[0].value or 0) > (after[0].value or 0)


def test_a_rogue_sign_starts_from_a_logo_and_ends_at_its_label() -> None:
    """The start is drawn by the row's randomness alone, and the end is nearer to it than to another logo."""
    rng = SampleRandom(0, torch.arange(60) + 5)
    start = logos((1, 8, 8), rng, stream="fooling/logo")
    assert torch.equal(start[7:9], logos((1, 8, 8), rng.rows(torch.tensor([7, 8])), stream="fooling/logo"))
    assert 0.0 <= float(start.min()) < 0.2
    assert 0.8 < float(start.max()) <= 1.0
    assert len(start.flatten(1).unique(dim=0)) == 60
    assert all(2 <= len(one.unique()) <= 3 for one in start)
    goal = (Y + 3) % 10
    threat = Threat(Norm.linf, Fraction(1), goal=Goal.random_class)
    attack = Fooling(start=FoolingStart.logo, loss=DescentLoss.ce, steps=400, step_size=0.005, confidence=0.9)
    x_adv, _ = run(attack, threat, sharp(20.0), X.reshape(-1, 1, 8, 8), goal)
    sure = sharp(20.0)(x_adv).softmax(1).gather(1, goal[:, None])
    assert float((sure >= 0.85).float().mean()) == 1.0
    moved, apart = ((one - start).flatten(1).norm(dim=1).mean() for one in (x_adv, start.roll(1, 0)))
    assert float(moved) < 0.5 * float(apart)
    with pytest.raises(Refused, match=r"attack\.fooling with start=logo needs images"):
        attack.check(DataSpec((20,), 2), threat)
