"""Universal perturbations: closed forms on linear systems, their norm, and whom they fool that they have not seen."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest
import torch
from benchmark_plugins.attacks.uap import UAP
from benchmark_plugins.attacks.universal import Universal
from torch import Tensor, nn

from benchmark.api import PreparedAttack
from benchmark.data import DataSpec
from benchmark.errors import AttackFault, ConfigError
from benchmark.oracles.linear import LinearClassifier, nearest_class_mean
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.system.target import Target
from benchmark.threat import Goal, Norm, Threat
from benchmark.threat.ball import rows_norm

DIGITS = nearest_class_mean("digits")
KNOWN, UNSEEN = torch.randperm(500, generator=torch.Generator().manual_seed(0)).chunk(2)


def prepared(
    method: PreparedAttack, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, classes: int
) -> tuple[dict[str, Tensor], Target]:
    rng = SampleRandom(0, torch.arange(len(x)))
    system = System(model, DataSpec(tuple(x.shape[1:]), classes))
    target = Target(system, rng=rng, classes=classes, queries=threat.queries)
    return method.prepare(target, x, y, threat=threat, rng=rng), target


def fooled(
    method: PreparedAttack, made: dict[str, Tensor], model: nn.Module, x: Tensor, y: Tensor, t: Threat
) -> Tensor:
    rng = SampleRandom(0, torch.arange(len(x)) + 5000)
    classes = int(model(x).shape[1])
    target = Target(System(model, DataSpec(tuple(x.shape[1:]), classes)), rng=rng, classes=classes, prepared=made)
    x_adv = method.perturb(target, x, y, threat=t, rng=rng)
    assert int(target.ledger.forwards.sum()) == 0
    assert not t.around(x, rng).audit(x_adv).excess.any()
    answer: Tensor = model(x_adv).argmax(1)
    return answer


def two_classes() -> tuple[LinearClassifier, Tensor, Tensor]:
    """A linear system of two classes, its slope from class 0 to 1, and inputs of class 0 far from the box's ends."""
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(2, 30, generator=generator)
    x = 0.4 + 0.2 * torch.rand(40, 30, generator=generator)
    slope = weight[1] - weight[0]
    bias = torch.tensor([float((x @ slope).max()) + 0.5, 0.0])
    return LinearClassifier(weight, bias).requires_grad_(False), slope, x


@pytest.mark.parametrize("method", [Universal(), UAP(fooling=1.0)], ids=lambda m: type(m).__name__)
def test_two_classes_have_one_best_perturbation(method: PreparedAttack) -> None:
    """Every input of class 0 is best moved along the slope: eps times its sign under linf, its direction under l2."""
    model, slope, x = two_classes()
    y = torch.zeros(40, dtype=torch.int64)
    for norm, best in ((Norm.linf, slope.sign()), (Norm.l2, slope / slope.norm())):
        threat = Threat(norm, Fraction(1, 100))  # too small to fool any, so that all of it is used
        made, _ = prepared(method, model, x, y, threat, 2)
        torch.testing.assert_close(made["delta"].reshape(30), 0.01 * best, rtol=0, atol=1e-6)


def test_with_labels_to_reach_there_is_a_perturbation_for_each() -> None:
    model, slope, x = two_classes()
    y = torch.arange(40) % 2
    threat = Threat(Norm.linf, Fraction(1, 100), goal=Goal.next_class)
    made, target = prepared(Universal(epochs=15), model, x, y, threat, 2)
    torch.testing.assert_close(made["delta"], 0.01 * torch.stack([-slope.sign(), slope.sign()]))
    assert target.ledger.forwards.unique().tolist() == [15]  # each example serves the one label that it does not have
    eps = float((0.5 + (x @ slope).max() - (x @ slope).min()) / slope.abs().sum()) + 1e-3
    wide = dataclasses.replace(threat, eps=Fraction(eps))
    made, _ = prepared(Universal(), model, x, y, wide, 2)
    zeros = torch.zeros(40, dtype=torch.int64)
    assert bool((fooled(Universal(), made, model, x, 1 - zeros, wide) == 1).all())
    assert bool((fooled(Universal(), made, model, x, zeros, wide) == 0).all())


@pytest.mark.parametrize("norm", [Norm.linf, Norm.l2], ids=lambda v: v.value)
def test_examples_that_it_has_not_seen_are_fooled(norm: Norm) -> None:
    """As often as those that it has, more often than by any of 20 noises as large, and more often with more room."""
    x, y, model = DIGITS.x.float(), DIGITS.y, DIGITS.model()
    rates = []
    for eps in (Fraction(1, 5), Fraction(3, 10)) if norm is Norm.linf else (Fraction(1), Fraction(2)):
        threat = Threat(norm, eps)
        made, _ = prepared(Universal(), model, x[KNOWN], y[KNOWN], threat, 10)
        assert float(rows_norm(made["delta"], norm)) <= float(eps) * (1 + 1e-6)
        seen, unseen = (
            float((fooled(Universal(), made, model, x[part], y[part], threat) != y[part]).float().mean())
            for part in (KNOWN, UNSEEN)
        )
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(20, 64, generator=generator)
        noise = noise.sign() if norm is Norm.linf else noise / noise.norm(dim=1, keepdim=True)
        moved = (x[UNSEEN] + float(eps) * noise[:, None]).clamp(0, 1)
        wrong = (model(moved.flatten(0, 1)).argmax(1).reshape(20, -1) != y[UNSEEN]).float().mean(1)
        assert unseen > float(wrong.max())
        assert abs(seen - unseen) < 0.08
        rates.append(unseen)
    assert rates == sorted(rates)
    assert rates[1] > 0.5


def test_uap_stops_when_enough_are_fooled_and_never_asks_beyond_the_budget() -> None:
    x, y, model = DIGITS.x[KNOWN].float(), DIGITS.y[KNOWN], DIGITS.model()
    threat = Threat(Norm.l2, Fraction(3))
    few = prepared(UAP(epochs=20, fooling=0.3), model, x, y, threat, 10)
    many = prepared(UAP(epochs=20, fooling=0.7), model, x, y, threat, 10)
    assert int(few[1].ledger.forwards.sum()) <= int(many[1].ledger.forwards.sum())
    for (made, _), least in ((few, 0.3), (many, 0.7)):
        answers = fooled(UAP(), made, model, x, y, threat)
        clean = model(x).argmax(1)
        assert float((answers != clean).float().mean()) >= least
    _, target = prepared(UAP(), model, x[:20], y[:20], dataclasses.replace(threat, queries=3), 10)
    assert int(target.ledger.forwards.max()) <= 3


def test_the_budget_is_shared_out_over_the_labels() -> None:
    x, y, model = DIGITS.x[KNOWN].float(), DIGITS.y[KNOWN], DIGITS.model()
    threat = Threat(Norm.linf, Fraction(1, 5), goal=Goal.next_class, queries=25)
    made, target = prepared(Universal(), model, x, y, threat, 10)
    assert int(target.ledger.forwards.max()) == 18  # two epochs for each of nine labels
    assert bool((made["delta"].flatten(1) != 0).any(1).all())


def test_what_was_not_prepared_cannot_be_used() -> None:
    rng = SampleRandom(0, torch.arange(5))
    target = Target(System(DIGITS.model(), DataSpec((64,), 10)), rng=rng, classes=10)
    with pytest.raises(
        AttackFault, match=r"needs tensors that it prepares once per cell, but none were prepared here; use"
    ):
        Universal().perturb(target, DIGITS.x[:5].float(), DIGITS.y[:5], threat=Threat(), rng=rng)


def test_settings_are_refused_with_their_names() -> None:
    with pytest.raises(ConfigError, match=r"attack\.examples is 0; expected at least 1"):
        Universal(examples=0)
    with pytest.raises(ConfigError, match=r"attack\.fooling is 0; expected a share of the examples above 0, at most 1"):
        UAP(fooling=0)
