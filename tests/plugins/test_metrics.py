"""The metrics against hand-computed examples, torchmetrics, numpy, scipy and published intervals."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from benchmark_plugins.metrics._quantiles import quantile, quantile_interval
from benchmark_plugins.metrics._rates import wilson
from benchmark_plugins.metrics.attack_success import AttackSuccess
from benchmark_plugins.metrics.clean_accuracy import CleanAccuracy
from benchmark_plugins.metrics.confidence import Confidence
from benchmark_plugins.metrics.distances import Distances
from benchmark_plugins.metrics.false_negatives import FalseNegatives
from benchmark_plugins.metrics.optimality_gap import OptimalityGap
from benchmark_plugins.metrics.passes import Passes
from benchmark_plugins.metrics.robust_accuracy import RobustAccuracy
from scipy.stats import binom, binomtest
from torchmetrics.classification import MulticlassAccuracy

from benchmark.api import Measurement, Metric
from benchmark.errors import ConfigError, PluginError
from benchmark.records.outcomes import NORMS, Outcomes
from benchmark.stages.measure import measure
from benchmark.threat import Norm
from tests.plugins._made_outcomes import made_outcomes, part, random_outcomes

ALL: list[Metric] = [CleanAccuracy(), RobustAccuracy(), AttackSuccess(), Distances(), Passes()]


def named(metric: Metric, outcomes: Outcomes) -> dict[str, Measurement]:
    measured = metric.measure(outcomes)
    assert len({m.name for m in measured}) == len(measured)
    return {m.name: m for m in measured}


def by_hand() -> Outcomes:
    """Ten examples: 2 wrong clean; 8 attacked, of which 1 invalid, 3 broken, 2 adversarial beyond eps, 2 not found."""
    inf = math.inf
    return made_outcomes(
        torch.tensor([True, True, False, True, True, True, True, False, True, True]),
        valid=torch.tensor([True, True, True, False, True, True, True, True, True, True]),
        distance=torch.tensor([0.02, 0.05, 0.01, 0.05, 0.1, 0.3, inf, inf, 0.4, inf]),
        forwards=torch.tensor([10, 20, 99, 30, 40, 50, 60, 99, 70, 80]),
        clean_top5=torch.tensor([True] * 9 + [True]),
        robust_top5=torch.tensor([True, False, True, True, True, True, True, False, True, True]),
    )


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),  # Agresti and Coull 1998 and every table since
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I: 0.2553 to 0.3662
        (15, 148, 0.0624, 0.1605),  # Newcombe 1998, table I: 0.0624 to 0.1605
        (1, 29, 0.0061, 0.1718),  # Newcombe 1998, table I: 0.0061 to 0.1718
    ],
)
def test_wilson_gives_the_published_intervals(hits: int, total: int, low: float, high: float) -> None:
    assert wilson(hits, total) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("total", [1, 2, 17, 500, 10_000])
def test_wilson_agrees_with_scipy_and_holds_the_share(total: int) -> None:
    for hits in sorted({0, 1, total // 3, total - 1, total}):
        low, high = wilson(hits, total)
        assert low is not None
        assert high is not None
        expected = binomtest(hits, total).proportion_ci(0.95, method="wilson")
        assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
        assert 0.0 <= low <= hits / total <= high <= 1.0


def test_rates_of_ten_examples_by_hand() -> None:
    outcomes = by_hand()
    clean = named(CleanAccuracy(), outcomes)
    assert clean["clean_accuracy"].value == 0.8
    assert clean["clean_accuracy"].low == pytest.approx(0.4902, abs=5e-5)
    assert clean["clean_accuracy"].high == pytest.approx(0.9433, abs=5e-5)
    assert clean["clean_top5_accuracy"].value == 1.0
    robust = named(RobustAccuracy(), outcomes)
    assert robust["robust_accuracy"].value == 0.4  # the invalid one is neither robust nor broken
    assert (robust["robust_accuracy"].low, robust["robust_accuracy"].high) == wilson(4, 10)
    assert robust["robust_top5_accuracy"].value == 0.7
    success = named(AttackSuccess(), outcomes)["attack_success_rate"]
    assert success.value == 3 / 7
    assert (success.low, success.high) == wilson(3, 7)


def test_five_guesses_among_few_classes_are_no_measurement() -> None:
    outcomes = by_hand()
    few = dataclasses.replace(
        outcomes, y=outcomes.y % 3, clean_label=outcomes.clean_label % 3, adv_label=outcomes.y % 3
    )
    none = named(CleanAccuracy(), few)["clean_top5_accuracy"]
    assert (none.value, none.low, none.high) == (None, None, None)
    many = dataclasses.replace(few, adv_label=torch.full_like(few.y, 5))
    assert named(CleanAccuracy(), many)["clean_top5_accuracy"].value == 1.0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_measurement_that_is_not_finite_names_its_plugin(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = [Measurement("odd", value, None, None, "fraction", True)]
    monkeypatch.setattr(Passes, "measure", lambda _self, _outcomes: odd)
    with pytest.raises(PluginError, match=rf"^metric.passes from .* measured 'odd' as {value} .*; expected finite"):
        measure([Passes()], by_hand())


def test_units_and_directions() -> None:
    every = {name: m for metric in ALL for name, m in named(metric, by_hand()).items()}
    rates = {
        "clean_accuracy": True,
        "clean_top5_accuracy": True,
        "robust_accuracy": True,
        "robust_top5_accuracy": True,
        "attack_success_rate": False,
        "adversarial_found": False,
    }
    assert {name: m.higher_is_better for name, m in every.items() if m.unit == "fraction"} == rates
    assert {m.unit for name, m in every.items() if name.startswith("distance_l0_")} == {"features"}
    assert {m.unit for name, m in every.items() if name.startswith("distance_linf_")} == {"input range"}
    assert every["distance_l2_median"].higher_is_better is True
    assert every["forwards_per_example"].higher_is_better is None


def test_accuracies_agree_with_torchmetrics() -> None:
    outcomes = random_outcomes(400, seed=3)
    accuracy = MulticlassAccuracy(num_classes=10, average="micro")
    expected = float(accuracy(outcomes.clean_label, outcomes.y))
    assert named(CleanAccuracy(), outcomes)["clean_accuracy"].value == pytest.approx(expected, abs=1e-7)
    accuracy.reset()
    label = torch.where(outcomes.valid, outcomes.adv_label, (outcomes.y + 1) % 10)  # an invalid one is not right
    expected = float(accuracy(label, outcomes.y))
    assert named(RobustAccuracy(), outcomes)["robust_accuracy"].value == pytest.approx(expected, abs=1e-7)


def test_invalid_candidates_never_count_as_robust() -> None:
    clean_correct = torch.ones(6, dtype=torch.bool)
    invalid = made_outcomes(clean_correct, valid=torch.tensor([False] * 5 + [True]), distance=torch.full((6,), 0.01))
    assert named(RobustAccuracy(), invalid)["robust_accuracy"].value == 0.0
    assert named(AttackSuccess(), invalid)["attack_success_rate"].value == 1.0
    nothing = made_outcomes(clean_correct, valid=torch.zeros(6, dtype=torch.bool))
    robust = named(RobustAccuracy(), nothing)["robust_accuracy"]
    assert (robust.value, robust.low, robust.high) == (0.0, *wilson(0, 6))


def test_distances_of_ten_examples_by_hand() -> None:
    # validly attacked: 0.02, 0.05, 0.1, 0.3, 0.4 and two failures
    found = named(Distances(), by_hand())
    assert found["adversarial_found"].value == 5 / 7
    assert found["distance_linf_q25"].value == pytest.approx(0.075)
    assert found["distance_linf_median"].value == pytest.approx(0.3)
    assert found["distance_l2_median"].value == pytest.approx(0.6)
    assert found["distance_l0_median"].value == 30.0
    assert found["distance_linf_q75"].value is None  # between 0.4 and a failure
    assert found["distance_linf_median"].low == pytest.approx(0.02)  # the first of seven; the last is a failure
    assert found["distance_linf_median"].high is None


def test_an_attack_that_finds_nothing_has_no_median_distance() -> None:
    found = named(Distances(), made_outcomes(torch.ones(20, dtype=torch.bool)))
    assert found["adversarial_found"].value == 0.0
    assert {found[f"distance_{norm}_median"].value for norm in NORMS} == {None}


def test_quantiles_agree_with_numpy() -> None:
    values = torch.rand(37, generator=torch.Generator().manual_seed(0)).double().sort().values
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        assert quantile(values, share) == pytest.approx(np.quantile(values.numpy(), share), abs=1e-12)
    assert quantile(values[:0], 0.5) is None


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("n", [30, 101, 500])
def test_quantile_intervals_cover_at_95_percent(n: int, share: float) -> None:
    ranks = torch.arange(1, n + 1).double()
    low, high = quantile_interval(ranks, share)
    assert low is not None
    assert high is not None
    # the interval [x_(low), x_(high)) holds the quantile when low <= Binomial(n, share) <= high - 1
    coverage = binom.cdf(high - 1, n, share) - binom.cdf(low - 1, n, share)
    assert 0.95 <= coverage < 0.99
    assert low <= share * (n + 1) <= high


def test_a_small_sample_bounds_no_quantile() -> None:
    assert quantile_interval(torch.tensor([1.0, 2.0, 3.0]), 0.5) == (None, None)


def test_passes_of_ten_examples_by_hand() -> None:
    found = named(Passes(), by_hand())
    assert found["forwards_per_example"].value == 45.0  # 10, 20, 30, 40, 50, 60, 70, 80: the attacked ones alone
    assert found["forwards_per_example_median"].value == 45.0
    assert found["forwards_per_example_max"].value == 80.0
    assert found["backwards_per_example"].value == 22.5
    assert found["queries_per_broken_example"].value == pytest.approx((10 + 20 + 40) / 3)
    assert found["queries_per_broken_example_median"].value == 20.0
    assert found["queries_per_broken_example_max"].value == 40.0


@pytest.mark.parametrize("metric", ALL, ids=lambda m: type(m).__name__)
def test_shards_merge_to_the_whole(metric: Metric) -> None:
    outcomes = random_outcomes(203, seed=5)
    whole = metric.measure(outcomes)
    first: Any = metric.build()
    second: Any = metric.build()
    first.update(part(outcomes, 0, 90))
    second.update(part(outcomes, 90, 90))  # a worker that had nothing to do
    second.update(part(outcomes, 90, 203))
    assert second.compute() != whole
    first.merge_state(second)
    assert first.compute() == whole


@pytest.mark.parametrize("metric", ALL, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("n", [0, 1])
def test_few_examples_never_give_nan(metric: Metric, n: int) -> None:
    for m in metric.measure(random_outcomes(n, seed=0)):
        for number in (m.value, m.low, m.high):
            assert number is None or (type(number) is float and math.isfinite(number))
            assert n or number is None


@pytest.mark.parametrize("metric", ALL, ids=lambda m: type(m).__name__)
def test_measuring_twice_gives_the_same_and_leaves_outcomes_alone(metric: Metric) -> None:
    outcomes = random_outcomes(50, seed=1)
    before = {name: value.clone() for name, value in outcomes.tensors().items()}
    assert metric.measure(outcomes) == metric.measure(outcomes)
    assert all(torch.equal(value, before[name]) for name, value in outcomes.tensors().items())


def test_optimality_ratios_by_hand() -> None:
    far = torch.tensor([0.02, 0.05, 0.3, math.inf, 0.4, 0.1])
    outcomes = made_outcomes(torch.tensor([True, True, True, True, True, False]), distance=far)
    known = dataclasses.replace(outcomes, certified=torch.tensor([0.02, 0.04, 0.2, 0.1, 0.0, 0.1]))
    found = named(OptimalityGap(), known)
    # 1, 1.25, 1.5 and a failure; of one nothing is certified, and one is wrong already
    assert found["optimality_found"].value == 0.75
    assert found["optimality_ratio_least"].value == pytest.approx(1.0)
    assert found["optimality_ratio_median"].value == pytest.approx(1.375)
    assert found["optimality_ratio_mean"].value is None  # a failure is infinitely far
    three = named(OptimalityGap(), part(known, 0, 3))
    assert three["optimality_ratio_mean"].value == pytest.approx(1.25)
    assert three["optimality_ratio_mean"].high == pytest.approx(1.25 + 1.96 * 0.25 / 3**0.5, abs=1e-4)
    other = named(OptimalityGap(norm=Norm.l2), part(known, 0, 3))
    assert other["optimality_ratio_median"].value == pytest.approx(2.5)  # made outcomes are twice as far there


def test_nothing_certified_has_no_optimality() -> None:
    found = named(OptimalityGap(), by_hand())
    assert {m.value for m in found.values()} == {None}


def test_false_negatives_by_hand() -> None:
    """Of 30 examples each label has three; example 0 is wrong, 10 and 11 are broken, 21 is invalid, 12 is too far."""
    clean, valid, distance = torch.ones(30, dtype=torch.bool), torch.ones(30, dtype=torch.bool), torch.full((30,), 9.0)
    clean[0], valid[21] = False, False
    distance[[10, 11]] = 0.05
    outcomes = made_outcomes(clean, valid=valid, distance=distance)
    found = {name: m.value for name, m in named(FalseNegatives((0, 1, 2, 11)), outcomes).items()}
    missed = {
        name.removeprefix("clean_"): (found[f"clean_{name}"], found[name]) for name in found if "clean" not in name
    }
    assert missed == {
        "false_negative_rate_0": (1 / 3, 2 / 3),
        "false_negative_rate_1": (0.0, 2 / 3),
        "false_negative_rate_2": (0.0, 0.0),
        "false_negative_rate_11": (None, None),  # there is no example of it
    }
    rate = named(FalseNegatives(), outcomes)["false_negative_rate_1"]
    assert (rate.low, rate.high) == wilson(2, 3)
    assert rate.higher_is_better is False
    with pytest.raises(ConfigError, match=r"classes is \[1, 1\]; expected different numbers of classes"):
        FalseNegatives((1, 1))


@pytest.mark.parametrize("hits", [3, 7])
def test_the_mean_of_equal_values_is_not_known_exactly(hits: int) -> None:
    outcomes = dataclasses.replace(by_hand(), confidence=torch.full((10,), hits / 7))
    measured = named(Confidence(), outcomes)["attacked_confidence"]
    assert measured.value == pytest.approx(hits / 7)
    known = binomtest(hits, 7).proportion_ci(method="wilson")
    assert (measured.low, measured.high) == pytest.approx((known.low, known.high))
