"""Detectors in whole runs: thresholds, scores in the outcomes, accounting of refusals, and what attackers see."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from benchmark_plugins.attacks._base.active import Active
from torch import Tensor, nn

from benchmark.api import Defense, Norm, Outcomes, Threat
from benchmark.data import DataSpec
from benchmark.records.outcomes import OUTCOMES
from benchmark.records.record import Record
from benchmark.records.store import Store
from benchmark.run import run
from benchmark.sampling import SampleRandom
from benchmark.stages.judge import answer, judge
from benchmark.system import Detector, System
from benchmark.system.target import Target
from tests.core.cells import plugin, small_config

METRICS = ("clean_accuracy", "robust_accuracy", "detection", "rejection", "risk_coverage")


def recorded(root: Path, *defenses: Defense, aware: bool) -> tuple[Record, Outcomes]:
    config = small_config(
        root,
        defenses=defenses,
        metrics=tuple(plugin("metric", name) for name in METRICS),
        examples=60,
    )
    config = dataclasses.replace(config, threat=dataclasses.replace(config.threat, aware=aware))
    cell = run(config)
    assert cell.status == "complete", cell.error
    store = Store(Path(config.store.root))
    record = store.record(cell.key)
    assert record is not None
    return record, Outcomes.load(store.cell(cell.key) / OUTCOMES)


def test_a_run_keeps_the_scores_and_says_what_they_were_fitted_on(tmp_path: Path) -> None:
    record, outcomes = recorded(
        tmp_path, plugin("defense", "mahalanobis", attack=plugin("attack", "fgsm")), aware=False
    )
    assert record.fitted_on == {"mahalanobis": []}
    assert outcomes.clean_suspicion is not None
    assert outcomes.adv_suspicion is not None
    assert outcomes.clean_predicted is not None
    refused = outcomes.clean_suspicion > 0
    assert torch.equal(outcomes.clean_label, torch.where(refused, -1, outcomes.clean_predicted))
    assert torch.equal(outcomes.attacked, outcomes.clean_correct)
    assert not (outcomes.clean_correct & refused).any()
    untouched = ~outcomes.attacked
    assert torch.equal(outcomes.adv_suspicion[untouched], outcomes.clean_suspicion[untouched])
    safe = outcomes.clean_correct & ((outcomes.adv_suspicion > 0) | (outcomes.adv_predicted == outcomes.y))
    assert torch.equal(outcomes.robust, safe)
    values = {m.name: m.value for m in record.metrics}
    assert values["robust_accuracy"] == values["robust_accuracy_with_rejection"] == float(safe.double().mean())
    assert values["false_positive_rate"] == pytest.approx(float(refused.float().mean()))
    assert values["detection_auroc"] is not None


def test_a_detector_fitted_on_an_attack_is_known_by_it(tmp_path: Path) -> None:
    seen = plugin("defense", "detector_network", attack=plugin("attack", "fgsm"))
    record, _ = recorded(tmp_path, seen, plugin("defense", "max_softmax"), aware=True)
    assert record.fitted_on == {"detector_network": ["fgsm"], "max_softmax": []}
    card = Store(tmp_path / "results").card(record.system.key)
    assert card is not None
    assert card.fitted_on == record.fitted_on
    assert set(card.thresholds) == {"detector_network", "max_softmax"}


# --- a linear classifier and a linear detector, in closed form ---


class Linear(nn.Module):
    """Label 1 where the first feature is above a half."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([0.5 - x[:, 0], x[:, 0] - 0.5], 1)


@dataclasses.dataclass(frozen=True)
class Sum(Defense):
    """Suspects inputs whose features sum to more than a threshold; `rounded` hides the gradient."""

    detects = True
    rounded: bool = False
    surrogate: bool = False

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        return x.sum(1).mul(64).round().div(64) if self.rounded else x.sum(1)

    def suspicion_surrogate(self, model: nn.Module, x: Tensor) -> Tensor | None:
        return x.sum(1) if self.surrogate else None


def linear(**settings: bool) -> System:
    """The sum may be 1 at most; clean inputs (0.4, 0.5) have 0.9, and 0.1 of it is left for an attack."""
    defense = Sum(**settings)
    return System(Linear(), DataSpec((2,), 2), (defense,), (Detector(defense, 1.0, 1.0),))


X, Y = torch.tensor([[0.4, 0.5]]), torch.tensor([0])


def attacked(system: System, *, aware: bool) -> Tensor:
    """Two hundred steps of 0.01 along the sign of the gradient of the margin, in a ball of 0.2."""
    rng = SampleRandom(0, torch.tensor([0]))
    target = Target(system, rng=rng, classes=2, detectors=system.detectors if aware else ())
    x_adv = X.clone()
    for _ in range(200):
        gradient, _, _ = target.gradient(x_adv, lambda logits: (0.25 * (logits[:, 1] - logits[:, 0])).clamp(max=0.05))
        x_adv = (x_adv + 0.01 * gradient.sign()).clamp(X - 0.2, X + 0.2)
    return x_adv


@pytest.mark.parametrize("settings", [{}, {"rounded": True, "surrogate": True}])
def test_the_aware_attack_evades_a_detector_that_catches_the_oblivious_one(settings: dict[str, bool]) -> None:
    system, rng = linear(**settings), SampleRandom(0, torch.tensor([0]))
    oblivious = attacked(system, aware=False)
    assert system.model(oblivious).argmax(1).item() == 1
    assert system.rejects(oblivious, rng).item()
    aware = attacked(system, aware=True)
    label = answer(system, aware, Y, rng).label
    assert label.item() == 1, aware  # wrong and accepted: the optimum moves weight from the second feature
    assert aware[0, 1] < 0.5


def test_a_loss_to_descend_has_the_detectors_excess_added() -> None:
    system, rng = linear(), SampleRandom(0, torch.tensor([0]))
    target = Target(system, rng=rng, classes=2, detectors=system.detectors)
    active = Active.unbounded(target, X, Y, Threat(norm=Norm.l2, eps=Fraction(1)), rng)
    beyond = torch.tensor([[0.6, 0.7]])  # its sum exceeds the threshold by 0.3
    for sign, ask in ((1.0, active.gradient), (-1.0, active.descent)):
        gradient, value, _ = ask(beyond, lambda logits, _: 2.0 * logits[:, 1])
        assert torch.allclose(gradient, torch.tensor([[2.0 - sign, 0.0 - sign]]))
        assert torch.allclose(value, torch.tensor([0.2 - sign * 0.3]))


@pytest.mark.parametrize("name", ["carlini_wagner", "ead", "lbfgs", "gradient_descent"])
def test_a_minimal_attack_is_not_driven_into_a_detector(name: str) -> None:
    """The detector forbids the first feature to grow alone; what is kept lies where its excess is no larger."""
    system, rng = linear(), SampleRandom(0, torch.tensor([0]))
    found = {}
    for aware in (True, False):
        target = Target(system, rng=rng, classes=2, detectors=system.detectors if aware else ())
        start = torch.tensor([[0.4, 0.58]])
        threat = Threat(norm=Norm.l2, eps=Fraction(1))
        found[aware] = plugin("attack", name).perturb(target, start, Y, threat=threat, rng=rng)
    assert found[True].sum() <= found[False].sum() + 1e-4


def test_a_rounded_score_without_a_surrogate_hides_its_gradient() -> None:
    aware = attacked(linear(rounded=True), aware=True)
    assert aware[0, 1] == 0.5


def test_refused_is_safe_and_never_adversarial() -> None:
    system, rng = linear(), SampleRandom(0, torch.tensor([0, 1, 2]))
    clean = X.repeat(3, 1)
    candidates = torch.tensor([[0.55, 0.5], [0.55, 0.4], [0.45, 0.5]])  # refused, accepted and wrong, right
    ball = Threat(eps=Fraction(1, 5)).around(clean, rng)
    verdict = judge(system, ball, candidates, Y.repeat(3), None, rng, minimal=False, bounded=True)
    assert verdict.label.tolist() == [-1, 1, 0]
    assert verdict.predicted.tolist() == [1, 1, 0]
    assert verdict.adversarial.tolist() == [False, True, False]
    assert verdict.suspicion is not None
    assert (verdict.suspicion > 0).tolist() == [True, False, False]


def test_a_score_that_is_no_number_is_refused() -> None:
    system, rng = linear(), SampleRandom(0, torch.tensor([0]))
    assert system.rejects(torch.tensor([[0.4, torch.nan]]), rng).item()
