"""Attacks away from the digits: 1 to 3072 features, two classes, twin classes, scores times 1e-8 to 1e8, 4x4 images."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest
import torch
from benchmark_plugins.attacks.alma import ALMA
from benchmark_plugins.attacks.apgd import APGD
from benchmark_plugins.attacks.autoattack import AutoAttack
from benchmark_plugins.attacks.carlini_wagner import CarliniWagner
from benchmark_plugins.attacks.ddn import DDN
from benchmark_plugins.attacks.deepfool import DeepFool
from benchmark_plugins.attacks.fab import FAB
from benchmark_plugins.attacks.fmn import FMN
from benchmark_plugins.attacks.gradient_descent import GradientDescent
from benchmark_plugins.attacks.jsma import JSMA
from benchmark_plugins.attacks.lbfgs import LBFGS
from benchmark_plugins.attacks.noise import Noise
from benchmark_plugins.attacks.pdpgd import PDPGD
from benchmark_plugins.attacks.pgd import PGD
from benchmark_plugins.attacks.rays import RayS
from benchmark_plugins.attacks.sigma_zero import SigmaZero
from benchmark_plugins.attacks.square import Square
from benchmark_plugins.attacks.superdeepfool import SuperDeepFool
from torch import Tensor, nn

from benchmark.api import Attack
from benchmark.data import DataSpec
from benchmark.oracles.worlds import LINEAR, WORLDS, AttackWorld, attack_world
from benchmark.sampling import SampleRandom
from benchmark.system.target import Target
from benchmark.threat import Norm, Threat
from benchmark.threat.ball import distance


def found(attack: Attack, world: AttackWorld, norm: Norm, eps: str = "1") -> tuple[Tensor, Tensor]:
    """Distances (N,) of the successes, infinite where there is none, and forward passes (N,)."""
    ids = torch.arange(len(world.x))
    threat = Threat(norm, Fraction(eps), access=attack.supports.access)
    target = Target(world.model, rng=SampleRandom(1, ids), classes=world.spec.classes, access=threat.access)
    x_adv = attack.perturb(target, world.x.clone(), world.y.clone(), threat=threat, rng=SampleRandom(0, ids))
    far = distance(x_adv, world.x, norm)
    return torch.where(world.model(x_adv).argmax(1) != world.y, far, torch.inf), target.ledger.forwards


@pytest.mark.parametrize("norm", [Norm.linf, Norm.l2, Norm.l1], ids=lambda norm: norm.value)
@pytest.mark.parametrize("name", ["thin", "tanh", "conv4"])
def test_what_noise_breaks_stronger_attacks_break(name: str, norm: Norm) -> None:
    """512 draws at three times the median distance that FMN finds."""
    world = attack_world(name, 6)
    eps = f"{3.0 * float(found(FMN(steps=30), world, norm)[0].median()):.4f}"
    broken = torch.isfinite(found(Noise(restarts=512), world, norm, eps)[0])
    assert bool(broken.any())
    rows = dataclasses.replace(world, x=world.x[broken], y=world.y[broken])
    for attack in (PGD(), APGD(), AutoAttack(), FAB()):
        far = found(attack, rows, norm, eps)[0]
        assert bool((far <= float(eps) * (1 + 1e-5)).all()), type(attack).__name__


SHORT = FMN(steps=60), DeepFool(), SuperDeepFool(), DDN(), SigmaZero(steps=150), LBFGS(searches=5, steps=25)
CASES = [(attack, norm) for attack in SHORT for norm in sorted(attack.supports.norms, key=lambda n: n.value)]


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize(("attack", "norm"), CASES, ids=lambda v: v.value if isinstance(v, Norm) else type(v).__name__)
def test_linear_worlds_are_solved(attack: Attack, norm: Norm, name: str) -> None:
    world = attack_world(name, 6)
    exact = world.exact(norm)
    assert exact is not None
    possible = torch.isfinite(exact)
    ratio = (found(attack, world, norm)[0] / exact)[possible]
    assert bool((ratio > 1.0 - 1e-4).all())
    assert float(ratio.median()) < 1.05
    assert bool(torch.isfinite(ratio).all())


@pytest.mark.parametrize(("name", "norm"), [("twins", Norm.l2), ("twins", Norm.l1), ("thin", Norm.l2)])
def test_alma_is_not_led_away_by_a_twin_of_the_label(name: str, norm: Norm) -> None:
    world = attack_world(name, 6)
    exact = world.exact(norm)
    assert exact is not None
    ratio = found(ALMA(steps=400), world, norm)[0] / exact
    assert float(ratio.max()) < 1.02


@pytest.mark.parametrize("attack", [ALMA(), FMN()], ids=lambda attack: type(attack).__name__)
def test_under_l1_steps_suffice_for_many_features(attack: Attack) -> None:
    world = attack_world("colour", 4)
    exact = world.exact(Norm.l1)
    assert exact is not None
    assert float((found(attack, world, Norm.l1)[0] / exact).median()) < 1.01


def test_under_linf_pdpgds_steps_suffice_for_many_features() -> None:
    world = attack_world("conv28", 3)
    near, short = (found(attack, world, Norm.linf)[0] for attack in (FMN(), PDPGD()))
    assert float((short / near).median()) < 1.06


@pytest.mark.parametrize("name", ["twins", "faint", "loud", "louder"])
def test_slow_attacks_find_something_at_any_scale_and_beside_twins(name: str) -> None:
    world = attack_world(name, 3)
    for attack, worst in ((GradientDescent(), 1.01), (CarliniWagner(steps=100, searches=6), 1.5)):
        exact = world.exact(Norm.l2)
        assert exact is not None
        assert float((found(attack, world, Norm.l2)[0] / exact).median()) < worst


@pytest.mark.parametrize("scale", [1e-30, 3e36])
def test_lbfgs_finds_the_same_at_extreme_scores(scale: float) -> None:
    world, attack = attack_world("plain", 3), LBFGS(searches=5, steps=25)
    model = nn.Linear(64, 10)
    model.load_state_dict({name: scale * value for name, value in world.model.state_dict().items()})
    scaled = dataclasses.replace(world, model=nn.Sequential(nn.Flatten(), model).requires_grad_(False))
    far, usual = (found(attack, each, Norm.l2)[0] for each in (scaled, world))
    torch.testing.assert_close(far, usual, rtol=0.01, atol=0.0)


@pytest.mark.parametrize("name", LINEAR)
def test_jsma_moves_a_pair_either_way_and_gives_back_what_is_not_needed(name: str) -> None:
    world = attack_world(name, 6)
    far, passes = found(JSMA(), world, Norm.l0)
    exact = world.exact(Norm.l0)
    assert exact is not None
    assert bool((passes >= 2).all())
    assert float((far / exact).median()) == 1.0
    assert bool((found(JSMA(search_steps=0), world, Norm.l0)[0] >= far).all())


def test_jsma_moves_the_only_feature() -> None:
    model = nn.Linear(1, 2)
    model.weight.data, model.bias.data = torch.tensor([[0.0], [1.0]]), torch.tensor([0.5, 0.0])
    world = AttackWorld(
        "one", model, torch.tensor([[0.1], [0.3]]), torch.zeros(2, dtype=torch.int64), DataSpec((1,), 2)
    )
    assert found(JSMA(), world, Norm.l0)[0].tolist() == [1.0, 1.0]


class Disc(nn.Module):
    """Class 1 inside a disc around the middle of the square, class 0 elsewhere: no corner is in class 1."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2) to (B, 2)."""
        inside = 0.2 - (x - 0.5).square().sum(1).sqrt()
        return torch.stack([-inside, inside], 1)


def test_rays_finds_a_class_that_has_no_corner() -> None:
    x = torch.tensor([[0.05, 0.1], [0.9, 0.6], [0.2, 0.9]])
    world = AttackWorld("disc", Disc(), x, torch.zeros(3, dtype=torch.int64), DataSpec((2,), 2))
    far, passes = found(RayS(), world, Norm.linf)
    assert bool(torch.isfinite(far).all())
    assert bool((passes > 5).all())
    assert bool((found(RayS(tries=0), world, Norm.linf)[0] == torch.inf).all())


def test_square_reaches_the_last_row_and_column() -> None:
    """A class that only the last pixel decides, on 4x4: windows without edges never touch it after the first query."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    weight = torch.zeros(2, 16)
    weight[1, 15] = 1.0
    model[1].weight.data, model[1].bias.data = weight, torch.tensor([0.55, 0.0])
    x = torch.full((8, 1, 4, 4), 0.5)
    world = AttackWorld("corner", model, x, torch.zeros(8, dtype=torch.int64), DataSpec((1, 4, 4), 2))

    def broken(attack: Attack) -> int:
        return int(torch.isfinite(found(attack, world, Norm.linf, "1/10")[0]).sum())

    assert broken(Square(queries=400)) == 8
    assert broken(Square(queries=400, edges=False)) < 8
    assert AutoAttack().edges is False


@pytest.mark.parametrize("name", [name for name in WORLDS if name not in LINEAR])
def test_curved_worlds_are_searched_to_the_end(name: str) -> None:
    """FMN and SuperDeepFool agree to a tenth in the median."""
    world = attack_world(name, 6)
    fmn, superdeepfool = (found(attack, world, Norm.l2)[0].median() for attack in (FMN(), SuperDeepFool()))
    assert float(fmn) < 1.1 * float(superdeepfool)
    assert float(superdeepfool) < 1.25 * float(fmn)
