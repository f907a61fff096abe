"""Signs, the camera that looks at them, and RP2: closed forms of views, what a linear system loses at most."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from benchmark_plugins.attacks.rp2 import RP2
from benchmark_plugins.datasets.signs import CLASSES, SPEC, Signs
from benchmark_plugins.defenses.camera import NEAR, Camera, viewed
from benchmark_plugins.models.sign_cnn import SignCNN, SignNetwork
from torch import Tensor

from benchmark.data import Batch, DataSpec
from benchmark.errors import ConfigError, Refused
from benchmark.oracles.linear import LinearClassifier
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.system.target import Target
from benchmark.threat import Goal, Norm, Region, RegionKind, Threat

SMALL = DataSpec((1, 8, 8), 2)


# --- the signs ---


def test_signs_follow_from_seed_and_id_alone() -> None:
    few = Signs(train=16, select=8, test=8)
    one, two = few.load(Path(), offline=True), few.load(Path(), offline=True)
    other = dataclasses.replace(few, seed=1).load(Path(), offline=True)
    assert torch.equal(one.test.x(), two.test.x())
    assert not torch.equal(one.test.x(), other.test.x())
    assert few.revision(Path()) != dataclasses.replace(few, seed=1).revision(Path())
    more = dataclasses.replace(few, test=16).load(Path(), offline=True)
    assert torch.equal(more.test.x(torch.arange(8)), one.test.x())
    assert torch.bincount(one.train.y).tolist() == [2] * len(CLASSES)
    assert not torch.equal(*one.train.x()[[0, 8]])  # two stop signs


def test_signs_have_the_colours_of_their_class() -> None:
    test = Signs(train=8, select=8, test=80).load(Path(), offline=True).test
    middle = test.x()[:, :, 16, 16]
    by = {name: middle[test.y == k].mean(0) for k, name in enumerate(CLASSES)}
    assert all(float(by["priority"][c]) > 0.5 + float(by["priority"][2]) - 0.1 for c in (0, 1))  # yellow
    assert float(by["no_entry"].min()) > 0.75
    assert float(by["yield"].min()) > 0.75
    left = test.x()[:, :, 16, 5].mean(0)
    assert float(left[0]) > float(left[1:].max())  # red rims


# --- the camera ---


def at(x: Tensor, distance: float = 1.0, angle: float = 0.0, light: float = 1.0) -> Tensor:
    one = torch.ones(len(x), dtype=x.dtype)
    seen: Tensor = viewed(x, distance * one, angle * one, light * one)
    return seen


def test_the_nearest_view_from_the_front_is_the_surface_itself() -> None:
    x = torch.rand(3, 2, 8, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(at(x), x, rtol=0, atol=1e-6)
    torch.testing.assert_close(at(x, light=0.5), x / 2, rtol=0, atol=1e-6)


def test_a_grey_surface_is_grey_from_everywhere() -> None:
    x = torch.full((4, 1, 8, 8), 0.4)
    for distance, angle in ((1.0, 60.0), (2.5, -33.0), (4.0, 0.0)):
        torch.testing.assert_close(at(x, distance, angle), x, rtol=0, atol=1e-6)


def test_twice_as_far_a_pixel_is_the_mean_of_two_by_two() -> None:
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    coarse = torch.nn.functional.avg_pool2d(x, 2)
    back = torch.nn.functional.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    inner = slice(1, -1)  # the outermost are interpolated towards what lies beyond the edge
    torch.testing.assert_close(at(x, 2.0)[..., inner, inner], back[..., inner, inner], rtol=0, atol=1e-6)


def test_from_the_side_a_surface_is_narrower_and_its_near_edge_is_higher() -> None:
    """Project points of the plane by the pinhole's equations; the code maps pixels of the view back to the plane."""
    side, degrees, distance = 65, 40.0, 1.5
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    for u, v in ((-0.8, 0.5), (0.6, -0.6), (0.0, 0.7)):
        deep = 1.0 + u * sin / (NEAR * distance)
        column, row = ((value + 1.0) * side / 2.0 - 0.5 for value in (u * cos / deep, v / deep))
        grid = (torch.arange(side) + 0.5) * (2.0 / side) - 1.0
        ramps = torch.stack([grid.expand(side, side), grid[:, None].expand(side, side)])[None]
        seen = at((ramps + 1.0) / 2.0, distance, degrees)[0] * 2.0 - 1.0
        found = seen[:, round(row), round(column)]
        torch.testing.assert_close(found, torch.tensor([u, v]), rtol=0, atol=0.05)


def test_views_are_differentiated_rightly() -> None:
    x = torch.rand(2, 1, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    ends = [torch.tensor(pair, dtype=torch.float64) for pair in ((1.7, 3.1), (25.0, -50.0), (0.8, 1.2))]
    assert torch.autograd.gradcheck(lambda v: viewed(v, *ends), (x,))


def test_a_fixed_camera_is_not_random_and_training_sees_views_all_the_same() -> None:
    fixed = Camera(distances=(2.0, 2.0), angles=(30.0, 30.0), light=0.0)
    assert not fixed.randomized
    assert Camera().randomized
    assert Camera(distances=(2.0, 2.0), angles=(30.0, 30.0)).randomized
    x, seen = torch.rand(4, 1, 8, 8), []

    def inner(model: torch.nn.Module, batch: Batch) -> Tensor:
        seen.append(batch.x)
        return batch.x.sum()

    batch = Batch(torch.arange(4), x, torch.zeros(4, dtype=torch.int64))
    for camera in (fixed, Camera()):
        camera.loss(torch.nn.Identity(), batch, inner, SampleRandom(0, torch.arange(4)))
    assert torch.equal(*seen)
    assert not torch.equal(seen[0], x)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"distances": (0.5, 2.0)}, r"camera\.distances is \[0\.5, 2\.0\]"),
        ({"angles": (30.0, -30.0)}, r"camera\.angles is \[30\.0, -30\.0\]"),
        ({"angles": (0.0, 80.0)}, r"from -70 to 70"),
        ({"light": 1.0}, r"camera\.light is 1\.0"),
        ({"votes": 0}, r"camera\.votes is 0"),
    ],
)
def test_impossible_cameras_are_refused(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Camera(**settings)
    with pytest.raises(Refused, match=r"defense\.camera needs images"):
        Camera().check(DataSpec((20,), 2))


# --- RP2 ---


def linear(seed: int = 0) -> tuple[LinearClassifier, Tensor]:
    """A linear system of two classes, and its slope away from class 0."""
    weight = torch.randn(2, 64, generator=torch.Generator().manual_seed(seed))
    model = LinearClassifier(weight, torch.zeros(2)).requires_grad_(False)
    return model, (weight[1] - weight[0]).reshape(1, 1, 8, 8)


def painted(attack: RP2, system: System, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    rng = SampleRandom(0, torch.arange(len(x)))
    target = Target(system, rng=rng, classes=2, eot=threat.eot, randomized=system.randomized)
    x_adv: Tensor = attack.perturb(target, x, y, threat=threat, rng=rng)
    assert threat.around(x, rng).audit(x_adv).inside.all()
    return x_adv


def test_on_a_linear_system_the_paint_is_the_sign_of_the_slope_in_the_mask() -> None:
    model, slope = linear()
    x, y = torch.full((3, 1, 8, 8), 0.5), torch.zeros(3, dtype=torch.int64)
    threat = Threat(Norm.linf, Fraction(1), region=Region(RegionKind.square, size=4))
    x_adv = painted(RP2(steps=40, tv=0.0, nps=0.0), System(model, SMALL), x, y, threat)
    inside = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    inside[..., 2:6, 2:6] = True
    assert torch.equal(x_adv, torch.where(inside, (slope > 0).float(), x))


def test_with_a_label_to_reach_the_paint_goes_the_other_way() -> None:
    model, slope = linear()
    x, y = torch.full((2, 1, 8, 8), 0.5), torch.zeros(2, dtype=torch.int64)
    threat = Threat(Norm.linf, Fraction(1), goal=Goal.next_class)
    x_adv = painted(RP2(steps=40, tv=0.0, nps=0.0), System(model, SMALL), x, y, threat)
    assert torch.equal(x_adv, (slope < 0).float().expand_as(x))


def test_penalties_keep_paint_printable_and_small() -> None:
    model, _ = linear()
    x, y = torch.full((1, 1, 8, 8), 0.5), torch.zeros(1, dtype=torch.int64)
    threat, system = Threat(Norm.linf, Fraction(1)), System(model, SMALL)
    plain = painted(RP2(steps=60, tv=0.0, nps=0.0), system, x, y, threat)
    printable = painted(RP2(steps=60, tv=0.0, nps=2000.0), system, x, y, threat)
    small = painted(RP2(steps=60, tv=0.0, nps=0.0, size=2000.0), system, x, y, threat)
    levels = torch.tensor([0.1, 0.5, 0.9])

    def unprintable(values: Tensor) -> float:
        return float((values[..., None] - levels).abs().amin(-1).mean())

    assert unprintable(printable) < 0.5 * unprintable(plain)
    assert float((small - x).norm()) < 0.5 * float((plain - x).norm())


def test_stickers_made_over_views_hold_from_views_where_those_of_one_view_fail() -> None:
    """Fine stripes near by and broad ones far off: paint that fools the near camera alone averages out."""
    fine = (torch.arange(8) % 2 * 2.0 - 1.0).expand(8, 8)
    broad = (torch.arange(8) // 4 * 2.0 - 1.0).expand(8, 8)
    weight = torch.stack([-(fine + 0.5 * broad).flatten(), (fine + 0.5 * broad).flatten()])
    model = LinearClassifier(weight, torch.tensor([1.0, 0.0])).requires_grad_(False)
    x, y = torch.full((8, 1, 8, 8), 0.5), torch.zeros(8, dtype=torch.int64)
    threat = Threat(Norm.l2, Fraction(1, 2), eot=8)
    attack, rng = RP2(steps=60, tv=0.0, nps=0.0), SampleRandom(1, torch.arange(8))
    far = System(model, SMALL, (Camera((4.0, 4.0), (0.0, 0.0), 0.0),))
    moved = {}
    for name, distances in (("near", (1.0, 1.0)), ("anywhere", (1.0, 4.0))):
        camera = Camera(distances, (0.0, 0.0), 0.0)
        x_adv = painted(attack, System(model, SMALL, (camera,)), x, y, threat)
        logits = far.logits(x_adv, rng)
        moved[name] = float((logits[:, 1] - logits[:, 0]).mean())
    assert moved["anywhere"] > 1.5 * moved["near"]


def test_rp2_needs_images() -> None:
    with pytest.raises(Refused, match=r"attack\.rp2 needs images"):
        RP2().check(DataSpec((20,), 2), Threat(Norm.linf, Fraction(1)))


# --- the network ---


def test_the_network_has_the_layers_of_the_paper() -> None:
    module = SignCNN().build(SPEC)
    sizes = [tuple(p.shape) for p in module.parameters() if p.ndim > 1]
    assert sizes == [(64, 3, 8, 8), (128, 64, 6, 6), (128, 128, 5, 5), (8, 512)]
    assert module(torch.rand(2, 3, 32, 32)).shape == (2, 8)
    with pytest.raises(Refused, match="at least 28x28"):
        SignCNN().build(DataSpec((3, 27, 32), 8))


def test_the_german_network_has_the_layers_of_its_author() -> None:
    module = SignCNN(variant=SignNetwork.gtsrb).build(SPEC).eval()
    sizes = [tuple(p.shape) for p in module.parameters() if p.ndim > 1]
    convolutions = [(3, 3, 1, 1), (32, 3, 5, 5), (32, 32, 5, 5), (64, 32, 5, 5), (64, 64, 5, 5)]
    convolutions += [(128, 64, 5, 5), (128, 128, 5, 5)]
    features = 32 * 16 * 16 + 64 * 8 * 8 + 128 * 4 * 4  # all three scales
    assert sizes == [*convolutions, (1024, features), (1024, 1024), (8, 1024)]
    assert module(torch.rand(2, 3, 32, 32)).shape == (2, 8)
    with pytest.raises(Refused, match="at least 8x8"):
        SignCNN(variant=SignNetwork.gtsrb).build(DataSpec((3, 7, 32), 8))
    with pytest.raises(ConfigError, match=r"model\.dropout is 1\.0; expected a share below 1"):
        SignCNN(dropout=1.0)
