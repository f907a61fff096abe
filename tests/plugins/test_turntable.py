"""The turntable: views of a can against the circle's equation, and prints that hold from every side."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from benchmark_plugins.attacks.pgd import PGD
from benchmark_plugins.defenses.turntable import Turntable, turned
from torch import Tensor

from benchmark.data import Batch, DataSpec
from benchmark.errors import ConfigError, Refused
from benchmark.oracles.linear import LinearClassifier
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.system.target import Target
from benchmark.threat import Norm, Threat


def at(x: Tensor, degrees: float, copies: int = 3) -> Tensor:
    seen: Tensor = turned(x, torch.full((len(x),), degrees), copies)
    return seen


def test_each_column_shows_the_print_at_its_azimuth() -> None:
    """A can whose print is a wave around it: brightness at x is that of the azimuth asin(x) plus the angle."""
    width, copies = 256, 3
    phase = (torch.arange(width) + 0.5) * (2.0 * math.pi / width)
    print_ = (0.5 + 0.4 * phase.sin())[None, None, None].expand(1, 1, 4, width)
    across = (torch.arange(width) + 0.5) * (2.0 / width) - 1.0
    inner = across.abs() < 0.9
    for degrees in (0.0, 25.0, -50.0, 180.0):
        azimuth = across.asin()
        around = copies * (azimuth + math.radians(degrees)) + math.pi  # a copy's middle is at angle 0
        expected = (0.5 + 0.4 * around.sin()) * (0.5 + 0.5 * azimuth.cos())
        found = at(print_, degrees, copies)[0, 0, 2]
        torch.testing.assert_close(found[inner], expected[inner], rtol=0, atol=0.01)


def test_a_turn_by_one_copy_changes_nothing() -> None:
    x = torch.rand(2, 3, 6, 12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(at(x, 70.0), at(x, -50.0), rtol=0, atol=1e-5)
    torch.testing.assert_close(at(x, 130.0, 1), at(x, -230.0, 1), rtol=0, atol=1e-5)
    assert not torch.allclose(at(x, 0.0), at(x, 60.0), atol=0.1)


def test_views_are_differentiated_rightly() -> None:
    x = torch.rand(2, 1, 3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    angle = torch.tensor([12.0, -71.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda v: turned(v, angle, 2), (x,))


def test_a_fixed_turntable_is_not_random_and_training_sees_every_side_all_the_same() -> None:
    fixed = Turntable(angles=(30.0, 30.0), light=0.0)
    assert not fixed.randomized
    assert Turntable().randomized
    assert Turntable(angles=(30.0, 30.0)).randomized
    x, seen = torch.rand(4, 1, 8, 8), []

    def inner(model: torch.nn.Module, batch: Batch) -> Tensor:
        seen.append(batch.x)
        return batch.x.sum()

    batch = Batch(torch.arange(4), x, torch.zeros(4, dtype=torch.int64))
    for table in (fixed, Turntable()):
        table.loss(torch.nn.Identity(), batch, inner, SampleRandom(0, torch.arange(4)))
    assert torch.equal(*seen)
    assert not torch.equal(seen[0], x)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"angles": (30.0, -30.0)}, r"turntable\.angles is \[30\.0, -30\.0\]"),
        ({"angles": (0.0, 200.0)}, r"from -180 to 180"),
        ({"light": 1.0}, r"turntable\.light is 1\.0"),
        ({"copies": 0}, r"turntable\.copies is 0; expected .* at least 1 copy"),
    ],
)
def test_impossible_turntables_are_refused(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Turntable(**settings)
    with pytest.raises(Refused, match=r"defense\.turntable needs images"):
        Turntable().check(DataSpec((20,), 2))


def test_prints_made_over_all_sides_hold_where_those_made_for_the_front_fail() -> None:
    """A linear reader of the middle of a view: a print for the front need not change what the middle shows later."""
    weight = torch.zeros(2, 1, 6, 12)
    weight[1, :, :, 5:7], weight[0, :, :, 5:7] = 1.0, -1.0
    model = LinearClassifier(weight.flatten(1), torch.zeros(2)).requires_grad_(False)
    x, y = torch.full((6, 1, 6, 12), 0.5), torch.zeros(6, dtype=torch.int64)
    threat, rng = Threat(Norm.linf, Fraction(1, 10), eot=16), SampleRandom(0, torch.arange(6))
    side = System(model, DataSpec((1, 6, 12), 2), (Turntable((50.0, 50.0), light=0.0),))
    gained = {}
    for name, angles in (("front", (0.0, 0.0)), ("everywhere", (-60.0, 60.0))):
        table = Turntable(angles, light=0.0)
        system = System(model, DataSpec((1, 6, 12), 2), (table,))
        target = Target(system, rng=rng, classes=2, eot=16, randomized=table.randomized)
        x_adv = PGD(steps=20, random_start=False).perturb(target, x, y, threat=threat, rng=rng)
        change = side.logits(x_adv, rng) - side.logits(x, rng)
        gained[name] = float((change[:, 1] - change[:, 0]).mean())
    assert gained["front"] < 0.1 * gained["everywhere"]
