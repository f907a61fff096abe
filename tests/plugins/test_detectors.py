"""The detectors against closed forms, scikit-learn, and facts of the papers."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmark_plugins.defenses._detectors.attached import attached
from benchmark_plugins.defenses._detectors.combined import (
    Combined,
    Fit,
    attacked_examples,
    logistic_regression,
    training_threat,
)
from benchmark_plugins.defenses._detectors.features import Reader, features, hidden_layers
from benchmark_plugins.defenses._detectors.mutants import softened
from benchmark_plugins.defenses._detectors.sequential import Hypotheses, sequential_test
from benchmark_plugins.defenses.detector_network import Branch, DetectorNetwork
from benchmark_plugins.defenses.energy import Energy, free_energy
from benchmark_plugins.defenses.feature_squeezing import FeatureSqueezing
from benchmark_plugins.defenses.kernel_density import Densities, KernelDensity, log_density, predictive_variance
from benchmark_plugins.defenses.local_intrinsic_dimensionality import intrinsic_dimension
from benchmark_plugins.defenses.magnet import Autoencoders, MagNet, divergence
from benchmark_plugins.defenses.mahalanobis import Gaussians, Mahalanobis, class_distances, class_gaussians
from benchmark_plugins.defenses.max_softmax import uncertainty
from benchmark_plugins.defenses.model_mutation import ModelMutation, Operator, mutated_weights
from benchmark_plugins.defenses.mutation_testing import Inputs, Mutation, MutationTesting, mutated
from benchmark_plugins.metrics._roc import area
from scipy.spatial.distance import jensenshannon
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KernelDensity as SklearnDensity
from torch import Tensor, nn

from benchmark.api import DataSpec, Defense, Examples, Loss
from benchmark.errors import ConfigError, Refused
from benchmark.records.store import Store
from benchmark.run import run
from benchmark.stages.calibrate import calibrated, spread
from benchmark.stages.fit import built
from benchmark.system import System
from benchmark.testing import contract
from benchmark.threat import Threat, parse_eps
from tests.core.cells import plugin, small_config

SPEC = DataSpec((1, 6, 6), 3)


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network(spec: DataSpec = SPEC) -> nn.Sequential:
    """A convolution, a hidden layer, and the logits."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(144, 8), nn.ReLU(), nn.Linear(8, spec.classes)
    )


def training(count: int = 60) -> Examples:
    ids = torch.arange(count)
    return Examples.of(ids, draws(count, *SPEC.shape).sigmoid(), ids % SPEC.classes)


def no_fit(module: nn.Module, train: Examples, loss: Loss) -> None:
    """A recipe of no steps."""


def finished(defense: Defense, train: Examples | None = None) -> nn.Module:
    model = built(network(), SPEC, (defense,))
    defense.finish(model, training() if train is None else train, no_fit)
    return model.eval()


# --- baselines of the logits ---


def test_energy_shifts_with_the_logits_and_probabilities_do_not() -> None:
    logits = draws(5, 4).double()
    assert torch.allclose(free_energy(logits + 3.0, 2.0), free_energy(logits, 2.0) - 3.0)
    assert torch.allclose(uncertainty(logits + 3.0), uncertainty(logits))
    assert torch.allclose(free_energy(logits, 1e-4), -logits.amax(1), atol=1e-3)
    assert torch.allclose(uncertainty(logits), -logits.softmax(1).amax(1).log())
    with pytest.raises(ConfigError, match=r"energy\.temperature is 0\.0; expected a temperature above 0"):
        Energy(temperature=0.0)


# --- feature squeezing ---


class Steep(nn.Module):
    """Two labels, told apart by whether one pixel is above a half."""

    def forward(self, x: Tensor) -> Tensor:
        pixel = x.flatten(1)[:, 14]
        return torch.stack([100.0 * (0.5 - pixel), 100.0 * (pixel - 0.5)], 1)


def test_a_squeezed_label_that_turns_is_the_most_suspicious() -> None:
    x = torch.zeros(3, 1, 6, 6)
    x[1, 0, 2, 2] = 0.49  # one bit: 0, the same label
    x[2] = 1.0
    x[2, 0, 2, 2] = 0.3  # the median of its window is 1
    found = FeatureSqueezing(bits=1, window=2).suspicion(Steep(), x)
    assert found.tolist() == pytest.approx([0.0, 2 * (1 - torch.sigmoid(torch.tensor(2.0)).item()), 2.0], abs=1e-4)


def test_squeezing_is_between_0_and_2_and_an_identity_is_never_suspicious() -> None:
    x = draws(32, 1, 6, 6).sigmoid()
    found = FeatureSqueezing().suspicion(network(), x).detach()
    assert float(found.amin()) >= 0.0
    assert float(found.amax()) <= 2.0
    black_and_white = (x > 0.5).float()
    assert FeatureSqueezing(bits=1, window=0).suspicion(network(), black_and_white).abs().amax() == 0.0
    with pytest.raises(Refused, match=r"defense\.feature_squeezing with a window or non_local needs images"):
        FeatureSqueezing().check(DataSpec((5,), 2))
    FeatureSqueezing(window=0).check(DataSpec((5,), 2))


# --- Mahalanobis ---


def gaussian_classes(count: int = 3000, size: int = 4) -> tuple[Tensor, Tensor]:
    y = torch.arange(count) % 3
    means, mix = draws(3, size, seed=1) * 2, draws(size, size, seed=2)
    return means[y] + draws(count, size, seed=3) @ mix, y


def test_the_nearest_class_is_that_of_linear_discriminant_analysis() -> None:
    x, y = gaussian_classes()
    means, whitening = class_gaussians(x, y, 3, ridge=1e-9)
    nearest = class_distances(x, means, whitening).argmin(1)
    peer = LinearDiscriminantAnalysis(solver="lsqr", priors=[1 / 3] * 3).fit(x.numpy(), y.numpy())
    assert np.array_equal(nearest.numpy(), peer.predict(x.numpy()))
    assert torch.allclose(whitening.T @ whitening, torch.from_numpy(np.linalg.inv(peer.covariance_)).float(), rtol=1e-3)


def test_distances_do_not_depend_on_the_basis() -> None:
    x, y = gaussian_classes()
    turn = draws(4, 4, seed=9) + 3 * torch.eye(4)
    here = class_distances(x, *class_gaussians(x, y, 3, ridge=1e-12))
    there = class_distances(x @ turn, *class_gaussians(x @ turn, y, 3, ridge=1e-12))
    assert torch.allclose(here, there, rtol=1e-3)


def test_a_singular_covariance_and_an_empty_class_are_no_fault() -> None:
    x, y = torch.ones(10, 5), torch.zeros(10, dtype=torch.int64)
    means, whitening = class_gaussians(x, y, 3, ridge=1e-3)
    assert torch.equal(means, torch.ones(3, 5))
    assert torch.isfinite(class_distances(x, means, whitening)).all()


def test_the_suspicion_is_the_mean_of_the_standardised_layers() -> None:
    defense = Mahalanobis(layers=2)
    model = finished(defense)
    part, x = attached(model, Gaussians), training().x()
    with torch.no_grad():
        read, _ = features(model, part, x)
        assert [r.shape[1] for r in read] == [144, 8]
        apart = [class_distances(f, part.means(i), part.whitening(i)).amin(1) for i, f in enumerate(read)]
        expected = sum((d - d.mean()) / d.std(correction=0) for d in apart) / 2
        assert torch.allclose(defense.suspicion(model, x), expected, atol=1e-3)


# --- kernel density and uncertainty ---


def test_the_density_is_that_of_scikit_learn() -> None:
    references, x = draws(2, 7, 3, seed=1), draws(5, 3, seed=2)
    counts, labels = torch.tensor([7, 4]), torch.tensor([0, 1, 0, 1, 1])
    found = log_density(x, references, counts, labels, 0.7)
    for label, count in enumerate(counts.tolist()):
        peer = SklearnDensity(bandwidth=0.7).fit(references[label, :count].numpy())
        assert found[labels == label].numpy() == pytest.approx(peer.score_samples(x[labels == label].numpy()), rel=1e-5)
    assert float(log_density(x + 1e3, references, counts, labels, 0.7).exp().amax()) == 0.0


def test_without_dropout_there_is_no_uncertainty() -> None:
    model = network().eval()
    x = training().x()
    part = attached(built(model, SPEC, (KernelDensity(),)), Densities)
    assert part.last is model[5]
    none = predictive_variance(model, model[5], x, torch.ones(4, 8)).detach()
    assert float(none.abs().amax()) < 1e-12
    masks = torch.tensor([[1.0] * 8, [0.0] * 8])
    with torch.no_grad():
        hidden = model[:5](x)
        p, q = model[5](hidden).softmax(1), model[5](0 * hidden).softmax(1)
        assert torch.allclose(predictive_variance(model, model[5], x, masks), ((p - q) / 2).square().mean(1), atol=1e-6)


# --- local intrinsic dimensionality ---


@pytest.mark.parametrize(("dimension", "expected"), [(1, 1.13), (2, 2.32), (5, 5.3)])
def test_uniform_cubes_have_their_dimension(dimension: int, expected: float) -> None:
    points = torch.rand(4000, dimension, generator=torch.Generator().manual_seed(0))
    apart = torch.cdist(points[:1000], points, compute_mode="donot_use_mm_for_euclid_dist")
    apart[torch.arange(1000), torch.arange(1000)] = torch.inf
    found = intrinsic_dimension(apart, 20)
    assert float(found.mean()) == pytest.approx(expected, rel=0.06)
    assert torch.allclose(intrinsic_dimension(apart * 37.0, 20), found, rtol=1e-4)


def test_the_estimate_by_hand() -> None:
    distances = torch.tensor([[8.0, 1.0, 2.0, 4.0, 100.0]])
    expected = -4 / (math.log(1 / 8) + math.log(2 / 8) + math.log(4 / 8))
    assert float(intrinsic_dimension(distances, 4)) == pytest.approx(expected)
    assert torch.isfinite(intrinsic_dimension(torch.zeros(1, 5), 3)).all()


# --- detectors fitted on attacks ---


def test_logistic_regression_is_that_of_scikit_learn() -> None:
    x = torch.cat([draws(200, 3, seed=1), draws(50, 3, seed=2) + 1.0])
    y = torch.cat([torch.zeros(200), torch.ones(50)])
    weight, bias = logistic_regression(x, y)
    # scikit-learn minimises sum of balanced losses + |w|^2 / (2C); ours is the mean loss + 0.01 |w|^2 / 2
    peer = LogisticRegression(C=1 / (0.01 * 250), class_weight="balanced", tol=1e-8).fit(x.numpy(), y.numpy())
    assert weight.numpy() == pytest.approx(peer.coef_[0], abs=1e-3)
    assert bias == pytest.approx(peer.intercept_[0], abs=1e-3)


def test_logistic_regression_of_separated_scores_ends() -> None:
    weight, bias = logistic_regression(torch.tensor([[-1.0], [-2.0], [1.0], [2.0]]), torch.tensor([0, 0, 1, 1]))
    assert float(weight) > 0.0
    assert math.isfinite(bias)


FITTED = ["detector_network", "kernel_density", "local_intrinsic_dimensionality", "mahalanobis"]


@pytest.mark.parametrize("name", FITTED)
def test_a_card_names_the_attack_that_a_detector_saw(name: str) -> None:
    if name == "detector_network":
        assert contract.build("defense", name).fitted_on() == (contract.build("attack", "pgd_10"),)
        return
    assert contract.build("defense", name, fit=Fit.attack).fitted_on() == (contract.build("attack", "pgd_10"),)
    assert contract.build("defense", name, fit=Fit.clean).fitted_on() == ()


@pytest.mark.parametrize("name", FITTED)
def test_fitting_a_detector_leaves_the_classifier_alone(name: str) -> None:
    defense = contract.build("defense", name)
    model = built(network(), SPEC, (defense,)).train()
    before = copy.deepcopy(network().state_dict())
    defense.finish(model, training(), no_fit)
    part = attached(model, Reader)
    assert all(torch.equal(value, before[key]) for key, value in part.model.state_dict().items())
    assert all(module.training for module in model.modules())


def test_the_network_learns_what_tells_attacked_examples_apart() -> None:
    defense = contract.build("defense", "detector_network", eps="1/2")

    def fit(module: nn.Module, train: Examples, loss: Loss) -> None:
        optimizer = torch.optim.Adam(module.parameters(), 1e-2)
        batch = dataclasses.make_dataclass("Batch", ["ids", "x", "y"])(train.ids, train.x(), train.y)
        for _ in range(200):
            optimizer.zero_grad()
            loss(module, batch).backward()
            optimizer.step()

    model = built(network(), SPEC, (defense,)).eval()
    train = training()
    defense.finish(model, train, fit)
    assert not any(p.requires_grad for p in attached(model, Branch).network.parameters())
    assert isinstance(defense, DetectorNetwork)
    threat = training_threat(defense.norm, defense.eps)
    attacked = attacked_examples(model, train, defense.attack, threat, name="detector_network")
    with torch.no_grad():
        clean, adversarial = (defense.suspicion(model, examples.x()) for examples in (train, attacked))
    assert len(attacked) > 10
    assert area(clean, adversarial) == pytest.approx(1.0, abs=0.02)


# --- MagNet ---


def test_the_divergence_is_that_of_scipy() -> None:
    one, other = draws(4, 5, seed=1).double() * 3, draws(4, 5, seed=2).double() * 3
    expected = [jensenshannon(p, q) ** 2 for p, q in zip(one.softmax(1).numpy(), other.softmax(1).numpy(), strict=True)]
    assert divergence(one, other).numpy() == pytest.approx(expected, abs=1e-12)
    assert float(divergence(one, one + 5.0).abs().amax()) < 1e-12


def test_nothing_is_reformed_before_the_autoencoders_are_trained() -> None:
    model = built(network(), SPEC, (MagNet(),)).eval()
    system, x = System(model, SPEC, (MagNet(),)), training().x()
    assert torch.equal(system(x), model(x))
    part = attached(model, Autoencoders)
    part.fitted.fill_(1.0)
    assert torch.equal(system(x), model(part.narrow(x)))
    assert part.narrow(x).shape == part.wide(x).shape == x.shape
    odd = attached(built(nn.Flatten(), DataSpec((3, 7, 5), 3), (MagNet(),)), Autoencoders)
    assert odd.narrow(torch.zeros(2, 3, 7, 5)).shape == (2, 3, 7, 5)


# --- the sequential test ---


@pytest.mark.parametrize(("normal", "stops"), [(0.01, 1213), (0.02, 599), (0.05, 231)])
def test_the_test_stops_when_the_formula_says(normal: float, stops: int) -> None:
    hypotheses = Hypotheses.around(normal, factor=1.2, margin=0.1, error=0.05)
    assert hypotheses.bound == pytest.approx(2.9444, abs=1e-4)
    assert (hypotheses.low, hypotheses.high) == pytest.approx((1.08 * normal, 1.32 * normal))
    device = torch.device("cpu")
    found = sequential_test(2, 2000, hypotheses, lambda _, rows: rows == 0, device)
    assert found.used.tolist() == [15, stops]  # changed by every mutant; by none
    assert found.decided.all()
    assert (found.ratio > 0).tolist() == [True, False]
    assert found.share.tolist() == [1.0, 0.0]
    short = sequential_test(1, stops - 1, hypotheses, lambda _, rows: rows == 7, device)
    assert not short.decided.any()


@pytest.mark.parametrize("high", [True, False])
def test_the_error_rates_are_kept(high: bool) -> None:
    hypotheses = Hypotheses.around(0.2, factor=1.2, margin=0.3, error=0.05)
    stream = torch.Generator().manual_seed(0)
    share = hypotheses.high if high else hypotheses.low
    found = sequential_test(
        2000, 1000, hypotheses, lambda _, rows: torch.rand(len(rows), generator=stream) < share, torch.device("cpu")
    )
    wrong = (found.ratio < 0) if high else (found.ratio > 0)
    assert found.decided.all()
    assert float(wrong.float().mean()) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 2000)


# --- mutants ---


def test_the_score_of_a_sure_network_keeps_its_gradient() -> None:
    """Logits 40 apart leave 4e-18 to the other label; one minus the probability of its own is zero, without a slope."""
    sure = nn.Linear(2, 2)
    sure.weight.data, sure.bias.data = 40.0 * torch.eye(2), torch.tensor([40.0, 0.0])
    x = torch.full((3, 2), 0.5).requires_grad_(True)
    score = softened(sure, x, lambda number, inputs, rows: sure(inputs[rows]), 4)
    assert score.tolist() == pytest.approx([math.exp(-40.0)] * 3, rel=1e-4)
    (slope,) = torch.autograd.grad(score.sum(), x)
    assert slope[:, 0].tolist() == pytest.approx([-40.0 * math.exp(-40.0)] * 3, rel=1e-4)


def test_mutants_are_the_same_for_every_input_and_stay_in_the_box() -> None:
    x = training().x()
    for kind in Mutation:
        one = mutated(x, kind, 0.1, 3)
        assert torch.equal(one[2:4], mutated(x[2:4], kind, 0.1, 3))
        assert not torch.equal(one, mutated(x, kind, 0.1, 4))
        assert float(one.amin()) >= 0.0
        assert float(one.amax()) <= 1.0


def test_an_input_on_the_boundary_changes_its_label_half_of_the_time() -> None:
    defense = MutationTesting(mutations=400, strength=0.05)
    model = built(Steep(), DataSpec((1, 6, 6), 2), (defense,))
    attached(model, Inputs).share.fill_(0.01)
    x = torch.full((3, 1, 6, 6), 0.5)
    x[:, 0, 2, 2] = torch.tensor([0.5001, 0.55, 0.9])  # at the boundary, one and eight standard deviations from it
    found = defense.tested(model, x)
    assert found.used[2] == 400
    assert found.changes[2] == 0
    assert found.used[0] < 60
    assert float(found.share[0]) == pytest.approx(0.5, abs=0.2)
    assert 0.05 < float(found.share[1]) < 0.35  # Phi(-1) = 0.159
    assert (found.ratio > 0).tolist() == [True, True, False]


def test_mutated_models_differ_where_the_operator_says() -> None:
    model = network()
    weight = model.get_parameter("3.weight").detach()
    for operator in Operator:
        found = mutated_weights(model, operator, 0.5, 1)
        assert sorted(found) == ["0.weight", "3.weight", "5.weight"]
        changed = found["3.weight"]
        hit = (changed != weight).any(1)
        if operator is Operator.neuron_inverse:
            assert torch.equal(changed[hit], -weight[hit])
        elif operator is Operator.neuron_switch:
            assert torch.equal(changed.sort(0).values, weight.sort(0).values)
        elif operator is Operator.weight_shuffling:
            assert torch.equal(changed.sort(1).values, weight.sort(1).values)
        else:
            share = float((changed != weight).float().mean())
            assert share == pytest.approx(0.5, abs=0.06)
            assert float((changed - weight)[changed != weight].std()) == pytest.approx(float(weight.std()), rel=0.15)
        assert hit.any()
    assert torch.equal(model.get_parameter("3.weight"), weight)


def test_model_mutation_leaves_the_weights_as_they_are() -> None:
    defense = ModelMutation(mutations=10)
    model = finished(defense)
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        score = defense.suspicion(model, training().x())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert float(score.amin()) >= 0.0
    assert float(score.amax()) <= 1.0


# --- what they share ---


def test_hidden_features_are_those_of_the_layers() -> None:
    model = network().eval()
    hidden = hidden_layers(model, SPEC, layers=4, grid=2)
    assert hidden.names == ("3", "5")
    assert hidden.sizes == (144, 8)
    assert hidden_layers(model, SPEC, layers=1).names == ("5",)
    flat = hidden_layers(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), SPEC)
    assert (flat.names, flat.sizes) == ((), (3,))


def test_two_detectors_stand_side_by_side() -> None:
    stack = (contract.build("defense", "detector_network"), Mahalanobis(), MagNet(), KernelDensity(fit=Fit.clean))
    model = built(network(), SPEC, stack)
    for defense in stack:
        defense.finish(model, training(), no_fit)
    system, x = System(model.eval(), SPEC, stack), training().x()
    for defense in stack:
        with torch.no_grad():
            assert torch.isfinite(defense.suspicion(system, x)).all()


def test_a_stage_that_repeats_inputs_is_refused_by_name() -> None:
    class Twice(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.model(torch.cat([x, x]))[: len(x)]
            return logits

    defense = Mahalanobis()
    with pytest.raises(
        Refused, match="a detector reads the hidden features of 60 examples, but a defense of the stack passes 120"
    ):
        defense.suspicion(Twice(finished(defense)), training().x())


def test_a_detector_without_its_part_says_so() -> None:
    with pytest.raises(ConfigError, match="the system has no Gaussians, which its detector attaches"):
        Mahalanobis().suspicion(network(), training().x())


def test_scores_are_standardised_and_added() -> None:
    combined = Combined(2)
    scores = torch.tensor([[0.0, 10.0], [2.0, 30.0]])
    combined.standardise(scores)
    assert combined(scores).tolist() == [-1.0, 1.0]


# --- thresholds ---


@pytest.mark.parametrize(("count", "rank"), [(100, 96), (500, 476), (1000, 951), (19, 19), (10, 10)])
def test_the_threshold_is_the_exact_quantile(count: int, rank: int) -> None:
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    assert calibrated(order.double() + 1.0, 0.05) == rank


@pytest.mark.parametrize("unit", [1.0, 1e-9, 1e9])
def test_margins_do_not_depend_on_the_unit_of_the_scores(unit: float) -> None:
    """Standard deviation in the unit of the scores: a floor of 1e-6 hid small ones from aware attacks."""
    scores = torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64)
    assert spread(scores * unit) == pytest.approx(float(scores.std()) * unit)
    assert spread(torch.cat([scores, torch.tensor([torch.inf])]) * unit) == pytest.approx(float(scores.std()) * unit)


@pytest.mark.parametrize("scores", [[], [3.0], [3.0, 3.0], [torch.inf], [torch.inf, 2.0]])
def test_scores_that_do_not_vary_have_a_spread_of_one(scores: list[float]) -> None:
    """One clean example has no deviation, which made every margin infinite: a detector that refused everything."""
    assert spread(torch.tensor(scores, dtype=torch.float64)) == 1.0


def test_fresh_false_positives_are_beta_distributed() -> None:
    draw = torch.Generator().manual_seed(0)
    rates = []
    for _ in range(4000):
        threshold = calibrated(torch.rand(100, generator=draw).double(), 0.05)
        rates.append(1.0 - threshold)  # the share of fresh uniform scores above it
    found = torch.tensor(rates)
    assert float(found.mean()) == pytest.approx(0.0495, abs=0.0015)
    assert float(found.std()) == pytest.approx(0.0215, abs=0.001)
    assert found.quantile(torch.tensor([0.025, 0.975])).tolist() == pytest.approx([0.016, 0.099], abs=0.004)


def test_dimensions_are_fitted_on_examples_that_are_no_references(tmp_path: Path) -> None:
    """An attacked reference has itself as nearest neighbour, as no input of the deployed system has."""
    config = small_config(
        tmp_path,
        model=plugin("model", "mlp"),
        defenses=(plugin("defense", "local_intrinsic_dimensionality", attack=plugin("attack", "pgd", steps=5)),),
        metrics=(plugin("metric", "detection"),),
        threat=Threat(eps=parse_eps("1/5"), aware=False),
        attack=plugin("attack", "pgd", steps=5),
    )
    record = Store(tmp_path / "results").record(run(config).key)
    assert record is not None
    values = {metric.name: metric.value for metric in record.metrics}
    assert (values["detection_auroc"] or 0.0) > 0.5
