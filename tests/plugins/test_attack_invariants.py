"""Gradient attacks: what must change nothing, difficult models, goals and regions."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from benchmark_plugins.attacks._base.active import AttackLoss
from benchmark_plugins.attacks.bim import BIM
from benchmark_plugins.attacks.deepfool import DeepFool
from benchmark_plugins.attacks.fgsm import FGSM
from benchmark_plugins.attacks.pgd import PGD
from torch import Tensor, nn

from benchmark.api import Attack
from benchmark.data import DataSpec
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.system.target import Target
from benchmark.testing.toys import Broken, Constant, Probabilities, Quantised, RandomisedLinear, Scaled
from benchmark.threat import Access, Goal, Norm, Region, RegionKind, Threat
from benchmark.threat.ball import distance
from tests.plugins.attacked_digits import DIGITS, METHODS, attack, robust

FEW = torch.arange(0, 500, 17)


@pytest.mark.parametrize("method", [*METHODS, DeepFool()], ids=str)
def test_a_batch_of_one_is_a_batch_of_many(method: Attack) -> None:
    whole, single, odd = (attack(method, eps=0.15, batch=size, rows=FEW) for size in (512, 1, 7))
    assert torch.equal(whole.x_adv, single.x_adv)
    assert torch.equal(whole.x_adv, odd.x_adv)
    assert torch.equal(whole.ledger.forwards, single.ledger.forwards)
    assert torch.equal(whole.ledger.backwards, single.ledger.backwards)


@pytest.mark.parametrize("method", [FGSM(), BIM(), PGD(), PGD(loss=AttackLoss.dlr), DeepFool()], ids=str)
@pytest.mark.parametrize("shift", [-50.0, 1000.0])
def test_a_constant_added_to_all_logits_changes_no_result(method: Attack, shift: float) -> None:
    """Logits are rounded to multiples of 2^-10, so that the sum is exact, and the gradients are those of the model."""

    class Rounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = DIGITS.model()

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.model(x)
            return logits + ((logits * 1024).round() / 1024 - logits).detach()

    plain = attack(method, model=Rounded())
    moved = attack(method, model=Scaled(Rounded(), shift=shift))
    assert torch.equal(plain.broken, moved.broken)
    assert torch.equal(plain.ledger.forwards, moved.ledger.forwards)
    torch.testing.assert_close(plain.x_adv, moved.x_adv, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", [FGSM(), BIM(), PGD(), DeepFool()], ids=str)
def test_saturated_probabilities_hide_no_gradient(method: Attack) -> None:
    """At 1000 times the logits the cross-entropy of float32 is exactly 0 for most digits, and so is its gradient."""
    logits = 1000.0 * DIGITS.logits(DIGITS.x).float()
    assert int((nn.functional.cross_entropy(logits, DIGITS.y, reduction="none") == 0).sum()) > 400
    result = attack(method, eps=0.15, model=Scaled(DIGITS.model(), scale=1000.0))
    usual = attack(method, eps=0.15)
    assert int(result.broken.sum()) >= int(usual.broken.sum()) - 2
    assert not bool(result.ledger.zero_gradient.any())


@pytest.mark.parametrize("method", [*METHODS, DeepFool()], ids=str)
def test_inputs_and_the_global_generator_are_left_alone(method: Attack) -> None:
    system = System(DIGITS.model(), DataSpec((64,), 10))
    x, y = DIGITS.x[:40].float(), DIGITS.y[:40].clone()
    given, labels, state = x.clone(), y.clone(), torch.get_rng_state()
    rng = SampleRandom(0, torch.arange(40))
    x_adv = method.perturb(Target(system, rng=rng, classes=10), given, labels, threat=Threat(), rng=rng)
    assert torch.equal(given, x)
    assert torch.equal(labels, y)
    assert torch.equal(torch.get_rng_state(), state)
    assert x_adv.dtype == torch.float32
    assert not x_adv.requires_grad


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_radius_of_zero_is_the_identity(method: Attack) -> None:
    for norm in method.supports.norms:
        result = attack(method, norm, 0, rows=FEW)
        torch.testing.assert_close(result.x_adv, result.x, rtol=0, atol=0)


SPOILED: dict[str, Callable[[], nn.Module]] = {
    "zero gradient": lambda: Constant(torch.arange(10.0)),
    "no graph": lambda: Constant(torch.arange(10.0), connected=False),
    "nan logits": lambda: Constant(torch.full((10,), torch.nan)),
    "nan gradient": lambda: Broken(DIGITS.model()),
    "quantised": lambda: Quantised(DIGITS.model(), 4),
    "probabilities": lambda: Probabilities(DIGITS.model()),
}


@pytest.mark.parametrize("kind", list(SPOILED))
@pytest.mark.parametrize("method", [*METHODS, DeepFool()], ids=str)
def test_difficult_models_get_allowed_points(method: Attack, kind: str) -> None:
    for norm in method.supports.norms:
        for goal in (Goal.untargeted, Goal.next_class) if method.supports.targeted else (Goal.untargeted,):
            result = attack(method, norm, 1, model=SPOILED[kind](), rows=FEW, goal=goal)
            assert bool(torch.isfinite(result.x_adv).all())


def test_gradients_fail_on_a_quantised_model_and_bpda_does_not() -> None:
    blind = attack(FGSM(), eps=0.15, model=Quantised(DIGITS.model(), 8))
    assert not bool(blind.broken.any())
    assert bool(blind.ledger.zero_gradient.all())
    seeing = attack(PGD(), eps=0.15, model=Quantised(DIGITS.model(), 8, straight_through=True))
    assert robust(seeing) < 0.5


def test_a_random_system_is_attacked_to_the_end() -> None:
    """One lucky draw is no success, so nothing stops early where the answer is random."""
    model = RandomisedLinear(DIGITS.weight, DIGITS.bias, 0.3)
    system = System(model, DataSpec((64,), 10))
    rows = torch.arange(60)
    rng = SampleRandom(0, rows)
    target = Target(system, rng=rng, classes=10, eot=4, randomized=True)
    PGD(steps=5).perturb(
        target, DIGITS.x[:60].float(), DIGITS.y[:60], threat=Threat(eps=Fraction(1, 5), eot=4), rng=rng
    )
    assert target.ledger.forwards.unique().tolist() == [20]


def test_a_transfer_attacker_does_not_settle_for_its_own_success() -> None:
    result = attack(PGD(steps=6), eps=0.2, access=Access.transfer, surrogate="0" * 8)
    assert result.ledger.forwards.unique().tolist() == [6]
    assert attack(PGD(steps=6), eps=0.2, aware=False).ledger.forwards.unique().tolist() == [6]


@pytest.mark.parametrize(
    "method", [FGSM(), BIM(), PGD(), PGD(loss=AttackLoss.margin), PGD(loss=AttackLoss.dlr)], ids=str
)
def test_targeted_attacks_reach_the_label(method: Attack) -> None:
    reached = attack(method, eps=0.3, goal=Goal.next_class)
    assert float(reached.broken.double().mean()) > (0.3 if isinstance(method, FGSM) else 0.7)
    less = attack(method, eps=0.1, goal=Goal.next_class)
    assert int(less.broken.sum()) < int(reached.broken.sum())
    away = attack(method, eps=0.1)
    assert int(less.broken.sum()) < int(away.broken.sum())


@pytest.mark.parametrize("method", [*METHODS[1:], DeepFool()], ids=str)
def test_nothing_changes_outside_the_region(method: Attack) -> None:
    x = DIGITS.x.reshape(-1, 1, 8, 8)
    region = Region(RegionKind.square, 4)
    for norm in method.supports.norms:
        result = attack(method, norm, {Norm.linf: 0.3, Norm.l2: 1, Norm.l1: 3, Norm.l0: 4}[norm], x=x, region=region)
        mask = torch.zeros(1, 8, 8, dtype=torch.bool)
        mask[:, 2:6, 2:6] = True
        assert bool((result.x_adv == result.x)[:, ~mask].all())
        exact = DIGITS.distance(norm, mask.flatten())[result.rows]
        far = distance(result.x_adv, result.x, norm)
        assert bool((exact[result.broken] <= far[result.broken] * (1 + 1e-4) + 1e-9).all())
        if isinstance(method, DeepFool):
            reachable = torch.isfinite(exact)
            assert bool(result.broken[reachable].double().mean() > 0.99)
            assert float((far / exact)[result.broken].median()) < 1.002
