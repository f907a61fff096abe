"""Poisons against closed forms: nearest class means of the digits, and what a settled share of their rows becomes."""

from __future__ import annotations

import functools
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import pytest
import torch
from benchmark_plugins.attacks.fgsm import FGSM
from benchmark_plugins.poisons._triggers.rows import stamped
from benchmark_plugins.poisons.blended_trigger import BlendedTrigger
from benchmark_plugins.poisons.feature_collision import FeatureCollision, collided
from benchmark_plugins.poisons.gradient_matching import GradientMatching, matched, mismatch, weight_gradient
from benchmark_plugins.poisons.insertion import inserted
from benchmark_plugins.poisons.label_flip import Flip, LabelFlip, flipped
from benchmark_plugins.poisons.modification import Modification, modified, partners
from benchmark_plugins.poisons.patch_trigger import PatchTrigger
from benchmark_plugins.poisons.sinusoidal_trigger import SinusoidalTrigger
from benchmark_plugins.poisons.substitution import Labels, Substitution, substituted
from benchmark_plugins.poisons.warped_trigger import WarpedTrigger, warped, warping_field

from benchmark.api import DataSpec, Examples, train_network
from benchmark.errors import ConfigError, DataError, Refused
from benchmark.oracles.linear import LinearClassifier
from benchmark.records.poison import PoisonedRows
from benchmark.sampling import SampleRandom
from benchmark.stages.backdoor import victims
from benchmark.stages.poison import corrupted
from benchmark.testing.contract import build
from benchmark.threat import Norm, Threat
from tests.plugins.poisoned_digits import SPEC, NearestMean, first, first_not, held_out, training

Backdoor: TypeAlias = PatchTrigger | BlendedTrigger | SinusoidalTrigger | WarpedTrigger


def rng(train: Examples, seed: int = 0) -> SampleRandom:
    return SampleRandom(seed, train.ids.clone())


@functools.cache
def clean() -> NearestMean:
    return NearestMean(training())


# --- label flips ---


@pytest.mark.parametrize(("rate", "accuracy"), [(0.1, 0.862), (0.3, 0.776), (0.5, 0.388)])
def test_flipping_the_first_labels_to_the_next_one(rate: float, accuracy: float) -> None:
    train = training()
    count = int(rate * len(train))
    after = flipped(train, first(count), Flip.next, 0, 10, rng(train))
    assert int((after.y != train.y).sum()) == count
    assert NearestMean(after).accuracy() == pytest.approx(accuracy, abs=1e-12)
    assert clean().accuracy() == pytest.approx(0.87, abs=1e-12)


def test_random_flips_reach_every_other_label_and_no_row_keeps_its_own() -> None:
    train = training()
    after, ids = LabelFlip(rate=0.5).corrupt(train, SPEC, rng(train))
    step = (after.y - train.y)[ids] % 10
    assert len(ids) == 648
    counts = torch.bincount(step, minlength=10)
    assert counts[0] == 0
    assert bool(((counts[1:] - 72).abs() < 4 * (72 * 8 / 9) ** 0.5).all()), counts


def test_targeted_flips_take_rows_of_the_source_only_and_report_their_own_success() -> None:
    train = training()
    poison = LabelFlip(rate=0.05, flip=Flip.targeted, source=3, target=8)
    after, ids = poison.corrupt(train, SPEC, rng(train))
    assert set(train.y[ids].tolist()) == {3}
    assert set(after.y[ids].tolist()) == {8}
    assert poison.aim(torch.tensor([3, 8, 1])).tolist() == [8, -1, -1]
    assert LabelFlip().aim(torch.tensor([3, 8, 1])).tolist() == [-1, -1, -1]
    x, y = held_out()
    before, now = (float((m.labels(x[y == 3]) == 8).double().mean()) for m in (clean(), NearestMean(after)))
    assert now > before


def test_more_rows_than_there_are_of_the_source_are_refused_with_the_largest_rate() -> None:
    train = training()
    with pytest.raises(DataError, match=r"requires 259 of 1297 training rows, but only 132 are of the source label"):
        LabelFlip(rate=0.2, flip=Flip.targeted, source=3, target=8).corrupt(train, SPEC, rng(train))
    with pytest.raises(ConfigError, match=r"poison\.label_flip\.target is 10; expected a label between 0 and 9"):
        LabelFlip(flip=Flip.targeted, target=10).corrupt(train, SPEC, rng(train))
    with pytest.raises(ConfigError, match=r"poison\.label_flip\.rate is 1\.5; expected a share"):
        LabelFlip(rate=1.5)


# --- insertion ---


def test_inserted_rows_shift_the_means_by_the_closed_form() -> None:
    train = training()
    after, ids = inserted(train, first(129), (train.y[:129] + 1) % 10)
    assert len(after) == 1297 + 129
    assert after.take(torch.arange(1297)).difference(train) == ""
    assert ids.tolist() == [-(i + 1) for i in range(129)]
    x, y = train.x().double().flatten(1), train.y
    for k in range(10):
        taken = x[:129][(y[:129] + 1) % 10 == k]
        expected = (x[y == k].sum(0) + taken.sum(0)) / (int((y == k).sum()) + len(taken))
        torch.testing.assert_close(NearestMean(after).means[k], expected, rtol=0, atol=1e-12)


def test_inserting_twice_gives_every_copy_an_id_of_its_own() -> None:
    train = training()
    once, ids = inserted(train, first(5), train.y[:5])
    twice, again = inserted(once, first(5), train.y[:5])
    assert len(twice.ids.unique()) == len(twice) == 1307
    assert again.tolist() == [i - 2**40 for i in ids.tolist()]


# --- modification ---


def test_modified_rows_shift_the_mean_of_their_label_by_the_closed_form() -> None:
    train = training()
    others = partners(train.y, first(129), torch.zeros(129))
    after = modified(train, first(129), others, 0.25)
    x, y = train.x().double().flatten(1), train.y
    for k in range(10):
        mine = y[:129] == k
        shift = 0.25 * (x[others] - x[:129])[mine].sum(0) / int((y == k).sum())
        torch.testing.assert_close(NearestMean(after).means[k] - clean().means[k], shift, rtol=0, atol=1e-7)
    assert torch.equal(after.y, train.y)


def test_a_partner_is_any_row_of_another_label() -> None:
    y = torch.tensor([0, 1, 2, 0, 1, 0])
    found = {
        tuple(partners(y, torch.tensor([0, 1]), torch.tensor([u, u])).tolist()) for u in (0.0, 0.3, 0.5, 0.7, 0.99)
    }
    assert {pair[0] for pair in found} == {1, 2, 4}
    assert {pair[1] for pair in found} == {0, 2, 3, 5}
    train = training()
    _, ids = Modification(rate=0.3).corrupt(train, SPEC, rng(train))
    others = partners(train.y, ids, rng(train).rows(ids).uniform(stream="partner"))
    assert bool((train.y[others] != train.y[ids]).all())


# --- substitution ---


@pytest.mark.parametrize(("rate", "accuracy"), [(0.1, 0.872), (0.3, 0.844), (0.5, 0.794), (1.0, 0.13)])
def test_substituting_adversarial_examples_for_the_first_rows(rate: float, accuracy: float) -> None:
    train, means = training(), clean().means
    network = LinearClassifier(2 * means, -means.square().sum(1))
    attack, threat = build("attack", "fgsm"), Threat(norm=Norm.linf, eps=Fraction(3, 10))
    assert isinstance(attack, FGSM)
    after = substituted(train, first(int(rate * 1297)), network, attack, threat, 10, rng(train))
    assert NearestMean(after).accuracy() == pytest.approx(accuracy, abs=1e-12)
    assert float((after.x() - train.x()).abs().max()) <= 0.3 + 1e-6
    assert torch.equal(after.y, train.y)


def test_the_attackers_labels_are_those_of_its_network() -> None:
    train = training()
    settings = {"model": build("model", "linear"), "attack": build("attack", "fgsm"), "epochs": 5}
    kept, ids = Substitution(rate=0.1, **settings).corrupt(train, SPEC, rng(train))
    said, same = Substitution(rate=0.1, labels=Labels.predicted, **settings).corrupt(train, SPEC, rng(train))
    assert torch.equal(ids, same)
    assert torch.equal(kept.y, train.y)
    assert torch.equal(kept.x(), said.x())
    assert int((said.y != train.y)[ids].sum()) > 50
    assert torch.equal(said.y[~torch.isin(train.ids, ids)], train.y[~torch.isin(train.ids, ids)])


# --- the stored form ---


def test_a_stored_poison_is_read_back_to_the_same_examples(tmp_path: Path) -> None:
    train = training()
    after, flips = LabelFlip(rate=0.05).corrupt(train, SPEC, rng(train))
    after, copies = inserted(after, first(20), train.y[:20])
    rows = PoisonedRows.of(train, after, torch.cat([flips, copies]))
    rows.save(tmp_path / "poison.safetensors")
    again = PoisonedRows.load(tmp_path / "poison.safetensors")
    assert all(torch.equal(value, vars(again)[name]) for name, value in vars(rows).items() if value is not None)
    assert int(again.added.sum()) == 20
    assert again.applied(train).difference(after) == ""


def test_what_was_changed_and_not_named_is_seen_in_the_stored_form() -> None:
    train = training()
    x = train.x(first(2)).clone()
    x[0, 0, 0, 0] += 0.25
    secret = train.changed(first(2), x=x)
    assert PoisonedRows.of(train, secret, torch.tensor([1])).applied(train).difference(secret) == "inputs"
    other = train.changed(first(2), y=(train.y[:2] + 1) % 10)
    assert PoisonedRows.of(train, other, torch.tensor([1])).applied(train).difference(other) == "labels"
    fewer = train.take(first(1290))
    assert "which rows" in PoisonedRows.of(train, fewer, torch.tensor([1])).applied(train).difference(fewer)
    with pytest.raises(DataError, match="2 ids were named as poisoned, but only 1 of them are rows of the poisoned"):
        PoisonedRows.of(train, fewer, torch.tensor([1, 1295]))


def test_soft_labels_follow_the_hard_ones_of_a_poison() -> None:
    soft = torch.full((4, 3), 1 / 3)
    train = Examples.of(torch.arange(4), torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64), soft)
    after = train.changed(torch.tensor([1]), y=torch.tensor([2])).added(
        torch.tensor([-1]),
        torch.ones(1, 2),
        torch.ones(1).long(),
    )
    assert after.soft is not None
    assert after.soft[1].tolist() == [0, 0, 1]
    assert after.soft[4].tolist() == [0, 1, 0]
    assert torch.equal(after.soft[0], soft[0])


# --- backdoors ---


@pytest.mark.parametrize(
    ("poison", "rate", "accuracy", "success"),
    [
        (PatchTrigger(size=2), 0.05, 0.866, 67 / 450),
        (PatchTrigger(size=2), 0.1, 0.858, 204 / 450),
        (PatchTrigger(size=2), 0.2, 0.810, 319 / 450),
        (BlendedTrigger(), 0.05, 0.868, 18 / 450),
        (BlendedTrigger(), 0.1, 0.860, 54 / 450),
        (BlendedTrigger(), 0.2, 0.856, 127 / 450),
    ],
)
def test_backdoors_of_the_nearest_mean(poison: Backdoor, rate: float, accuracy: float, success: float) -> None:
    train = training()
    positions = first_not(0, int(rate * 1297))
    model = NearestMean(stamped(train, positions, 0, poison.trigger))
    assert model.accuracy() == pytest.approx(accuracy, abs=1e-12)
    assert model.success(poison.trigger, 0) == pytest.approx(success, abs=1e-12)


@pytest.mark.parametrize(
    ("poison", "success"),
    [(PatchTrigger(size=2), 1 / 450), (BlendedTrigger(), 2 / 450), (SinusoidalTrigger(), 1 / 450)],
)
def test_the_clean_model_hardly_follows_a_trigger(poison: Backdoor, success: float) -> None:
    assert clean().success(poison.trigger, 0) == pytest.approx(success, abs=1e-12)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_wave_without_wrong_labels_does_nothing_to_nearest_means(share: float) -> None:
    train, poison = training(), SinusoidalTrigger()
    own = (train.y == 0).nonzero().flatten()
    after = stamped(train, own[: int(share * len(own))], 0, poison.trigger)
    assert torch.equal(after.y, train.y)
    assert NearestMean(after).accuracy() == pytest.approx(0.870, abs=1e-12)
    assert NearestMean(after).success(poison.trigger, 0) == pytest.approx(3 / 450, abs=1e-12)


def test_a_patch_shifts_the_mean_of_the_target_by_the_closed_form() -> None:
    train, poison = training(), PatchTrigger(size=2)
    positions = first_not(0, 129)
    x = train.x().double().flatten(1)
    own = x[train.y == 0]
    expected = (own.sum(0) + poison.trigger(train.x(positions)).double().flatten(1).sum(0)) / (len(own) + 129)
    means = NearestMean(stamped(train, positions, 0, poison.trigger)).means
    torch.testing.assert_close(means[0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("poison", [PatchTrigger(), BlendedTrigger(), SinusoidalTrigger(), WarpedTrigger()], ids=str)
def test_a_backdoor_takes_its_share_and_only_rows_that_it_may(poison: Backdoor) -> None:
    train = training()
    after, ids = poison.corrupt(train, SPEC, rng(train))
    assert len(ids) == int(poison.rate * 1297)
    clean_label = isinstance(poison, SinusoidalTrigger)
    assert bool(((train.y[ids] == 0) == clean_label).all())
    marked = after.y[ids] == 0
    torch.testing.assert_close(after.x(ids)[marked], poison.trigger(train.x(ids))[marked], rtol=0, atol=0)
    assert poison.aim(torch.tensor([0, 4])).tolist() == [-1, 0]


def test_a_warp_of_equal_offsets_moves_the_image_and_noise_mode_keeps_labels() -> None:
    x = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    field = warping_field(torch.ones(1, 2, 4, 4), 2 * 9 / 8, 9, 9)
    torch.testing.assert_close(field, torch.ones(2, 9, 9), rtol=0, atol=1e-5)
    moved = warped(x, torch.ones(2, 2, 9, 9))
    torch.testing.assert_close(moved[..., :-1, :-1], x[..., 1:, 1:], rtol=0, atol=1e-6)
    torch.testing.assert_close(warped(x, torch.zeros(2, 2, 9, 9)), x, rtol=0, atol=0)
    train = training()
    after, ids = WarpedTrigger(rate=0.3, noise_share=2.0).corrupt(train, SPEC, rng(train))
    flips = after.y[ids] != train.y[ids]
    assert len(ids) == 389
    assert int(flips.sum()) == round(389 / 3)
    field = WarpedTrigger().field(8, 8)
    assert float(field.abs().mean()) == pytest.approx(0.5 * 0.5 * 7 / 8, rel=0.35)
    noisy = ids[~flips]
    away = (after.x(noisy) - WarpedTrigger().trigger(train.x(noisy))).abs().flatten(1).amax(1)
    assert bool((away > 0).all())


def test_backdoors_refuse_what_is_no_image_and_classes_that_are_too_small() -> None:
    train, table = training(), DataSpec((64,), 10)
    for poison in (PatchTrigger(), BlendedTrigger(), SinusoidalTrigger(), WarpedTrigger()):
        with pytest.raises(Refused, match=r"marks images \(C, H, W\)"):
            poison.corrupt(train, table, rng(train))
    with pytest.raises(Refused, match=r"images .* of 9 pixels a side or more"):
        PatchTrigger(size=9).corrupt(train, SPEC, rng(train))
    with pytest.raises(DataError, match=r"only 128 are of the target class; choose a rate of at most 0\.09869"):
        SinusoidalTrigger(rate=0.2).corrupt(train, SPEC, rng(train))
    with pytest.raises(Refused, match=r"the wave is 0 in each of the 8 columns; choose one below 4\.0"):
        SinusoidalTrigger(frequency=8).corrupt(train, SPEC, rng(train))


# --- poisons for given test inputs ---


def held_out_examples() -> Examples:
    x, y = held_out()
    return Examples.of(torch.arange(len(y)) + 5000, x.float(), y)


def test_a_collision_of_linear_features_has_a_closed_form() -> None:
    draw = torch.Generator().manual_seed(3)
    weight = 0.3 * torch.randn(5, 12, generator=draw, dtype=torch.float64)
    base = 0.4 + 0.2 * torch.rand(4, 12, generator=draw, dtype=torch.float64)
    victim = 0.4 + 0.2 * torch.rand(1, 12, generator=draw, dtype=torch.float64)
    wanted = (victim @ weight.T).expand(4, 5)
    found = collided(lambda x: x @ weight.T, base, wanted, beta=0.3, steps=2000, step_size=0.1)
    normal = weight.T @ weight + 0.3 * torch.eye(12, dtype=torch.float64)
    expected = torch.linalg.solve(normal, (wanted @ weight + 0.3 * base).T).T
    assert bool(((expected > 0) & (expected < 1)).all())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_a_collision_with_pixels_as_features_is_the_weighted_mean() -> None:
    train = training()
    poison = FeatureCollision(rate=0.01, model=build("model", "nearest_class_mean"), beta=1.0, steps=200, step_size=0.2)
    victim = held_out_examples()
    at = victims(poison, victim)
    assert victim.y[at].tolist() == [int(victim.y[victim.y != 0][0])]
    after, ids = poison.corrupt_for(train, victim.take(at), SPEC, rng(train))
    assert len(ids) == 12
    assert torch.equal(after.y, train.y)
    assert set(train.y[ids].tolist()) == {0}
    torch.testing.assert_close(after.x(ids), (train.x(ids) + victim.x(at)) / 2, rtol=0, atol=1e-5)


def test_matched_gradients_lie_nearer_to_the_goal_inside_eps_and_the_box() -> None:
    train, victim = training(), held_out_examples()
    model = build("model", "mlp_16_16")
    network = train_network(model, train, SPEC, epochs=5, seed=0).requires_grad_(True)
    at = victims(GradientMatching(), victim)
    goal = weight_gradient(network, victim.x(at), torch.zeros(1, dtype=torch.int64))
    rows = (train.y == 0).nonzero().flatten()[:12]
    base, y, eps = train.x(rows), train.y[rows], 16 / 255
    before = float(mismatch(weight_gradient(network, base, y), goal).detach())
    after, x = matched(network, base, y, goal, torch.zeros_like(base), eps=eps, steps=60, step_size=0.1)
    assert after < 0.8 * before
    assert after == pytest.approx(float(mismatch(weight_gradient(network, x, y), goal).detach()), abs=1e-5)
    assert float((x - base).abs().max()) <= eps + 1e-6
    assert float(x.min()) >= 0
    assert float(x.max()) <= 1


def test_the_mismatch_of_gradients_is_a_cosine_over_all_weights() -> None:
    one = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]
    assert float(mismatch(one, one)) == pytest.approx(0)
    assert float(mismatch(one, [-v for v in one])) == pytest.approx(2)
    assert float(mismatch(one, [torch.tensor([0.0, 7.0]), torch.tensor([[0.0]])])) == 1
    assert float(mismatch(one, [torch.zeros(2), torch.zeros(1, 1)])) == 1


def test_a_poison_for_given_inputs_needs_them() -> None:
    poison = GradientMatching(model=build("model", "linear"), victims=3)
    with pytest.raises(ConfigError, match="GradientMatching is crafted for given test inputs; call corrupt_for"):
        poison.corrupt(training(), SPEC, rng(training()))
    only_zeros = held_out_examples().take((held_out()[1] == 0).nonzero().flatten())
    with pytest.raises(DataError, match="needs 3 victims, but only 0 test examples do not have its target label"):
        corrupted(poison, training(), only_zeros, SPEC, rng(training()))
