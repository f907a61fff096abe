"""Viewing conditions and patches: what gradients average to, closed forms on linear systems, what stays untouched."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from benchmark_plugins.attacks.pgd import PGD
from benchmark_plugins.defenses.random_transform import RandomTransform, transformed
from torch import Tensor

from benchmark.api import DataSpec
from benchmark.errors import ConfigError, Refused
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.target import Target
from benchmark.testing.linear import LinearClassifier
from benchmark.testing.worlds import world
from benchmark.threat import Norm, Threat

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
        return transformed(x, degrees * one, scale * one, torch.tensor([[down, right]]))

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
    with pytest.raises(Refused, match=r"random_transform needs images of shape \(C, H, W\), and one input has \(12,\)"):
        System(here.system.model, here.spec, (STILL,)).logits(here.x, here.rng())
    with pytest.raises(ConfigError, match=r"random_transform\.noise is -0\.1; expected at least 0"):
        RandomTransform(noise=-0.1)
    with pytest.raises(ConfigError, match=r"scales from 2 to 1; expected 0 < smallest <= largest"):
        RandomTransform(smallest=2, largest=1)
