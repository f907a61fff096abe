"""Attacks made to transfer: against iterative FGSM, which they are without what each adds, and closed forms."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from benchmark_plugins.attacks._base.active import Active, AttackLoss
from benchmark_plugins.attacks.bim import BIM
from benchmark_plugins.attacks.di_fgsm import DIFGSM, framed
from benchmark_plugins.attacks.mi_fgsm import MIFGSM
from benchmark_plugins.attacks.ni_fgsm import NIFGSM
from benchmark_plugins.attacks.si_fgsm import SIFGSM
from benchmark_plugins.attacks.ti_fgsm import TIFGSM, smoothed
from benchmark_plugins.attacks.vmi_fgsm import VMIFGSM, slope_at

from benchmark.api import Attack
from benchmark.data import DataSpec
from benchmark.errors import ConfigError, Refused
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.system.target import Target
from benchmark.testing.toys import Scaled
from benchmark.testing.worlds import world
from benchmark.threat import Norm, Threat

PLAIN: tuple[Attack, ...] = (
    MIFGSM(momentum=0.0),
    NIFGSM(momentum=0.0),
    SIFGSM(momentum=0.0, copies=1),
    VMIFGSM(momentum=0.0, neighbours=3, spread=0.0),
    TIFGSM(momentum=0.0, kernel=1),
    DIFGSM(momentum=0.0, probability=0.0),
)
CHANGED: tuple[Attack, ...] = (MIFGSM(), NIFGSM(), SIFGSM(), VMIFGSM(), TIFGSM(kernel=3), DIFGSM(smallest=0.5))


def run(method: Attack, norm: Norm = Norm.linf, shape: tuple[int, ...] = (2, 6, 5)) -> tuple[torch.Tensor, Target]:
    here = world(shape)
    rng = here.rng()
    target = Target(here.system, rng=rng, classes=3)
    return method.perturb(target, here.x, here.y, threat=Threat(norm, Fraction(1, 5)), rng=rng), target


@pytest.mark.parametrize("method", PLAIN, ids=lambda m: type(m).__name__)
def test_without_what_it_adds_each_is_iterative_fgsm(method: Attack) -> None:
    same, _ = run(BIM(steps=10, step_size=0.2 / 10, stop_on_success=False))
    assert torch.equal(run(method)[0], same)
    near, _ = run(BIM(steps=10, step_size=0.2 / 10, stop_on_success=False), Norm.l2)
    torch.testing.assert_close(run(method, Norm.l2)[0], near, rtol=0, atol=1e-6)


def test_each_adds_something() -> None:
    ends = [run(method)[0] for method in (PLAIN[0], *CHANGED)]
    for at, end in enumerate(ends):
        assert not any(torch.equal(end, other) for other in ends[:at])


@pytest.mark.parametrize(
    ("method", "passes"), tuple(zip(CHANGED, (10, 10, 50, 210, 10, 10), strict=True)), ids=lambda v: type(v).__name__
)
def test_passes_are_those_declared(method: Attack, passes: int) -> None:
    _, target = run(method)
    assert target.ledger.forwards.unique().tolist() == [passes]
    assert target.ledger.backwards.unique().tolist() == [passes]


@pytest.mark.parametrize("targeted", [False, True])
def test_neighbours_count_as_in_the_cross_entropy(targeted: bool) -> None:
    here = world((2, 6, 5))
    leaf = here.x.clone().requires_grad_()
    logits = here.system(leaf)
    sign = -1.0 if targeted else 1.0
    (expected,) = torch.autograd.grad(sign * torch.nn.functional.cross_entropy(logits, here.y, reduction="sum"), leaf)
    target = Target(here.system, rng=here.rng(), classes=3)
    ball = Threat(Norm.linf, Fraction(1, 5)).around(here.x, here.rng())
    active = Active.of(target, ball, here.y, targeted=targeted)
    torch.testing.assert_close(slope_at(active, here.x, AttackLoss.ce), expected)
    sure = Scaled(here.system.model, scale=1e4)  # p_y rounds to one, and the gradient of the cross-entropy to zero
    y = sure(here.x).argmax(1)
    view = Target(System(sure, here.system.spec), rng=here.rng(), classes=3)
    slope = slope_at(Active.of(view, ball, y, targeted=False), here.x, AttackLoss.ce)
    assert bool((slope.flatten(1).abs().amax(1) > 0).all())


def test_the_gaussian_is_the_one_of_the_paper() -> None:
    point = torch.zeros(1, 1, 21, 21)
    point[0, 0, 10, 10] = 1.0
    found = smoothed(point, 15)[0, 0]
    side = torch.exp(-torch.linspace(-3, 3, 15).square() / 2)
    expected = side[:, None] * side / side.sum() ** 2
    torch.testing.assert_close(found[3:18, 3:18], expected)
    assert float(found.sum()) == pytest.approx(1.0, abs=1e-6)


def test_an_image_is_shrunk_to_its_nearest_pixels() -> None:
    x = torch.arange(1.0, 17.0).reshape(1, 1, 4, 4)
    half = framed(x, torch.tensor([0.5]), torch.tensor([0.0]), torch.tensor([0.99]))
    expected = torch.tensor([[0.0, 0, 1, 3], [0, 0, 9, 11], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert torch.equal(half[0, 0], expected)
    assert torch.equal(framed(x, torch.ones(1), torch.full((1,), 0.9), torch.zeros(1)), x)


@pytest.mark.parametrize(("method", "name"), [(TIFGSM(), "ti_fgsm"), (DIFGSM(), "di_fgsm")])
def test_tables_have_no_translations(method: Attack, name: str) -> None:
    with pytest.raises(Refused, match=rf"attack\.{name} needs images of shape \(C, H, W\).*\(7,\)"):
        method.check(DataSpec((7,), 3), Threat())


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"attack\.kernel is 4; expected an odd number"):
        TIFGSM(kernel=4)
    with pytest.raises(ConfigError, match=r"attack\.momentum is -1\.0; expected at least 0"):
        MIFGSM(momentum=-1.0)
    with pytest.raises(ConfigError, match=r"attack\.smallest is 0\.0"):
        DIFGSM(smallest=0.0)


def test_randomness_is_the_examples_own() -> None:
    here = world((2, 6, 5))
    whole, _ = run(DIFGSM(smallest=0.5))
    rng = SampleRandom(0, here.ids[3:4])
    target = Target(here.system, rng=rng, classes=3)
    threat = Threat(Norm.linf, Fraction(1, 5))
    alone = DIFGSM(smallest=0.5).perturb(target, here.x[3:4], here.y[3:4], threat=threat, rng=rng)
    assert torch.equal(alone, whole[3:4])
