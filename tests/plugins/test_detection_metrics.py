"""Detection, rejection and risk-coverage against closed forms, scikit-learn and counts by hand."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from benchmark_plugins.metrics._risk import expected_errors
from benchmark_plugins.metrics._roc import area, area_interval, true_positives_at
from benchmark_plugins.metrics.clean_accuracy import CleanAccuracy
from benchmark_plugins.metrics.detection import Detection
from benchmark_plugins.metrics.rejection import Rejection
from benchmark_plugins.metrics.risk_coverage import RiskCoverage
from benchmark_plugins.metrics.robust_accuracy import RobustAccuracy
from scipy.stats import binomtest, norm
from sklearn.metrics import roc_auc_score, roc_curve
from torch import Tensor

from benchmark.api import Measurement, Metric
from benchmark.records.outcomes import Outcomes
from tests.plugins._made_outcomes import made_outcomes, random_outcomes


def named(metric: Metric, outcomes: Outcomes) -> dict[str, Measurement]:
    return {m.name: m for m in metric.measure(outcomes)}


def normal_scores(count: int, shift: float = 0.0) -> Tensor:
    """(count,) float64: the quantiles of N(shift, 1) at (i - 1/2) / count, a sample without chance."""
    return torch.from_numpy(norm.ppf((torch.arange(count).double().numpy() + 0.5) / count)) + shift


CLOSED_FORMS = [
    (1.0, 0.760250, 0.259511, 0.092362),
    (2.0, 0.921350, 0.638760, 0.372081),
    (3.0, 0.983052, 0.912315, 0.749734),
]


@pytest.mark.parametrize(("shift", "auroc", "at5", "at1"), CLOSED_FORMS)
def test_shifted_normal_scores_have_the_closed_forms(shift: float, auroc: float, at5: float, at1: float) -> None:
    clean, attacked = normal_scores(20_000), normal_scores(20_000, shift)
    assert auroc == pytest.approx(norm.cdf(shift / math.sqrt(2)), abs=1e-6)
    assert area(clean, attacked) == pytest.approx(auroc, abs=1e-4)
    assert true_positives_at(clean, attacked, 0.05)[0] == pytest.approx(at5, abs=1e-3)
    assert true_positives_at(clean, attacked, 0.01)[0] == pytest.approx(at1, abs=1e-3)


def test_the_area_is_that_of_scikit_learn_with_ties() -> None:
    draw = torch.Generator().manual_seed(0)
    clean = torch.randint(0, 6, (300,), generator=draw).float()
    attacked = torch.randint(2, 9, (170,), generator=draw).float()
    labels = [0] * 300 + [1] * 170
    scores = torch.cat([clean, attacked])
    assert area(clean, attacked) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    for share in (0.01, 0.05, 0.3):
        assert true_positives_at(clean, attacked, share)[0] == pytest.approx(true[false <= share].max(), abs=1e-12)


def test_the_intervals_hold_the_truth_as_often_as_they_say() -> None:
    draw = torch.Generator().manual_seed(1)
    area_hits = point_hits = 0
    for _ in range(300):
        clean, attacked = torch.randn(120, generator=draw), torch.randn(80, generator=draw) + 1.0
        low, high = area_interval(clean, attacked)
        assert low is not None
        assert high is not None
        area_hits += low <= 0.760250 <= high
        _, low, high = true_positives_at(clean, attacked, 0.05)
        assert low is not None
        assert high is not None
        point_hits += low <= 0.259511 <= high
    assert 270 <= area_hits <= 297  # 95 % of 300 is 285, standard deviation 3.8
    assert point_hits >= 285  # two intervals at 97.5 % hold together with 95 % at least


def test_separated_scores_have_an_interval_too() -> None:
    assert area(torch.zeros(10), torch.ones(20)) == 1.0
    low, high = area_interval(torch.zeros(10), torch.ones(20))
    assert low == pytest.approx(0.7225, abs=1e-4)  # Wilson, 10 of 10
    assert high == 1.0
    assert area(torch.zeros(0), torch.ones(3)) is None


def test_equal_scores_have_an_interval_too() -> None:
    low, high = area_interval(torch.zeros(10), torch.zeros(20))
    interval = binomtest(5, 10).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((interval.low, interval.high))


def test_a_false_positive_rate_below_one_example_cannot_be_measured() -> None:
    assert true_positives_at(torch.zeros(99), torch.ones(9), 0.01) == (None, None, None)
    assert true_positives_at(torch.zeros(100), torch.ones(9), 0.01)[0] == 1.0


def with_detector(cell: Outcomes, clean: Tensor, adv: Tensor, deceived: Tensor) -> Outcomes:
    """The cell of a classifier whose detector gives these suspicions; deceived: where the classifier is wrong."""
    wrong = (cell.y + 1) % 10
    right = cell.clean_label == cell.y
    accepted = right & (clean <= 0)
    broken = accepted & deceived & (adv <= 0)
    return dataclasses.replace(
        cell,
        clean_label=torch.where(clean > 0, -1, cell.clean_label),
        clean_correct=accepted,
        attacked=accepted,
        adv_label=torch.where(adv > 0, -1, torch.where(deceived, wrong, cell.y)),
        adversarial=broken,
        broken=broken,
        clean_predicted=cell.clean_label,
        adv_predicted=torch.where(deceived, wrong, cell.y),
        clean_suspicion=clean,
        adv_suspicion=adv,
    )


def eight() -> Outcomes:
    """Eight examples by hand.

    0: accepted, right, and stays right. 1: deceived and refused. 2: deceived and accepted. 3: right, refused under
    attack. 4: deceived and refused. 5: refused on the clean input, though right. 6: wrong. 7: wrong and refused.
    """
    t, f = True, False
    cell = made_outcomes(torch.tensor([t, t, t, t, t, t, f, f]))
    clean = torch.tensor([-3.0, -2.0, -1.0, -2.5, -1.5, 1.0, -0.5, 2.0])
    adv = torch.tensor([-3.0, 1.0, -1.0, 0.5, 3.0, 1.0, -0.5, 2.0])
    return with_detector(cell, clean, adv, torch.tensor([f, t, t, f, t, f, t, t]))


def test_rejection_of_eight_examples_by_hand() -> None:
    found = {name: m.value for name, m in named(Rejection(), eight()).items()}
    assert found == {
        "clean_accuracy_with_rejection": 5 / 8,
        "clean_refused": 2 / 8,
        "robust_accuracy_with_rejection": 4 / 8,  # 0, 1, 3, 4
        "robust_accuracy_answered": 1 / 8,  # 0
        "robust_by_refusal": 3 / 8,  # 1, 3, 4
    }
    assert named(CleanAccuracy(), eight())["clean_accuracy"].value == found["clean_accuracy_with_rejection"]
    assert named(RobustAccuracy(), eight())["robust_accuracy"].value == found["robust_accuracy_with_rejection"]


def test_detection_of_eight_examples_by_hand() -> None:
    found = named(Detection(), eight())
    assert found["detection_rate"].value == 2 / 3  # deceived: 1, 2, 4; refused: 1, 4
    assert found["false_positive_rate"].value == 2 / 8
    # clean scores, sorted: -3, -2.5, -2, -1.5, -1, -0.5, 1, 2; attacked: 1 (6.5 below), -1 (4.5), 3 (8)
    assert found["detection_auroc"].value == pytest.approx((6.5 + 4.5 + 8) / 24)
    assert found["detection_rate_at_5_percent"].value is None


def test_risk_coverage_by_hand_and_at_full_coverage() -> None:
    found = named(RiskCoverage(), eight())
    # by suspicion: 0, 3, 1, 4, 2, 6 (wrong), 5, 7 (wrong)
    risks = [0, 0, 0, 0, 0, 1 / 6, 1 / 7, 2 / 8]
    assert found["clean_risk_area"].value == pytest.approx(sum(risks) / 8)
    assert found["clean_risk_at_80"].value == pytest.approx(1 / 7)
    assert found["clean_risk_at_100"].value == 2 / 8
    assert found["attacked_risk_at_100"].value == 5 / 8


def test_full_coverage_is_the_accuracy_without_a_detector() -> None:
    cell = random_outcomes(500, seed=2)
    draw = torch.Generator().manual_seed(5)
    clean, adv = torch.randn(500, generator=draw) - 5.0, torch.randn(500, generator=draw) - 5.0
    made = with_detector(cell, clean, adv, cell.broken)
    accuracy = named(CleanAccuracy(), cell)["clean_accuracy"].value
    assert accuracy is not None
    assert named(RiskCoverage(), made)["clean_risk_at_100"].value == pytest.approx(1.0 - accuracy)


def test_equally_suspicious_inputs_have_the_risk_of_a_random_order() -> None:
    suspicion = torch.tensor([2.0, 1.0, 1.0, 1.0, 0.0])
    wrong = torch.tensor([True, True, False, False, False])
    assert expected_errors(suspicion, wrong).tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1, 2])
    order = torch.tensor([3, 0, 4, 1, 2])
    assert torch.equal(expected_errors(suspicion[order], wrong[order]), expected_errors(suspicion, wrong))


@pytest.mark.parametrize("metric", [Detection(), RiskCoverage()])
def test_a_system_without_detectors_has_no_such_numbers(metric: Metric) -> None:
    found = named(metric, random_outcomes(50, seed=1))
    assert {m.value for m in found.values()} == {None}
