"""Defenses that change what is trained on, or the architecture: shares, areas and ranges, exactly."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from benchmark_plugins.defenses._training.mixing import beta, chosen
from benchmark_plugins.defenses.bounded_relu import Bounded
from benchmark_plugins.defenses.cutmix import rectangles
from benchmark_plugins.defenses.generated_data import Gaussian
from benchmark_plugins.defenses.label_smoothing import LabelSmoothing, Variant
from benchmark_plugins.defenses.natural_augmentation import Variation
from torch import Tensor, nn

from benchmark.api import Batch, DataSpec, Defense, Examples
from benchmark.config.schema import Training
from benchmark.errors import ConfigError, Refused
from benchmark.sampling import SampleRandom
from benchmark.testing import contract
from benchmark.testing.worlds import Net, examples
from tests.core.cells import fitted_of, loaded_of, plugin, small_config

COUNT = 40
TRAIN, SPEC = examples(COUNT)


def plain(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch.x), batch.y if batch.soft is None else batch.soft)


def defense(name: str, **settings: Any) -> Any:
    return contract.build("defense", name, **settings)


def trained_on(method: Defense, seed: int = 0, count: int = COUNT, fit_with: Examples = TRAIN) -> tuple[Batch, Batch]:
    """A batch as it comes from the prepared examples, and as the loss below the defense gets it."""
    prepared = method.prepare(TRAIN, SPEC, SampleRandom(seed, TRAIN.ids))
    ready = method.start(Net(SPEC), fit_with, SPEC, lambda *_: None)
    at = torch.arange(count)
    soft = None if prepared.soft is None else prepared.soft[at]
    given, seen = Batch(prepared.ids[at], prepared.x(at), prepared.y[at], soft), []

    def spy(model: nn.Module, batch: Batch) -> Tensor:
        seen.append(batch)
        return plain(model, batch)

    ready.loss(Net(SPEC), given, spy, SampleRandom(seed, given.ids))
    assert len(seen) == 1
    return given, seen[0]


def changed(given: Batch, seen: Batch) -> Tensor:
    return (given.x != seen.x).flatten(1).any(1)


# --- mixtures ---


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_drawn_from_a_symmetric_beta_distribution(alpha: float) -> None:
    drawn = beta(SampleRandom(0, torch.arange(40000)), alpha, stream="test").double()
    assert float(drawn.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(drawn.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)


def test_a_mixup_is_a_mean_of_two_rows_and_of_their_labels() -> None:
    given, seen = trained_on(defense("mixup", alpha=1.0))
    assert given.soft is not None
    assert seen.soft is not None
    rng = SampleRandom(0, given.ids)
    kept = beta(rng, 1.0, stream="mixup")
    labels = given.soft.argmax(1)
    for row in range(COUNT):
        share = float(kept[row])
        candidates = [share * given.x[row] + (1 - share) * other for other in given.x]
        partner = int(torch.stack([(seen.x[row] - c).abs().max() for c in candidates]).argmin())
        assert torch.allclose(seen.x[row], candidates[partner], atol=1e-6)
        expected = share * F.one_hot(labels[row], 3) + (1 - share) * F.one_hot(labels[partner], 3)
        assert torch.allclose(seen.soft[row], expected, atol=1e-6)


def test_a_pasted_rectangle_weighs_as_many_labels_as_it_has_pixels() -> None:
    for seed in range(5):
        given, seen = trained_on(defense("cutmix", alpha=1.0), seed)
        assert seen.soft is not None
        assert given.soft is not None
        assert torch.allclose(seen.soft.sum(1), torch.ones(COUNT))
        pasted = (seen.x != given.x).any(1)  # (B, H, W)
        own = seen.soft.gather(1, given.soft.argmax(1, keepdim=True)).squeeze(1)
        area = pasted.flatten(1).float().mean(1)
        other = own < 1 - 1e-6
        # A partner of the same label leaves the label whole, and equal pixels hide a part of the rectangle.
        assert bool((own[other] <= 1 - area[other] + 1e-6).all())
        rng = SampleRandom(seed, given.ids)
        exact = rectangles(torch.Size((6, 6)), beta(rng, 1.0, stream="cutmix"), rng).flatten(1).float().mean(1)
        assert torch.allclose(own[other], (1 - exact)[other], atol=1e-6)


def test_rectangles_have_the_size_of_their_share_but_for_the_edge() -> None:
    rng = SampleRandom(0, torch.arange(500))
    kept = torch.full((500,), 0.75)
    found = rectangles(torch.Size((40, 60)), kept, rng)
    area = found.flatten(1).float().mean(1)
    heights, widths = found.any(2).sum(1), found.any(1).sum(1)
    assert int(heights.max()) == 20
    assert int(widths.max()) == 30
    assert torch.allclose(area, heights * widths / 2400.0)
    assert float(area.max()) == pytest.approx(0.25)
    assert float(area.min()) < 0.15
    assert not bool(rectangles(torch.Size((4, 4)), torch.ones(500), rng).any())  # lambda 1 pastes nothing


def test_cutmix_leaves_the_rest_of_a_batch_alone() -> None:
    given, seen = trained_on(defense("cutmix", alpha=1.0, share=0.0))
    assert not bool(changed(given, seen).any())
    assert torch.equal(seen.soft, given.soft)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["cutmix", "natural_augmentation"])
def test_tables_are_refused_where_images_are_needed(name: str) -> None:
    with pytest.raises(Refused, match=rf"defense\.{name} needs images of shape \(C, H, W\), but one input has \(5,\)"):
        defense(name).check(DataSpec((5,), 2))


# --- natural variations and negatives ---


@pytest.mark.parametrize(("share", "count"), [(0.25, 40), (0.5, 33), (1.0, 7)])
def test_the_share_of_varied_rows_is_exact(share: float, count: int) -> None:
    seen_in_any_row = (Variation.rotation, Variation.brightness)
    given, seen = trained_on(defense("natural_augmentation", share=share, variations=seen_in_any_row), count=count)
    assert int(changed(given, seen).sum()) == round(share * count)
    assert bool(((seen.x >= 0) & (seen.x <= 1)).all())
    assert torch.equal(seen.y, given.y)


@pytest.mark.parametrize("variation", list(Variation))
def test_the_weakest_setting_of_a_variation_is_no_change(variation: Variation) -> None:
    method = defense("natural_augmentation", quality=95)
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    middle = torch.full((3, 3), 0.5) if variation not in (Variation.crop, Variation.downsampling) else torch.zeros(3, 3)
    atol = 2 / 255 if variation is Variation.jpeg else 1e-6
    x = torch.full_like(x, 0.4) if variation is Variation.jpeg else x
    assert torch.allclose(method.apply(variation, x, middle), x, atol=atol)


def test_the_strongest_settings_are_those_that_are_declared() -> None:
    method = defense("natural_augmentation", brightness=0.3, resolution=0.5, crop=0.5)
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    most = torch.ones(2, 3)
    assert torch.allclose(method.apply(Variation.brightness, x, most), x + 0.3)
    coarse = method.apply(Variation.downsampling, x, most)
    assert torch.allclose(coarse, F.avg_pool2d(x, 2).repeat_interleave(2, 2).repeat_interleave(2, 3))
    ramp = torch.arange(8.0).expand(1, 1, 8, 8) / 8
    cropped = method.apply(Variation.crop, ramp, torch.tensor([[1.0, 0.5, 0.5]]))
    step = (cropped[0, 0, 4, 1:] - cropped[0, 0, 4, :-1]) * 8
    assert torch.allclose(step, torch.full((7,), 0.5), atol=1e-5)  # half the side, at twice the size


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_negatives_are_added_to_the_originals(share: float) -> None:
    added = defense("negative_augmentation", share=share).prepare(TRAIN, SPEC, SampleRandom(0, TRAIN.ids))
    extra = round(share * COUNT)
    assert len(added) == COUNT + extra
    assert len(added.ids.unique()) == len(added)
    assert torch.equal(added.x(torch.arange(COUNT)), TRAIN.x())
    negatives, y = added.x()[COUNT:], added.y[COUNT:]
    for row in range(extra):
        origin = (1.0 - negatives[row] - TRAIN.x()).flatten(1).abs().amax(1).argmin()
        assert torch.allclose(1.0 - negatives[row], TRAIN.x()[origin], atol=1e-6)
        assert y[row] == TRAIN.y[origin]


def test_negatives_are_learnt_at_next_to_no_cost(tmp_path: Path) -> None:
    recipe = Training(epochs=5, learning_rate=0.02, selection_attack=plugin("attack", "pgd", steps=1))
    accuracy = {}
    for share in (0.0, 1.0):
        config = small_config(
            tmp_path, model=plugin("model", "mlp"), training=recipe,
            defenses=(plugin("defense", "negative_augmentation", share=share),),
        )  # fmt: skip
        loaded = loaded_of(config)
        system, _ = fitted_of(config, loaded)
        test = loaded.splits.test
        accuracy[share] = [float((system(x).argmax(1) == test.y).float().mean()) for x in (test.x(), 1.0 - test.x())]
    assert accuracy[0.0][1] < 0.3
    assert accuracy[1.0][1] > 0.85
    assert accuracy[1.0][0] > accuracy[0.0][0] - 0.02


# --- generated data ---


@pytest.mark.parametrize(("share", "count"), [(0.3, 40), (0.7, 33), (0.5, 8)])
def test_the_share_of_generated_rows_is_exact_in_every_batch(share: float, count: int) -> None:
    for seed in range(3):
        given, seen = trained_on(defense("generated_data", share=share), seed, count)
        new = changed(given, seen)
        assert int(new.sum()) == round(share * count)
        assert torch.equal(seen.y[~new], given.y[~new])
        rows = {row.numpy().tobytes() for row in TRAIN.x()}
        assert not any(row.numpy().tobytes() in rows for row in seen.x[new])  # neither of train nor of any other split


def test_generated_rows_have_the_moments_of_their_class() -> None:
    draw = torch.Generator().manual_seed(0)
    x = (0.5 + 0.05 * torch.randn(300, 6, generator=draw) @ torch.randn(6, 6, generator=draw)).clamp(0.01, 0.99)
    gaussian = Gaussian.fitted(x, rank=6)
    new = gaussian.drawn(SampleRandom(0, torch.arange(20000)))
    assert torch.allclose(new.mean(0), x.mean(0), atol=0.01)
    assert torch.allclose(torch.cov(new.T), torch.cov(x.T), atol=0.05 * float(torch.cov(x.T).diagonal().max()))
    flat = Gaussian.fitted(x, rank=1).drawn(SampleRandom(0, torch.arange(50)))
    assert int(torch.linalg.matrix_rank(flat - flat.mean(0), atol=1e-4)) == 1


def test_labels_of_generated_rows_are_those_of_their_generator() -> None:
    x = torch.cat([torch.full((20, 3, 6, 6), 0.2), torch.full((20, 3, 6, 6), 0.8)])
    two = Examples.of(TRAIN.ids, x, torch.arange(40) // 20)
    given, seen = trained_on(defense("generated_data", share=0.6), fit_with=two)
    new = changed(given, seen) & (seen.y < 2)  # the third class is empty, and stands for all examples
    assert int(new.sum()) > 5
    assert torch.allclose(seen.x[new].flatten(1).mean(1), torch.where(seen.y[new] == 0, 0.2, 0.8), atol=1e-5)


# --- noise and labels ---


def test_noisy_copies_are_added_with_their_deviation() -> None:
    grey = Examples.of(torch.arange(50), torch.full((50, 1, 16, 16), 0.5), torch.arange(50) % 3)
    added = defense("gaussian_augmentation", sigma=0.1, copies=2).prepare(grey, SPEC, SampleRandom(0, grey.ids))
    assert len(added) == 150
    assert len(added.ids.unique()) == 150
    assert torch.equal(added.x()[:50], grey.x())
    assert torch.equal(added.y, grey.y.repeat(3))
    noise = added.x()[50:] - 0.5  # 25,600 values five deviations from either end of the box
    assert float(noise.std()) == pytest.approx(0.1, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.003)
    assert not torch.allclose(noise[:50], noise[50:])


@pytest.mark.parametrize(("variant", "true", "other"), [(Variant.szegedy, 0.91, 0.01), (Variant.others, 0.9, 0.1 / 9)])
def test_smoothed_labels_have_both_published_forms(variant: Variant, true: float, other: float) -> None:
    ten = Examples.of(torch.arange(10), torch.rand(10, 4), torch.arange(10))
    smooth = LabelSmoothing(0.1, variant).prepare(ten, DataSpec((4,), 10), SampleRandom(0, ten.ids))
    assert smooth.soft is not None
    assert torch.allclose(smooth.soft, torch.eye(10) * (true - other) + other)
    assert torch.allclose(smooth.soft.sum(1), torch.ones(10))


# --- bounded ReLU ---


def test_the_bounded_relu_and_its_slope() -> None:
    z = torch.tensor([-1.0, 0.5, 2.0], requires_grad=True)
    value = Bounded(1.0)(z)
    (slope,) = torch.autograd.grad(value.sum(), z)
    assert value.tolist() == [0.0, 0.5, 1.0]
    assert slope.tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("name", ["mlp", "small_cnn", "lenet", "resnet", "wide_resnet"])
def test_every_relu_of_an_architecture_is_replaced(name: str) -> None:
    settings = {"wide_resnet": {"depth": 10, "width": 1}}.get(name, {})
    spec = DataSpec((1, 28, 28), 10)
    model = plugin("model", name, **settings).build(spec).eval()
    bounded = plugin("defense", "bounded_relu", bound=1e-3).build(model, spec)
    assert not any(type(m) is nn.ReLU for m in bounded.modules())
    last = [m for m in bounded.modules() if isinstance(m, nn.Linear)][-1]
    with torch.no_grad():
        logits = bounded(torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0)))
    room = (1e-3 * last.weight.abs().sum(1).max() + last.bias.abs().max()).detach()  # c t + |b|
    assert float(logits.abs().max()) <= float(room) + 1e-6


def test_an_architecture_without_relu_is_refused() -> None:
    with pytest.raises(Refused, match=r"replaces modules of the type nn\.ReLU, but Net has none; choose a model"):
        defense("bounded_relu").build(Net(SPEC), SPEC)


# --- what they share ---


def test_rows_are_chosen_without_replacement() -> None:
    for share, count in ((0.0, 0), (0.35, 14), (1.0, 40)):
        who = chosen(SampleRandom(0, TRAIN.ids), share, stream="test")
        assert len(who) == len(who.unique()) == count


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("mixup", {"alpha": -1.0}, "alpha is -1.0; expected at least 0"),
        ("cutmix", {"share": 2.0}, "has alpha 1.0 and share 2.0; expected at least 0, and a share"),
        ("negative_augmentation", {"share": 2.0}, "share is 2.0; expected a share between 0 and 1"),
        ("natural_augmentation", {"crop": 0.0}, "crop is 0.0; expected a share up to 1"),
        ("natural_augmentation", {"variations": ()}, "has 0 variations, quality 50"),
        ("generated_data", {"share": 1.0}, "has share 1.0, rank 64 and 1000 examples per class; expected"),
        ("bounded_relu", {"bound": 0.0}, "bound is 0.0; expected more than 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        dataclasses.replace(defense(name), **settings)


def test_an_infinite_bound_is_no_bound() -> None:
    z = torch.tensor([-2.0, 3e38])
    assert torch.equal(Bounded(math.inf)(z), torch.relu(z))
