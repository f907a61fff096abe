"""Viewing conditions and patches: what gradients average to, closed forms on linear systems, what stays untouched."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest
import torch
from benchmark_plugins._warp import transformed
from benchmark_plugins.attacks._physical.patches import PatchShape, Sticker, sticker, unprintable, variation
from benchmark_plugins.attacks.patch import Patch
from benchmark_plugins.attacks.pgd import PGD
from benchmark_plugins.attacks.universal_patch import UniversalPatch
from benchmark_plugins.defenses.random_transform import RandomTransform
from torch import Tensor

from benchmark.api import Attack
from benchmark.data import DataSpec
from benchmark.errors import ConfigError, Refused
from benchmark.oracles.linear import LinearClassifier
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.system.target import Target
from benchmark.testing.worlds import world
from benchmark.threat import Goal, Norm, Region, RegionKind, Threat

STILL = RandomTransform(rotation=0, smallest=1, largest=1, translation=0, brightness=0, noise=0)


def linear(shape: tuple[int, ...] = (1, 9, 9), classes: int = 2, seed: int = 0) -> LinearClassifier:
    """A linear classifier whose weights are smooth and fall to nothing at the edge, so that no shift loses them."""
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(classes, *shape, generator=generator)
    smooth = torch.nn.functional.avg_pool2d(raw, 3, 1, 1)
    edge = torch.zeros(shape[1:])
    edge[3:-3, 3:-3] = 1.0
    return LinearClassifier((smooth * edge).flatten(1), torch.zeros(classes)).requires_grad_(False)


# --- viewing conditions ---


def test_the_averaged_gradient_is_the_mean_of_the_shifted_weights() -> None:
    """Moving the image by t moves the weights by -t; the error of the mean over n draws falls as 1 / sqrt(n)."""
    model, spec = linear(), DataSpec((1, 9, 9), 2)
    moving = RandomTransform(rotation=0, smallest=1, largest=1, translation=2.5 / 9, brightness=0, noise=0)
    weight = (model.weight[1] - model.weight[0]).reshape(1, 1, 9, 9)
    grid = torch.linspace(-2.5, 2.5, 42)[:-1] + 2.5 / 41  # the middles of 41 strips
    shifts = torch.cartesian_prod(grid, grid)
    leaf = torch.full((len(shifts), 1, 9, 9), 0.5, requires_grad=True)
    moved = transformed(leaf, torch.zeros(len(shifts)), torch.ones(len(shifts)), shifts)
    (each,) = torch.autograd.grad((moved * weight).sum(), leaf)
    expected = each.mean(0).flatten()
    errors = {}
    for draws in (16, 256):
        ids = torch.arange(40)
        target = Target(System(model, spec, (moving,)), rng=SampleRandom(0, ids), classes=2, eot=draws, randomized=True)
        found, _, _ = target.gradient(torch.full((40, 1, 9, 9), 0.5), lambda z: z[:, 1] - z[:, 0])
        errors[draws] = float((found.flatten(1) - expected).square().sum(1).mean().sqrt())
        cosine = torch.nn.functional.cosine_similarity(found.flatten(1), expected[None])
        assert target.ledger.forwards.unique().tolist() == [draws]
    assert float(cosine.min()) > 0.95
    assert errors[16] / errors[256] == pytest.approx(4.0, rel=0.15)
    assert float(torch.nn.functional.cosine_similarity(weight.flatten(), expected, dim=0)) < 0.8


def test_conditions_without_a_range_are_none_at_all() -> None:
    """And EOT of one draw against them is the plain attack, bit for bit."""
    here = world()
    attack, threat, ends = PGD(steps=7, stop_on_success=False), Threat(Norm.linf, Fraction(1, 10)), []
    for defenses in ((), (STILL,)):
        system = System(here.system.model, here.spec, defenses)
        assert torch.equal(system.logits(here.x, here.rng()), here.system.logits(here.x, here.rng()))
        target = Target(system, rng=here.rng(), classes=3, randomized=system.randomized)
        ends.append(attack.perturb(target, here.x, here.y, threat=threat, rng=here.rng()))
    assert torch.equal(*ends)
    assert not torch.equal(ends[0], here.x)


def test_an_image_is_turned_scaled_and_moved_around_its_middle() -> None:
    x = torch.arange(25.0).reshape(1, 1, 5, 5) / 25
    one, none = torch.ones(1), torch.zeros(1)

    def seen(degrees: float = 0.0, scale: float = 1.0, down: float = 0.0, right: float = 0.0) -> Tensor:
        moved: Tensor = transformed(x, degrees * one, scale * one, torch.tensor([[down, right]]))
        return moved

    assert torch.equal(transformed(x, none, one, torch.zeros(1, 2)), x)
    for quarters in range(4):
        torch.testing.assert_close(seen(90.0 * quarters), x.rot90(quarters, (2, 3)), rtol=0, atol=1e-6)
    assert torch.equal(seen(down=1.0)[:, :, 1:], x[:, :, :-1])
    assert torch.equal(seen(right=-2.0)[..., :-2], x[..., 2:])
    assert torch.equal(seen(down=1.0)[:, :, :1], x[:, :, :1])  # the edge goes on
    torch.testing.assert_close(seen(right=0.5)[..., 1:], (x[..., 1:] + x[..., :-1]) / 2)
    middle = torch.nn.functional.interpolate(x[:, :, 1:4, 1:4], (5, 5), mode="bilinear", align_corners=True)
    torch.testing.assert_close(seen(scale=2.0), middle)
    back = transformed(transformed(x, 180 * one, one, torch.zeros(1, 2)), 180 * one, one, torch.zeros(1, 2))
    torch.testing.assert_close(back, x, rtol=0, atol=1e-6)


def test_transforming_is_differentiated_rightly() -> None:
    x = torch.rand(2, 1, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    degrees, scale = torch.tensor([17.0, -40.0]).double(), torch.tensor([0.8, 1.3]).double()
    shift = torch.tensor([[0.3, -1.2], [0.0, 2.0]]).double()
    assert torch.autograd.gradcheck(lambda v: transformed(v, degrees, scale, shift), (x,))


def test_conditions_differ_by_draw_and_example_and_stay_in_their_ranges() -> None:
    here = world((1, 8, 8), count=20)
    seen: list[Tensor] = []

    class Camera(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x.flatten(1)[:, :3]

    grey = torch.full_like(here.x, 0.5)
    ranges = RandomTransform(brightness=0.1, noise=0.0)
    system = System(Camera(), here.spec, (ranges,))
    target = Target(system, rng=here.rng(), classes=3, randomized=True, eot=2)
    target.logits(grey)
    first, second = (x[:20].flatten(1).mean(1) - 0.5 for x in seen)
    assert len(torch.cat([first, second]).unique()) == 40
    assert float(torch.cat([first, second]).abs().max()) <= 0.1
    assert float(torch.cat([first, second]).abs().max()) > 0.08
    noisy = System(Camera(), here.spec, (RandomTransform(brightness=0.0, noise=0.2),))
    Target(noisy, rng=here.rng(), classes=3, randomized=True).logits(grey)
    assert float(seen[-1][:20].std()) == pytest.approx(0.2, rel=0.05)


def test_conditions_need_images_and_sensible_ranges() -> None:
    here = world((12,))
    with pytest.raises(Refused, match=r"random_transform needs images of shape \(C, H, W\), but one input has \(12,\)"):
        System(here.system.model, here.spec, (STILL,)).logits(here.x, here.rng())
    with pytest.raises(ConfigError, match=r"random_transform\.noise is -0\.1; expected at least 0"):
        RandomTransform(noise=-0.1)
    with pytest.raises(ConfigError, match=r"scales from 2 to 1; expected 0 < smallest <= largest"):
        RandomTransform(smallest=2, largest=1)


# --- patches ---


def blank(shape: PatchShape, side: int, pixels: int, **turns: float) -> Sticker:
    return Sticker(shape, 12, 10, side, pixels, turns.get("rotation", 0.0), turns.get("smallest", 1.0))


def laid(sticker: Sticker, turn: float = 0.0, scale: float = 1.0, top: int = 3, left: int = 2) -> Tensor:
    values = (torch.tensor([turn]), torch.tensor([scale]), torch.tensor([top]), torch.tensor([left]))
    where: Tensor = sticker.laid(*values)[0]
    return where


def test_an_upright_square_shows_each_texel_once() -> None:
    expected = torch.full((12, 10), -1)
    expected[3:7, 2:6] = torch.arange(16).reshape(4, 4)
    assert torch.equal(laid(blank(PatchShape.square, 4, 16)), expected)
    for quarters in range(4):
        turned = laid(blank(PatchShape.square, 4, 16), 90.0 * quarters)
        assert torch.equal(turned[3:7, 2:6], torch.arange(16).reshape(4, 4).rot90(quarters))
    half = laid(blank(PatchShape.square, 4, 16), scale=0.5)
    assert torch.equal(half[4:6, 3:5], torch.tensor([[5, 7], [13, 15]]))
    assert int((half >= 0).sum()) == 4


def test_a_disc_covers_the_area_of_a_disc() -> None:
    disc = Sticker(PatchShape.circle, 64, 64, 40, 64 * 64, 0.0, 1.0)
    where = laid(disc, top=10, left=10) >= 0
    assert int(where.sum()) == pytest.approx(torch.pi * 400, rel=0.01)
    assert torch.equal(where[10:50, 10:50], where[10:50, 10:50].T)
    assert not bool(where[10, 10])


@pytest.mark.parametrize("shape", list(PatchShape), ids=lambda v: v.value)
@pytest.mark.parametrize("pixels", [1, 2, 7, 9, 30, 120])
def test_no_turn_or_size_covers_more_pixels_than_the_budget(shape: PatchShape, pixels: int) -> None:
    made = sticker((1, 12, 10), Threat(Norm.l0, Fraction(pixels)), shape, 180.0, 0.3, "patch")
    assert made is not None
    covered = (made.places(SampleRandom(0, torch.arange(300)), stream="t") >= 0).sum((1, 2))
    assert int(covered.max()) <= pixels
    assert int(covered.min()) >= 1
    assert made.side >= 1
    upright = (made.laid(*(torch.zeros(1), torch.ones(1), torch.zeros(1), torch.zeros(1))) >= 0).sum()
    assert int(upright) >= pixels // 2 or made.side == 10


def test_places_are_everywhere_where_the_patch_fits() -> None:
    made = blank(PatchShape.square, 4, 16)
    places = made.places(SampleRandom(0, torch.arange(2000)), stream="t")
    corners = {(int(r), int(c)) for r, c in ((p == 0).nonzero()[0] for p in places)}
    assert corners == {(r, c) for r in range(9) for c in range(7)}


def attacked(
    method: Attack, model: torch.nn.Module, x: Tensor, y: Tensor, threat: Threat, seed: int = 0
) -> tuple[Tensor, Target]:
    rng = SampleRandom(seed, torch.arange(len(x)) * 3 + 1)
    target = Target(System(model, DataSpec(tuple(x.shape[1:]), 2)), rng=rng, classes=2, ball=threat.around(x, rng))
    return method.perturb(target, x, y, threat=threat, rng=rng), target


@pytest.mark.parametrize("shape", list(PatchShape), ids=lambda v: v.value)
def test_what_the_patch_does_not_cover_keeps_its_bits(shape: PatchShape) -> None:
    x = torch.rand(8, 3, 12, 10, generator=torch.Generator().manual_seed(0))
    model = linear((3, 12, 10))
    threat = Threat(Norm.l0, Fraction(60))
    method = Patch(shape=shape, steps=5)
    x_adv, target = attacked(method, model, x, torch.zeros(8, dtype=torch.int64), threat)
    made = sticker((3, 12, 10), threat, shape, method.rotation, method.smallest, "patch")
    assert made is not None
    there = made.places(SampleRandom(0, torch.arange(8) * 3 + 1), stream="patch/shown") >= 0
    assert torch.equal(x_adv[~there[:, None].expand_as(x)], x[~there[:, None].expand_as(x)])
    assert bool((x_adv != x).any(1)[there].all())
    assert target.ledger.forwards.unique().tolist() == [5]


def test_the_best_patch_against_a_linear_system_is_known() -> None:
    """In one place only: 1 where the weight is positive, else 0. Over places: the sign of the mean shifted weight."""
    x = torch.full((4, 1, 9, 9), 0.5)
    model, y = linear(), torch.zeros(4, dtype=torch.int64)
    weight = (model.weight[1] - model.weight[0]).reshape(9, 9)
    whole = Patch(steps=40, rotation=0.0, smallest=1.0)
    x_adv, _ = attacked(whole, model, x, y, Threat(Norm.l0, Fraction(81)))  # as large as the image: one place
    assert torch.equal(x_adv[:, 0][:, weight != 0], (weight[weight != 0] > 0).float().expand(4, -1))
    moving = Patch(steps=400, momentum=1.0, rotation=0.0, smallest=1.0)
    x_adv, _ = attacked(moving, model, x, y, Threat(Norm.l0, Fraction(25)))
    mean = torch.stack([weight[t : t + 5, s : s + 5] for t in range(5) for s in range(5)]).mean(0)
    clear = mean.abs() > 0.15 * mean.abs().max()
    shown = [adv[0][adv[0] != 0.5] for adv in x_adv]
    for texels in shown:
        assert torch.equal(texels.reshape(5, 5)[clear], (mean[clear] > 0).float())
    assert int(clear.sum()) > 12


def test_a_patch_stays_in_the_region_and_an_empty_budget_leaves_the_image() -> None:
    x, y = torch.full((3, 1, 9, 9), 0.5), torch.zeros(3, dtype=torch.int64)
    region = Region(RegionKind.square, 5)
    x_adv, _ = attacked(Patch(steps=3), linear(), x, y, Threat(Norm.l0, Fraction(49), region=region))
    inside = torch.zeros(9, 9, dtype=torch.bool)
    inside[2:7, 2:7] = True
    assert bool((x_adv[:, 0, ~inside] == 0.5).all())
    assert bool((x_adv[:, 0, inside] != 0.5).any())
    none, target = attacked(Patch(), linear(), x, y, Threat(Norm.l0, Fraction(0)))
    assert torch.equal(none, x)
    assert int(target.ledger.forwards.sum()) == 0


def test_a_printable_patch_has_colours_of_the_printer_and_a_smooth_one_varies_less() -> None:
    levels = torch.tensor([0.1, 0.5, 0.9])
    assert float(unprintable(levels[torch.randint(3, (1, 3, 4, 4), generator=torch.Generator().manual_seed(0))])) < 1e-5
    grey = torch.full((1, 3, 4, 4), 0.3)
    assert float(unprintable(grey)) == pytest.approx((3 * 0.04) ** 0.5, rel=1e-4)
    ramp = torch.arange(4.0).reshape(1, 1, 1, 4).expand(1, 1, 4, 4) / 4
    assert float(variation(ramp)) == pytest.approx(0.25, rel=1e-4)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(6, 3, 9, 9, generator=generator)
    y, threat = torch.zeros(6, dtype=torch.int64), Threat(Norm.l0, Fraction(75))
    model = linear((3, 9, 9))
    off, rough = {}, {}
    for name, weights in {"free": {}, "printable": {"nps": 1e3}, "smooth": {"tv": 1e3}}.items():
        x_adv, _ = attacked(Patch(rotation=0.0, smallest=1.0, **weights), model, x, y, threat)
        changed = (x_adv != x).any(1)
        shown = torch.stack([adv[:, there].reshape(3, 5, 5) for adv, there in zip(x_adv, changed, strict=True)])
        off[name], rough[name] = float(unprintable(shown).mean()), float(variation(shown).mean())
    assert off["printable"] < off["free"] / 2
    assert rough["smooth"] < rough["free"] / 2
    leaf = torch.rand(2, 3, 4, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: variation(p) + unprintable(p), (leaf,))


def test_patches_need_images_and_room_for_a_pixel() -> None:
    with pytest.raises(
        Refused, match=r"attack\.patch covers pixels of 3 features, and threat\.eps is 2; choose at leas"
    ):
        Patch().check(DataSpec((3, 9, 9), 2), Threat(Norm.l0, Fraction(2)))
    with pytest.raises(Refused, match=r"attack\.universal_patch needs images of shape \(C, H, W\), .* shape \(7,\)"):
        UniversalPatch().check(DataSpec((7,), 2), Threat(Norm.l0, Fraction(2)))
    with pytest.raises(ConfigError, match=r"attack\.rotation is 200; expected 0 to 180 degrees"):
        Patch(rotation=200)
    with pytest.raises(ConfigError, match=r"attack\.smallest is 0\.0; expected a scale above 0, and 1 at most"):
        Patch(smallest=0.0)


def test_one_patch_for_all_learns_the_mean_shifted_weight() -> None:
    x, y = torch.full((20, 1, 9, 9), 0.5), torch.zeros(20, dtype=torch.int64)
    model = linear()
    weight = (model.weight[1] - model.weight[0]).reshape(9, 9)
    threat = Threat(Norm.l0, Fraction(25))
    method = UniversalPatch(rotation=0.0, smallest=1.0, momentum=1.0, epochs=100)
    rng = SampleRandom(0, torch.arange(20))
    system = System(model, DataSpec((1, 9, 9), 2))
    target = Target(system, rng=rng, classes=2)
    prepared = method.prepare(target, x, y, threat=threat, rng=rng)
    mean = torch.stack([weight[t : t + 5, s : s + 5] for t in range(5) for s in range(5)]).mean(0)
    clear = mean.abs() > 0.15 * mean.abs().max()
    assert prepared["patch"].shape == (1, 1, 5, 5)
    assert torch.equal(prepared["patch"][0, 0][clear], (mean[clear] > 0).float())
    here = Target(system, rng=rng, classes=2, prepared=prepared)
    x_adv = method.perturb(here, x, y, threat=threat, rng=rng)
    assert torch.equal(x_adv[x_adv != 0.5].reshape(20, -1), prepared["patch"].flatten().expand(20, -1))
    assert int(here.ledger.forwards.sum()) == 0
    goal = dataclasses.replace(threat, goal=Goal.next_class)
    both = method.prepare(Target(system, rng=rng, classes=2), x, y, threat=goal, rng=rng)["patch"]
    assert both.shape == (2, 1, 5, 5)
    assert torch.equal(both[0], torch.full((1, 5, 5), 0.5))  # every example has label 0 already
    assert torch.equal(both[1][0][clear], (mean[clear] > 0).float())
