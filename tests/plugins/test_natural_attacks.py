"""Natural variations: closed forms, other libraries' results, budgets, and batches that change nothing."""

from __future__ import annotations

import colorsys
import dataclasses
import functools
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmark_leaderboard.ranking.corruption import FAMILIES
from benchmark_plugins._jpeg import compressed
from benchmark_plugins._warp import sampled, transformed
from benchmark_plugins.attacks._natural.blurs import defocused, gaussian_blurred, motion_blurred
from benchmark_plugins.attacks._natural.colours import brightened, from_hsv, to_hsv
from benchmark_plugins.attacks._natural.families import BENCHMARK, Corruption
from benchmark_plugins.attacks._natural.families import FAMILIES as TABLE
from benchmark_plugins.attacks._natural.noises import poisson
from benchmark_plugins.attacks._natural.variations import Search
from benchmark_plugins.attacks._natural.weather import plasma
from benchmark_plugins.attacks.corruption import CommonCorruption, corrupted
from benchmark_plugins.attacks.photometric import Photometric
from benchmark_plugins.attacks.spatial import Spatial
from PIL import Image
from scipy import ndimage, stats
from sklearn.datasets import load_digits as read_digits
from torch import Tensor, nn

from benchmark.api import Attack
from benchmark.data import DataSpec
from benchmark.errors import ConfigError, Refused
from benchmark.run import run as cell
from benchmark.sampling import SampleRandom
from benchmark.system.target import Target
from benchmark.threat import Access, Goal, Norm, Region, RegionKind, Threat
from tests.core.cells import plugin, small_config

THREAT = Threat(norm=Norm.linf, eps=Fraction(1, 10), access=Access.labels)
KINDS = list(Corruption)
load_digits = functools.cache(read_digits)


def digits(count: int = 100) -> Tensor:
    return torch.from_numpy(load_digits().images[-count:] / 16).float()[:, None]


def colours(count: int = 4, side: int = 8) -> Tensor:
    draw = torch.Generator().manual_seed(5)
    return torch.rand(count, 3, side, side, generator=draw)


class Templates(nn.Module):
    """Minus the squared distance to the mean of each digit: a classifier that needs no training."""

    def __init__(self) -> None:
        super().__init__()
        data = load_digits()
        means = np.stack([data.images[:1297][data.target[:1297] == k].mean(0) for k in range(10)]) / 16
        self.means = nn.Parameter(torch.from_numpy(means).float().flatten(1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = -(x.flatten(1)[:, None] - self.means).square().sum(2)
        return logits


def said(x: Tensor) -> Tensor:
    """The answer of the templates."""
    logits: Tensor = Templates()(x)
    return logits.argmax(1)


def correct(count: int = 100) -> tuple[Tensor, Tensor]:
    """Digits that the templates get right."""
    x, y = digits(count), torch.from_numpy(load_digits().target[-count:])
    right = said(x) == y
    return x[right], y[right]


def tried(attack: Attack, x: Tensor, y: Tensor, threat: Threat = THREAT) -> tuple[Tensor, Tensor, Tensor]:
    """An attack's candidates for the templates, their success, and the queries of each example."""
    rng = SampleRandom(3, torch.arange(len(x)))
    target = Target(Templates(), rng=rng, classes=10, access=threat.access, queries=threat.queries)
    x_adv = attack.perturb(target, x, y, threat=threat, rng=rng)
    won = (said(x_adv) == y) == threat.targeted
    return x_adv, won, target.ledger.forwards


def moved(x: Tensor, degrees: float = 0.0, scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    one = torch.ones(len(x))
    places = torch.tensor([shift]).expand(len(x), 2)
    x_adv: Tensor = transformed(x, degrees * one, scale * one, places, black=True)
    return x_adv


# --- spatial ---


def test_a_quarter_turn_twice_is_a_half_turn() -> None:
    x = colours()
    assert torch.equal(moved(x, 90.0), torch.rot90(x, 1, (2, 3)))
    assert torch.equal(moved(moved(x, 90.0), 90.0), moved(x, 180.0))
    assert torch.equal(moved(x, 180.0), x.flip(2, 3))


def test_shifts_let_black_in_and_half_pixels_are_means() -> None:
    x = colours()
    down = moved(x, shift=(2.0, -1.0))
    assert torch.equal(down[:, :, 2:, :-1], x[:, :, :-2, 1:])
    assert float(down[:, :, :2].abs().max()) == 0.0
    half = moved(x, shift=(0.0, 0.5))[:, :, :, 1:]
    assert torch.allclose(half, (x[:, :, :, 1:] + x[:, :, :, :-1]) / 2)


def test_places_between_pixels_are_those_of_scipy() -> None:
    x = colours(1, 9)
    rows, columns = torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(1)) * 8
    ours = sampled(x, rows[None], columns[None])
    for channel in range(3):
        theirs = ndimage.map_coordinates(x[0, channel].numpy(), [rows.numpy(), columns.numpy()], order=1)
        assert torch.allclose(ours[0, channel], torch.from_numpy(theirs), atol=1e-6)


STILL: list[Attack] = [
    Spatial(rotation=0, translation=0),
    Spatial(rotation=0, translation=0, search=Search.grid),
    Photometric(brightness=0, contrast=0),
    *(CommonCorruption(kind=kind, severity=0) for kind in KINDS),
    CommonCorruption(amount=0.0),
    CommonCorruption(Corruption.impulse_noise, amount=0.0),
    CommonCorruption(Corruption.gaussian_blur, amount=0.0),
    CommonCorruption(Corruption.pixelate, amount=1.0),
]


@pytest.mark.parametrize("attack", STILL, ids=str)
def test_nothing_changes_at_zero(attack: Attack) -> None:
    x, y = correct(20)
    assert torch.equal(tried(attack, x, y)[0], x)


def test_more_tries_break_whatever_fewer_break() -> None:
    x, y = correct()
    broken = [tried(Spatial(tries=tries), x, y)[1] for tries in (1, 3, 10)]
    assert all(bool((many | ~few).all()) for few, many in pairwise(broken))
    assert int(broken[0].sum()) < int(broken[-1].sum())


def test_the_grid_finds_what_trying_everything_finds() -> None:
    x, y = correct(60)
    attack = Spatial(rotation=12, translation=0.0625, search=Search.grid, angles=5, shifts=3)
    x_adv, won, queries = tried(attack, x, y)
    any_won = torch.zeros(len(x), dtype=torch.bool)
    for degrees in (-12.0, -6.0, 0.0, 6.0, 12.0):
        for down in (-0.5, 0.0, 0.5):
            for right in (-0.5, 0.0, 0.5):
                any_won |= said(moved(x, degrees, shift=(down, right))) != y
    assert torch.equal(won, any_won)
    assert 0 < int(won.sum()) < len(x)
    assert bool((queries[~won] == 5 * 3 * 3 - 1).all())
    assert bool((queries[won] <= 5 * 3 * 3 - 1).all())
    assert bool((x_adv != x).flatten(1).any(1)[won].all())


def test_a_grid_of_one_value_is_one_setting() -> None:
    x, y = correct(20)
    attack = Spatial(rotation=90, translation=0, search=Search.grid, angles=1)
    x_adv, _, queries = tried(attack, x, y)
    assert torch.equal(x_adv, torch.rot90(x, 1, (2, 3)))
    assert int(queries.sum()) == 0


@pytest.mark.parametrize("queries", [1, 2, 5])
def test_a_budget_is_used_and_not_exceeded(queries: int) -> None:
    x, y = correct(60)
    limited = dataclasses.replace(THREAT, queries=queries)
    _, won, spent = tried(Spatial(tries=50), x, y, limited)
    assert int(spent.max()) == queries
    # The try after the last question is free: a budget of n finds what n + 1 tries find.
    assert torch.equal(won, tried(Spatial(tries=queries + 1), x, y)[1])


@pytest.mark.parametrize("attack", [Spatial(tries=30), Photometric(tries=30), CommonCorruption(draws=30, amount=0.6)])
def test_a_label_to_reach_is_reached(attack: Attack) -> None:
    x, y = correct()
    targeted = dataclasses.replace(THREAT, goal=Goal.next_class)
    x_adv, won, _ = tried(attack, x, (y + 1) % 10, targeted)
    if not isinstance(attack, Photometric):  # light alone moves a digit towards few others
        assert int(won.sum()) > 0
    assert bool(((x_adv >= 0) & (x_adv <= 1)).all())


@pytest.mark.parametrize("attack", [Spatial(), Photometric(), *(CommonCorruption(k, 5) for k in KINDS[:18])], ids=str)
def test_what_lies_outside_the_region_stays(attack: Attack) -> None:
    x, y = correct(20)
    x_adv, _, _ = tried(attack, x, y, dataclasses.replace(THREAT, region=Region(RegionKind.square, 4)))
    change = x_adv != x
    assert bool(change[:, :, 2:6, 2:6].any())
    change[:, :, 2:6, 2:6] = False
    assert not bool(change.any())


def test_the_known_ranges_are_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"attack\.rotation is 200; expected 0 to 180"):
        Spatial(rotation=200)
    with pytest.raises(ConfigError, match=r"attack\.smallest is 1\.2 and attack\.largest 1\.0; expected scales with 0"):
        Spatial(smallest=1.2)
    with pytest.raises(ConfigError, match=r"attack\.amount is 2, and fog has more than one setting"):
        CommonCorruption(Corruption.fog, amount=2)
    with pytest.raises(ConfigError, match=r"attack\.amount is 0; expected 1 to 100"):
        CommonCorruption(Corruption.jpeg_compression, amount=0)
    with pytest.raises(ConfigError, match=r"attack\.severity is 6; expected 0 to 5"):
        CommonCorruption(severity=6)


def test_what_cannot_be_done_is_refused_with_what_is_needed() -> None:
    grey, table = DataSpec((1, 8, 8), 10), DataSpec((12,), 12)
    for attack in (Photometric(hue=90), CommonCorruption(Corruption.saturate)):
        with pytest.raises(Refused, match=r"needs images of 3 channels .* and these have 1"):
            attack.check(grey, THREAT)
    for other in (Spatial(), Photometric(), CommonCorruption(Corruption.snow)):
        with pytest.raises(Refused, match=r"needs images of shape \(C, H, W\), and one example has shape \(12,\)"):
            other.check(table, THREAT)
    with pytest.raises(Refused, match=r"jpeg_compression codes images of 1 or 3 channels, .* has shape \(2,"):
        CommonCorruption(Corruption.jpeg_compression).check(DataSpec((2, 8, 8), 10), THREAT)
    for fits in (CommonCorruption(), CommonCorruption(Corruption.snow, severity=0)):
        fits.check(table, THREAT)
    for fits in (Photometric(), Spatial(), CommonCorruption(Corruption.jpeg_compression)):
        fits.check(grey, THREAT)
    rng = SampleRandom(0, torch.arange(2))
    target = Target(nn.Flatten(), rng=rng, classes=12, access=Access.labels)
    noisy = CommonCorruption().perturb(target, torch.full((2, 12), 0.5), torch.zeros(2).long(), threat=THREAT, rng=rng)
    assert noisy.shape == (2, 12)


@pytest.mark.parametrize("trained", [False, True], ids=["attacked", "trained"])
def test_a_cell_that_needs_colours_is_refused_on_grey_images_before_anything_is_trained(
    tmp_path: Path, trained: bool
) -> None:
    hue = Photometric(hue=90.0)
    parts: dict[str, Any] = (
        {"defenses": (plugin("defense", "adversarial_training", attack=hue),)}
        if trained
        else {"attack": hue, "threat": Threat(access=Access.labels)}
    )
    config = small_config(tmp_path, **parts)
    result = cell(config)
    assert result.status == "refused"
    assert str(result.error).startswith("attack.photometric changes colours, which needs images of 3 channels")
    assert not (tmp_path / "results" / "systems").exists()
    assert cell(config).cached


# --- colours and light ---


def test_hues_are_those_of_the_standard_library() -> None:
    x = torch.cat(
        [colours(1, 6), torch.tensor([[0.0, 1, 0.4], [1, 1, 0.4], [0, 0, 0.4]]).reshape(1, 3, 3, 1).expand(1, 3, 3, 6)],
        2,
    )
    hue, saturation, value = to_hsv(x)
    for row, column in np.ndindex(x.shape[2], x.shape[3]):
        theirs = colorsys.rgb_to_hsv(*x[0, :, row, column].tolist())
        ours = (float(hue[0, row, column]) / 6, float(saturation[0, row, column]), float(value[0, row, column]))
        assert ours == pytest.approx(theirs, abs=1e-5)
    assert torch.allclose(from_hsv(hue, saturation, value), x, atol=1e-6)
    back = colorsys.hsv_to_rgb(0.7, 0.4, 0.9)
    made = from_hsv(*(torch.full((1, 1, 1), v) for v in (0.7 * 6, 0.4, 0.9)))
    assert made.flatten().tolist() == pytest.approx(back, abs=1e-6)


def test_light_is_added_to_grey_and_to_the_value_of_colours() -> None:
    grey = torch.full((1, 1, 2, 2), 0.25)
    assert torch.allclose(brightened(grey, torch.tensor([0.5])), grey + 0.5)
    red = torch.tensor([0.5, 0.25, 0.25]).reshape(1, 3, 1, 1)
    assert brightened(red, torch.tensor([0.5])).flatten().tolist() == pytest.approx([1.0, 0.5, 0.5])


def test_hue_turns_without_touching_value_or_saturation() -> None:
    x = colours(6)
    rng = SampleRandom(0, torch.arange(6))
    target = Target(nn.Flatten(), rng=rng, classes=192, access=Access.labels)
    attack = Photometric(brightness=0, contrast=0, hue=180, tries=1)
    x_adv = attack.perturb(target, x, torch.zeros(6).long(), threat=THREAT, rng=rng)
    (_, *before), (_, *after) = to_hsv(x), to_hsv(x_adv)
    for one, two in zip(before, after, strict=True):
        assert torch.allclose(one, two, atol=1e-5)
    assert float((x_adv - x).abs().amax()) > 0.2


# --- corruptions ---


@pytest.mark.parametrize("kind", [k for k in KINDS if k is not Corruption.saturate], ids=lambda k: k.value)
def test_severity_raises_the_mean_squared_change_of_digits(kind: Corruption) -> None:
    x = digits(500)
    rng = SampleRandom(0, torch.arange(500))
    change = [float((corrupted(x, kind, rng, severity=s) - x).square().mean()) for s in range(1, 6)]
    assert change == sorted(change)
    assert change[0] > 1e-4
    assert change[-1] > 1.5 * change[0]


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.value)
@pytest.mark.parametrize("side", [10, 72])
def test_a_corruption_depends_on_its_own_image_alone(kind: Corruption, side: int) -> None:
    x = colours(5, side)
    rng = SampleRandom(7, torch.tensor([3, 9, 4, 8, 1]))
    whole = corrupted(x, kind, rng, severity=4)
    assert whole.shape == x.shape
    assert bool(((whole >= 0) & (whole <= 1)).all())
    for part in ([2], [4, 0, 3]):
        assert torch.equal(corrupted(x[part], kind, rng.rows(torch.tensor(part)), severity=4), whole[part])
    if kind not in (Corruption.brightness, Corruption.contrast, Corruption.saturate):
        assert not torch.equal(corrupted(x, kind, SampleRandom(8, rng.ids), severity=4), whole) or kind in (
            Corruption.defocus_blur, Corruption.gaussian_blur, Corruption.zoom_blur, Corruption.pixelate,
            Corruption.jpeg_compression,
        )  # fmt: skip


def test_the_families_are_those_of_the_benchmark_and_all_have_five_severities() -> None:
    assert tuple(kind.value for kind in BENCHMARK) == FAMILIES
    assert list(TABLE) == list(Corruption)
    assert all(len(family.small) == len(family.large) == 5 for family in TABLE.values())


def test_salt_and_pepper_fall_at_their_rates() -> None:
    x = torch.full((1, 1, 400, 400), 0.5)
    seen = corrupted(x, Corruption.impulse_noise, SampleRandom(0, torch.arange(1)), amount=0.2)
    for value, share in ((0.0, 0.1), (1.0, 0.1), (0.5, 0.8)):
        count = int((seen == value).sum())
        assert abs(count - share * 160000) < 4 * (share * (1 - share) * 160000) ** 0.5
    more = corrupted(x, Corruption.impulse_noise, SampleRandom(0, torch.arange(1)), amount=0.3)
    assert bool((more != 0.5)[seen != 0.5].all())


def test_noise_has_its_deviation() -> None:
    x, rng = torch.full((1, 160000), 0.5), SampleRandom(1, torch.arange(1))
    assert float(corrupted(x, Corruption.gaussian_noise, rng, amount=0.1).std()) == pytest.approx(0.1, rel=0.01)
    assert float(corrupted(x, Corruption.speckle_noise, rng, amount=0.1).std()) == pytest.approx(0.05, rel=0.01)
    flat = corrupted(x, Corruption.uniform_noise, rng, amount=0.1) - 0.5
    assert float(flat.std()) == pytest.approx(0.1 / 3**0.5, rel=0.01)
    assert float(flat.abs().max()) <= 0.1 + 1e-6


@pytest.mark.parametrize("mean", [0.0, 0.3, 4.0, 250.0])
def test_photons_are_poisson(mean: float) -> None:
    rng = SampleRandom(2, torch.arange(1))
    seen = poisson(torch.full((1, 40000), mean), rng, stream="t").flatten().numpy()
    share = rng.uniform(40000, stream="t").flatten().double().numpy() + 2.0**-25
    assert np.array_equal(seen, stats.poisson.ppf(share, mean) if mean else np.zeros(40000))
    if mean:
        assert seen.mean() == pytest.approx(mean, abs=4 * (mean / 40000) ** 0.5)


def test_a_gaussian_blur_is_that_of_scipy() -> None:
    x = colours(2, 12)
    for sigma in (0.4, 1.0, 2.3):
        theirs = ndimage.gaussian_filter(x.numpy(), (0, 0, sigma, sigma), mode="nearest", truncate=4.0)
        assert torch.allclose(gaussian_blurred(x, sigma), torch.from_numpy(theirs), atol=1e-5)


def test_a_disc_and_a_line_keep_the_light() -> None:
    x = torch.zeros(1, 1, 31, 31)
    x[0, 0, 15, 15] = 1.0
    disc = defocused(x, 4.0, 0.1)
    assert float(disc.sum()) == pytest.approx(1.0, abs=1e-5)
    inside = torch.tensor([(r - 15) ** 2 + (c - 15) ** 2 <= 16 for r in range(31) for c in range(31)])
    assert torch.equal(disc.flatten() > 1e-6, inside)
    line = motion_blurred(x, 5, 3, torch.zeros(1))
    assert float(line.sum()) == pytest.approx(1.0, abs=1e-5)
    weights = np.exp(-0.5 * (np.arange(11) / 3) ** 2)
    assert line[0, 0, 15, 15:26].numpy() == pytest.approx(weights / weights.sum(), abs=1e-5)


def test_pixels_are_those_of_pillow() -> None:
    for side, share in ((32, 0.75), (32, 0.6), (8, 0.5), (21, 0.4)):
        grey = (colours(1, side)[:, :1] * 255).round()
        small = int(side * share)
        coarse = Image.fromarray(grey[0, 0].numpy().astype(np.float32), "F").resize(
            (small, small), Image.Resampling.BOX
        )
        theirs = np.asarray(coarse.resize((side, side), Image.Resampling.BOX)) / 255
        ours = corrupted(grey / 255, Corruption.pixelate, SampleRandom(0, torch.arange(1)), amount=share)
        assert np.abs(ours[0, 0].numpy() - theirs).max() < 1e-5


def test_jpeg_of_the_best_quality_hardly_changes_a_gradient() -> None:
    ramp = torch.linspace(0, 1, 32).expand(1, 1, 32, 32)
    assert float((compressed(ramp, 100, owner="test") - ramp).abs().max()) < 2 / 255
    seen = corrupted(ramp, Corruption.jpeg_compression, SampleRandom(0, torch.arange(1)), amount=100)
    assert torch.equal(seen, compressed(ramp, 100, owner="test"))


def test_a_landscape_fills_its_range_and_is_smoother_the_faster_it_decays() -> None:
    rng, like = SampleRandom(0, torch.arange(20)), torch.zeros(1)
    rough, smooth = (plasma(rng, 48, 64, decay, stream="p", like=like) for decay in (1.3, 3.0))
    assert rough.shape == (20, 1, 48, 64)
    whole = plasma(rng, 64, 64, 2.0, stream="p", like=like)
    assert whole.amin((1, 2, 3)).tolist() == [0.0] * 20
    assert whole.amax((1, 2, 3)).tolist() == [1.0] * 20
    slopes = [float(land.diff(dim=3).abs().mean()) for land in (rough, smooth)]
    assert slopes[0] > 2 * slopes[1]


def test_several_draws_are_tried_until_one_succeeds() -> None:
    x, y = correct()
    broken = [tried(CommonCorruption(amount=0.4, draws=draws), x, y)[1] for draws in (1, 2, 8)]
    assert all(bool((many | ~few).all()) for few, many in pairwise(broken))
    assert int(broken[0].sum()) < int(broken[-1].sum())
    _, won, queries = tried(CommonCorruption(amount=0.4, draws=8), x, y)
    assert bool((queries[~won] == 7).all())
