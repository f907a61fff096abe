"""Defenses that transform their input: closed forms, peers, published figures, and what each setting leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import torch
from benchmark_plugins._jpeg import compressed
from benchmark_plugins.defenses._transforms.smooth_jpeg import coded, cubic
from benchmark_plugins.defenses._transforms.wavelets import haar, shrunk, unhaar
from benchmark_plugins.defenses.bit_depth import BitDepth, reduced
from benchmark_plugins.defenses.jpeg import Jpeg
from benchmark_plugins.defenses.median_smoothing import MedianSmoothing, median
from benchmark_plugins.defenses.non_local_means import NonLocalMeans, non_local_means
from benchmark_plugins.defenses.pixel_deflection import PixelDeflection, deflected
from benchmark_plugins.defenses.random_resize_pad import RandomResizePad, resized
from benchmark_plugins.defenses.random_transform import RandomTransform
from benchmark_plugins.defenses.smoothing import Smoothing
from benchmark_plugins.defenses.thermometer import Thermometer, quantised, soft_bits
from benchmark_plugins.defenses.total_variation import TotalVariation, least_variation
from torch import Tensor, nn

from benchmark.api import DataSpec, Defense
from benchmark.errors import ConfigError, Refused
from benchmark.oracles.linear import nearest_class_mean
from benchmark.sampling import SampleRandom, using
from benchmark.stages.fit import built
from benchmark.stages.judge import answer
from benchmark.system import System
from benchmark.testing.toys import Sphere

IMAGES = torch.rand(3, 2, 7, 5, generator=torch.Generator().manual_seed(0))


def _rng(count: int) -> SampleRandom:
    return SampleRandom(0, torch.arange(count))


# --- bit depth ---


@pytest.mark.parametrize(("bits", "right"), [(1, 415), (2, 432), (3, 434)])
def test_bit_depth_on_the_nearest_class_means_of_digits(bits: int, right: int) -> None:
    problem = nearest_class_mean("digits")
    x = problem.x.float().reshape(-1, 1, 8, 8)
    system = System(problem.model(), DataSpec((1, 8, 8), 10), (BitDepth(bits),))
    assert int((system.logits(x, _rng(500)).argmax(1) == problem.y).sum()) == right  # .830, .864 and .868 of 500


def test_reduced_values_are_levels_stay_and_go_to_the_even_one_from_halfway() -> None:
    x = torch.linspace(0, 1, 1001)
    assert set(reduced(x, 1).tolist()) == {0.0, 1.0}
    for bits in range(1, 9):
        assert torch.equal(reduced(reduced(x, bits), bits), reduced(x, bits))
    assert reduced(torch.tensor([0.5, 1.5, 2.5]) / 3.0, 2).mul(3).round().tolist() == [0.0, 2.0, 2.0]


# --- JPEG ---


@pytest.mark.parametrize(
    ("shape", "quality"), [((1, 16, 24), 75), ((1, 13, 11), 30), ((3, 16, 16), 90), ((3, 9, 14), 75)]
)
def test_the_smooth_coding_with_hard_rounding_is_that_of_the_codec(shape: tuple[int, ...], quality: int) -> None:
    """Smooth images, for which the codec's integer arithmetic and its interpolation of colours differ little."""
    rows, columns = torch.arange(shape[1])[:, None] / 9.0, torch.arange(shape[2]) / 7.0
    x = torch.stack([0.5 + 0.3 * torch.sin(rows + k) * torch.cos(columns - k) for k in range(shape[0])])[None]
    x = (x * 255).round() / 255
    found = coded(x, quality, torch.round)
    assert float((found - compressed(x, quality, owner="test")).abs().mean()) < (1.0 if shape[0] == 1 else 3.0) / 255


def test_a_grey_image_stays_and_the_finest_quality_changes_little() -> None:
    grey = torch.full((1, 3, 9, 9), 128 / 255)
    torch.testing.assert_close(coded(grey, 75, cubic), grey)
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert float((coded(x, 100, torch.round) - x).abs().max()) < 2 / 255


def test_cubic_rounding_is_near_to_rounding_and_has_a_gradient() -> None:
    values = torch.linspace(-2, 2, 41, dtype=torch.float64).requires_grad_(True)
    found = cubic(values)
    assert float((found - values.round()).detach().abs().max()) <= 0.125
    (grad,) = torch.autograd.grad(found.sum(), values)
    torch.testing.assert_close(grad, 3 * (values - values.round()) ** 2)


# --- median ---


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_the_median_is_that_of_scipy(size: int) -> None:
    expected = scipy.ndimage.median_filter(IMAGES.numpy(), size=(1, 1, size, size), mode="reflect")
    np.testing.assert_array_equal(median(IMAGES, size).numpy(), expected)


def test_a_single_salt_pixel_on_a_flat_image_is_removed() -> None:
    flat = torch.full((1, 1, 6, 6), 0.25)
    salted = flat.clone()
    salted[0, 0, 3, 2] = 1.0
    assert torch.equal(median(salted, 3), flat)
    assert torch.equal(median(salted, 1), salted)


# --- non-local means ---


def test_non_local_means_by_the_definition() -> None:
    x, h, search, patch = IMAGES[:1].double(), 0.3, 5, 3
    padded = np.pad(x[0].numpy(), ((0, 0), (3, 3), (3, 3)), mode="symmetric")
    expected = np.zeros((2, 7, 5))
    for row in range(7):
        for column in range(5):
            here = padded[:, row + 2 : row + 5, column + 2 : column + 5]
            total, weights = np.zeros(2), 0.0
            for down in range(-2, 3):
                for right in range(-2, 3):
                    at = (row + 3 + down, column + 3 + right)
                    there = padded[:, at[0] - 1 : at[0] + 2, at[1] - 1 : at[1] + 2]
                    weight = np.exp(-((here - there) ** 2).mean() / h**2)
                    total, weights = total + weight * padded[:, at[0], at[1]], weights + weight
            expected[:, row, column] = total / weights
    found = non_local_means(x, search=search, patch=patch, h=h)
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=1e-12)


def test_non_local_means_leave_a_constant_and_at_no_strength_everything() -> None:
    constant = torch.full((1, 3, 6, 7), 0.3)
    torch.testing.assert_close(non_local_means(constant, search=5, patch=3, h=0.1), constant)
    assert torch.equal(non_local_means(IMAGES, search=5, patch=3, h=0.0), IMAGES)
    torch.testing.assert_close(non_local_means(IMAGES, search=5, patch=3, h=1e-4), IMAGES)  # the limit of small h
    mean = non_local_means(IMAGES[:, :, :1, :1], search=3, patch=1, h=1e4)
    torch.testing.assert_close(mean, IMAGES[:, :, :1, :1])  # mirrored, one pixel is its own neighbour


# --- total variation ---


@pytest.mark.parametrize(("weight", "expected"), [(0.1, (0.3, 0.7)), (0.25, (0.45, 0.55)), (0.4, (0.5, 0.5))])
def test_two_pixels_move_towards_each_other_by_the_weight_until_they_meet(
    weight: float, expected: tuple[float, float]
) -> None:
    for shape in ((1, 1, 1, 2), (1, 1, 2, 1)):
        x = torch.tensor([0.2, 0.8]).reshape(shape)
        found = least_variation(x, torch.ones(1, 1, *shape[2:]), weight=weight, steps=400)
        torch.testing.assert_close(found.flatten(), torch.tensor(expected), rtol=0, atol=1e-4)


def test_variation_at_no_weight_at_a_great_one_and_of_a_constant() -> None:
    kept = torch.ones_like(IMAGES[:, :1])
    assert torch.equal(least_variation(IMAGES, kept, weight=0.0, steps=5), IMAGES)
    flat = least_variation(IMAGES, kept, weight=10.0, steps=4000)
    torch.testing.assert_close(flat, IMAGES.mean((2, 3), keepdim=True).expand_as(flat), rtol=0, atol=1e-3)
    constant = torch.full((1, 1, 4, 4), 0.3)
    torch.testing.assert_close(least_variation(constant, torch.ones(1, 1, 4, 4), weight=0.5, steps=50), constant)


def test_dropped_pixels_are_filled_in_from_their_neighbours() -> None:
    x, kept = torch.full((1, 1, 5, 5), 0.4), torch.ones(1, 1, 5, 5)
    x[0, 0, 2, 2], kept[0, 0, 2, 2] = 1.0, 0.0
    found = least_variation(x, kept, weight=0.03, steps=2000)
    torch.testing.assert_close(found, torch.full_like(x, 0.4), rtol=0, atol=1e-3)


# --- random resizing and padding ---


def test_a_resized_image_lies_at_its_place_with_black_around_it() -> None:
    size, corner = torch.tensor([[7, 5], [4, 3], [1, 1]]), torch.tensor([[0, 0], [2, 1], [6, 4]])
    found = resized(IMAGES, size, corner)
    assert torch.equal(found[0], IMAGES[0])
    box = torch.zeros(7, 5)
    box[2:6, 1:4] = 1.0
    assert bool((found[1] * (1 - box) == 0).all())
    # half the columns and rows of a linear ramp: samples of the ramp itself
    ramp = torch.arange(8.0).reshape(1, 1, 1, 8).expand(1, 1, 8, 8)
    half = resized(ramp, torch.tensor([[4, 4]]), torch.tensor([[3, 1]]))
    torch.testing.assert_close(half[0, 0, 4, 1:5], torch.tensor([0.5, 2.5, 4.5, 6.5]))
    assert float(found[2].abs().sum()) == float(found[2, :, 6, 4].abs().sum()) > 0


def test_sizes_and_places_are_drawn_from_their_ranges() -> None:
    x = torch.ones(400, 1, 20, 20)
    seen: list[Tensor] = []

    class Look(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x.flatten(1)[:, :2]

    System(Look(), DataSpec((1, 20, 20), 2), (RandomResizePad(),)).logits(x, _rng(400))
    image = seen[0][:400, 0]
    sides = image.amax(2).sum(1)
    assert torch.equal(image.sum((1, 2)), sides.square())  # a white square, and black
    assert sorted(set(sides.tolist())) == [18.0, 19.0, 20.0]
    tops = image.amax(2).argmax(1)[sides == 18]
    assert sorted(set(tops.tolist())) == [0, 1, 2]


# --- pixel deflection ---


def test_deflected_pixels_are_pixels_of_the_neighbourhood() -> None:
    x = torch.arange(2.0 * 9 * 8).reshape(1, 2, 9, 8)
    moved = deflected(x, _rng(1), 40, 2)
    assert torch.equal(deflected(x, _rng(1), 0, 2), x)
    assert bool((moved != x).any())
    source = moved[0, 0].long()
    assert torch.equal(moved[0, 1], moved[0, 0] + 72)  # all channels of a pixel together
    once = deflected(x, _rng(1), 1, 2)[0, 0].long()
    ((row, column),) = (once != x[0, 0].long()).nonzero().tolist()
    taken = int(once[row, column])
    assert max(abs(taken // 8 - row), abs(taken % 8 - column)) <= 2
    assert set(source.flatten().tolist()) <= set(range(72))


def test_haar_wavelets_are_orthonormal_and_invert() -> None:
    x = IMAGES[:, :, :6, :4].double()
    approximation, details = haar(x)
    torch.testing.assert_close(unhaar(approximation, details), x)
    energy = approximation.square().sum() + details.square().sum()
    torch.testing.assert_close(energy, x.square().sum())
    assert float(haar(torch.ones(1, 1, 2, 2))[0]) == 2.0


def test_shrinkage_removes_weak_coefficients_by_the_formula() -> None:
    checker = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).reshape(
        1, 1, 2, 2
    )  # one diagonal coefficient, of size 2 * scale
    for scale, sigma in ((0.05, 0.2), (0.5, 0.2)):
        excess = (2 * scale) ** 2 - sigma**2
        kept = max(0.0, 2 * scale - sigma**2 / excess**0.5) / 2 if excess > 0 else 0.0
        torch.testing.assert_close(shrunk(0.5 + scale * checker, sigma), 0.5 + kept * checker)
    torch.testing.assert_close(shrunk(IMAGES, 1e-6), IMAGES)
    assert shrunk(IMAGES, 0.1).shape == IMAGES.shape


# --- thermometer ---


def test_thermometer_bits_count_the_thresholds_that_are_passed() -> None:
    x, levels = torch.linspace(0, 1, 97, dtype=torch.float64), 16
    passed = (x[:, None] > torch.arange(levels) / levels).double()
    torch.testing.assert_close(soft_bits(quantised(x, levels), levels), passed)
    torch.testing.assert_close(quantised(x, levels), passed.sum(1) / levels)
    assert bool((soft_bits(x, levels).diff(dim=1) <= 0).all())  # the thermometer rises from below
    assert passed[-1].sum() == levels  # 1 reaches every bit
    torch.testing.assert_close(soft_bits(x, levels).sum(1) / levels, x)  # soft bits interpolate
    one_hot = -torch.cat([torch.ones(97, 1), passed, torch.zeros(97, 1)], 1).diff(dim=1)
    torch.testing.assert_close(one_hot.sum(1), torch.ones(97, dtype=torch.float64))


def test_before_training_the_thermometer_quantises_and_its_soft_bits_do_nothing() -> None:
    problem = nearest_class_mean("digits")
    spec, x = DataSpec((1, 8, 8), 10), problem.x[:100].float().reshape(-1, 1, 8, 8)
    model = built(problem.model(), spec, (Thermometer(4),))
    plain = problem.model()
    soft, hard = (System(model, spec, (Thermometer(4, soft=soft),)) for soft in (True, False))
    torch.testing.assert_close(soft.logits(x, _rng(100)), plain(x))
    torch.testing.assert_close(hard.logits(x, _rng(100)), plain(quantised(x, 4)))
    model.train()
    torch.testing.assert_close(model(x), plain(quantised(x, 4)))


def test_the_thermometers_gradient_is_that_of_its_soft_bits() -> None:
    spec = DataSpec((1, 1, 2), 2)
    model = built(nn.Flatten(), spec, (Thermometer(2),))
    with torch.no_grad():
        model.get_parameter("weight").copy_(torch.tensor([[0.2, 0.9]]))
    x = torch.tensor([0.3, 0.8]).reshape(1, 1, 1, 2).requires_grad_(True)
    logits = System(model, spec, (Thermometer(2, soft=True),))(x)
    torch.testing.assert_close(logits, torch.tensor([[0.2 * 0.6, 0.2 + 0.9 * 0.6]]))
    (grad,) = torch.autograd.grad(logits.sum(), x)
    torch.testing.assert_close(grad.flatten(), torch.tensor([2 * 0.2, 2 * 0.9]))


# --- smoothing ---


def test_the_vote_under_noise_is_right_as_often_as_the_normal_distribution_says() -> None:
    """A half-space at distance d is right in a draw with probability Phi(d / sigma), and in most draws for d > 0."""
    spec, x = DataSpec((1,), 2), torch.full((2000, 1), 0.5 + 0.05)
    y = torch.ones(2000, dtype=torch.int64)
    system = System(Sphere(torch.zeros(1), 0.5), spec, (Smoothing(sigma=0.1, votes=1),))
    share = float((answer(system, x, y, _rng(2000)).label == y).double().mean())
    assert abs(share - 0.69146) < 4 * (0.69146 * 0.30854 / 2000) ** 0.5
    voted = System(Sphere(torch.zeros(1), 0.5), spec, (Smoothing(sigma=0.1, votes=101),))
    assert bool((answer(voted, x, y, _rng(2000)).label == y).all())
    with using(_rng(2000)):
        assert (
            float(voted.protected(torch.full((2000, 1), 1.0))[:, 1].max()) > 0.5
        )  # beyond the box: nothing is clipped


# --- what does not fit is refused ---


@pytest.mark.parametrize(
    "make", [Jpeg, MedianSmoothing, NonLocalMeans, PixelDeflection, RandomResizePad, RandomTransform, TotalVariation]
)
def test_tabular_data_is_refused_by_name(make: Callable[[], Defense]) -> None:
    with pytest.raises(Refused, match=r"defense\.\w+ (needs|codes) images .*shape \(12,\)"):
        make().check(DataSpec((12,), 3))


def test_a_window_larger_than_the_image_is_refused() -> None:
    with pytest.raises(Refused, match=r"defense\.median_smoothing needs images \(C, H, W\) of at least 9x9 pixels"):
        MedianSmoothing(9).check(DataSpec((1, 8, 8), 10))


@pytest.mark.parametrize(
    ("make", "settings", "sentence"),
    [
        (BitDepth, {"bits": 0}, r"bit_depth\.bits is 0; expected 1 to 8"),
        (MedianSmoothing, {"size": 0}, r"median_smoothing\.size is 0; expected a window of at least 1 pixel"),
        (NonLocalMeans, {"search": 4}, r"non_local_means\.search is 4 and .*; expected odd sides"),
        (NonLocalMeans, {"h": -1.0}, r"non_local_means\.h is -1\.0; expected at least 0"),
        (TotalVariation, {"drop": 1.0}, r"total_variation\.drop is 1\.0; expected a weight of at least 0 and a prob"),
        (TotalVariation, {"steps": 0}, r"total_variation\.steps is 0 and .*; expected at least 1"),
        (RandomResizePad, {"smallest": 0.0}, r"random_resize_pad\.smallest is 0\.0 and .*; expected a share"),
        (PixelDeflection, {"window": 0}, r"window 0 and votes 9; expected at least 0 deflections, a window"),
        (PixelDeflection, {"sigma": -0.1}, r"pixel_deflection\.sigma is -0\.1; expected at least 0"),
        (Smoothing, {"votes": 0}, r"smoothing\.votes is 0; expected a standard deviation of at least 0 and at least 1"),
        (Thermometer, {"levels": 0}, r"thermometer\.levels is 0; expected at least 1 bit per value"),
        (RandomTransform, {"votes": 0}, r"random_transform\.votes is 0; expected at least 1"),
    ],
)
def test_senseless_settings_are_refused(make: Any, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        make(**settings)
