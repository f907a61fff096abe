"""The standing checks: each fires where it should, says why, and is silent on a healthy evaluation."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from benchmark.api import Access, Attack, Certifier, Defense, Model, SampleRandom, Supports, System, Target
from benchmark.data import DataSpec
from benchmark.errors import RecordError
from benchmark.records.findings import across, sign_test
from benchmark.records.record import Finding, Record
from benchmark.records.store import Store
from benchmark.run import run
from benchmark.sampling import ambient
from benchmark.stages.proof import prove
from benchmark.stages.proved import Proof
from benchmark.stages.slopes import Probe, of_slopes
from benchmark.system import Detector
from benchmark.threat import Region, RegionKind, Threat, parse_eps
from tests.core.cells import declared, plugin, small_config


def _findings(root: Path, **changes: Any) -> list[Finding]:
    result = run(small_config(root, **changes))
    record = Store(root / "results").record(result.key)
    assert record is not None
    assert record.status == "complete", record.error
    return record.findings


class _Head(nn.Module):
    """A linear classifier with something wrong behind it."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.linear(x.flatten(1))
        if self.fault == "probabilities":
            return z.softmax(1)
        if self.fault == "flat" and not self.training:
            return (z * 100).round() / 100 + 0 * z.detach()
        if self.fault == "nan" and z.requires_grad and not self.training:
            z.register_hook(lambda grad: grad * torch.nan)
        return z


@dataclasses.dataclass(frozen=True)
class Faulty(Model):
    fault: str = "none"

    def build(self, spec: DataSpec) -> nn.Module:
        return _Head(self.fault)


@pytest.mark.parametrize(
    ("fault", "finding", "severity"),
    [
        ("probabilities", "probabilities_for_logits", "warning"),
        ("flat", "zero_gradients", "warning"),
        ("nan", "non_finite_gradients", "error"),
    ],
)
def test_a_faulty_model_is_found_out(tmp_path: Path, fault: str, finding: str, severity: str) -> None:
    with declared(("model", Faulty)):
        found = _findings(tmp_path, model=Faulty(fault))
    assert (finding, severity) in [(f.name, f.severity) for f in found]


def test_a_healthy_evaluation_has_no_findings(tmp_path: Path) -> None:
    with declared(("model", Faulty)):
        assert _findings(tmp_path, model=Faulty()) == []


@dataclasses.dataclass(frozen=True)
class Claims(Certifier):
    """Gives one radius to everything."""

    supports: ClassVar[Supports] = Supports()
    radius: str = "1"

    def certify(self, system: System, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        return torch.full((len(x),), float(self.radius))


def test_a_certificate_that_an_attack_crosses_is_named(tmp_path: Path) -> None:
    with declared(("model", Faulty), ("certifier", Claims)):
        found = _findings(tmp_path, model=Faulty(), certifiers=(Claims(),))
        assert [(f.name, f.severity) for f in found] == [("certified_yet_adversarial", "error")]
        assert re.match(r"\d+ examples have an adversarial candidate nearer than their", found[0].evidence)
        for harmless in ("0.0001", "inf", "nan"):  # an infinite radius is no number, and proves nothing
            assert _findings(tmp_path / harmless, model=Faulty(), certifiers=(Claims(harmless),)) == []


@dataclasses.dataclass(frozen=True)
class Noisy(Defense):
    randomized = True

    def protect(self, model: nn.Module) -> nn.Module:
        return _Noise(model)


class _Noise(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x + 0.1 * ambient().normal(*x.shape[1:], stream="noise"))
        return logits


@dataclasses.dataclass(frozen=True)
class SecretlyNoisy(Noisy):
    randomized = False


@pytest.mark.parametrize(
    ("defense", "finding"), [(Noisy, "randomized_outputs"), (SecretlyNoisy, "undeclared_randomness")]
)
def test_random_outputs_are_named(tmp_path: Path, defense: type[Any], finding: str) -> None:
    with declared(("defense", defense)):
        assert finding in [f.name for f in _findings(tmp_path, defenses=(defense(),))]


@dataclasses.dataclass(frozen=True)
class Descends(Defense):
    """Takes a gradient step on the input before it is classified."""

    optimizes = True

    def protect(self, model: nn.Module) -> nn.Module:
        return _Descent(model)

    def passes(self, below: int) -> int:
        return 2 * below


class _Descent(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = x.detach().clone().requires_grad_(True)
            (grad,) = torch.autograd.grad(self.model(leaf).square().sum(), leaf)
        logits: Tensor = self.model(x - 0.01 * grad)
        return logits


@dataclasses.dataclass(frozen=True)
class SecretlyDescends(Descends):
    optimizes = False


@pytest.mark.parametrize(
    ("defense", "finding", "evidence"),
    [
        (Descends, "optimizing_inference", "one pass of it counts as 2 passes"),
        (SecretlyDescends, "undeclared_optimization", "no defense declares optimizes=True"),
    ],
)
def test_optimization_inside_inference_is_named(
    tmp_path: Path, defense: type[Any], finding: str, evidence: str
) -> None:
    with declared(("defense", defense)):
        (found,) = _findings(tmp_path, defenses=(defense(),))
    assert found.name == finding
    assert evidence in found.evidence


@dataclasses.dataclass(frozen=True)
class ShowsAnother(Defense):
    """Answers with the negative logits where no gradient is asked for, at any scale and offset."""

    scale: float = 1.0
    offset: float = 0.0

    def protect(self, model: nn.Module) -> nn.Module:
        return _TwoFaced(model, self.scale, self.offset)


class _TwoFaced(nn.Module):
    def __init__(self, model: nn.Module, scale: float, offset: float) -> None:
        super().__init__()
        self.model, self.scale, self.offset = model, scale, offset

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x) * self.scale
        return (logits if torch.is_grad_enabled() else -logits) + self.offset


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e-6, 0.0), (1.0, 100.0)])
def test_a_surrogate_with_another_forward_is_named(tmp_path: Path, scale: float, offset: float) -> None:
    with declared(("defense", ShowsAnother)):
        (found,) = [
            each
            for each in _findings(tmp_path, defenses=(ShowsAnother(scale, offset),))
            if each.name != "scores_nearly_equal"
        ]
    assert (found.name, found.severity) == ("surrogate_differs", "error")
    assert "gives other scores than one without for 8 of 8 examples" in found.evidence


def test_what_the_fitting_left_on_the_card_is_a_finding_of_a_name_that_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(tmp_path)
    run(dataclasses.replace(config, attack=plugin("attack", "none")))
    path = Store(tmp_path / "results").system(config.system_key()) / "card.json"
    few, fell = "a detector's threshold comes from 3 clean select examples", "catastrophic overfitting: it fell"
    path.write_text(json.dumps({**json.loads(path.read_text()), "warnings": [few, fell], "sha256": ""}))
    monkeypatch.setattr("benchmark.stages.warm._WARM", {})
    found = {finding.evidence: finding.name for finding in _findings(tmp_path)}
    assert found == {few: "fitted_with_a_warning", fell: "catastrophic_overfitting"}


def test_a_system_that_is_not_what_its_card_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config(tmp_path)
    run(dataclasses.replace(config, attack=plugin("attack", "none")))
    path = Store(tmp_path / "results").system(config.system_key()) / "card.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps({**card, "test_correct": card["test_correct"] - 40, "sha256": ""}))
    monkeypatch.setattr("benchmark.stages.warm._WARM", {})
    (finding,) = _findings(tmp_path)
    assert finding.name == "contradicts_card"
    assert f"its card says {card['test_correct'] - 40} of 500" in finding.evidence


def test_an_implausible_radius_is_named(tmp_path: Path) -> None:
    found = _findings(tmp_path, threat=Threat(eps=parse_eps("1/2")))
    assert [f.name for f in found] == ["implausible_radius"]
    border = Threat(eps=parse_eps("1/2"), region=Region(RegionKind.border, 1))
    assert _findings(tmp_path, threat=border) == []  # what is inside the frame stays


def test_a_step_past_the_boundary_between_two_classes_does_not_mislead() -> None:
    """A steep line between two classes: a step of 0.02 makes the system sure of the other one."""
    line = nn.Linear(4, 2, bias=False)
    line.weight.data = torch.tensor([[50.0, -50.0, 50.0, -50.0], [-50.0, 50.0, -50.0, 50.0]])
    x = torch.full((8, 4), 0.5) + torch.linspace(-0.005, 0.005, 8)[:, None] * torch.tensor([1.0, 0.0, 0.0, 0.0])
    system, rng = System(line, DataSpec((4,), 2)), SampleRandom(0, torch.arange(8))
    assert list(of_slopes(system, Probe(x, rng), system.logits(x, rng), follow=True)) == []


@dataclasses.dataclass(frozen=True)
class _Stairs(Defense):
    """Detector whose score is a step function of the input, with or without something for attackers to follow."""

    detects: ClassVar[bool] = True

    surrogate: Callable[[Tensor], Tensor] | None = None

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        return (10 * x).floor().sum(1)

    def suspicion_surrogate(self, model: nn.Module, x: Tensor) -> Tensor | None:
        return None if self.surrogate is None else self.surrogate(x)


@pytest.mark.parametrize(
    ("surrogate", "masked"),
    [(None, True), (lambda x: (10 * x).sum(1), False), (lambda x: 0.0 * x.sum(1), True)],
)
def test_a_detector_without_a_gradient_is_named_unless_its_surrogate_has_one(
    surrogate: Callable[[Tensor], Tensor] | None, masked: bool
) -> None:
    stairs = _Stairs(surrogate)
    system = System(nn.Linear(4, 3), DataSpec((4,), 3), (stairs,), (Detector(stairs, 1.0, 1.0),))
    x, rng = torch.rand(8, 4, generator=torch.Generator().manual_seed(0)), SampleRandom(0, torch.arange(8))
    found = [finding.name for finding in of_slopes(system, Probe(x, rng), system.logits(x, rng), follow=True)]
    assert ("detector_gradient_masked" in found) is masked


def _altered(record: Record, eps: str, robust: int, attack: str) -> Record:
    assert record.counts is not None
    return record.model_copy(
        update={
            "key": f"{attack}-{eps}-{robust}",
            "threat": record.threat.model_copy(update={"eps": float(parse_eps(eps)), "eps_exact": eps}),
            "counts": record.counts.model_copy(update={"robust_correct": robust}),
            "attack": record.attack.model_copy(update={"name": attack, "params": {}}),
        }
    )


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    root = tmp_path_factory.mktemp("cell")
    found = Store(root / "results").record(run(small_config(root)).key)
    assert found is not None
    return found


def test_accuracy_that_rises_with_eps_is_found_across_cells(record: Record) -> None:
    falling = [_altered(record, "1/20", 300, "pgd"), _altered(record, "1/10", 200, "pgd")]
    assert across(falling) == []
    (finding,) = across([_altered(record, "1/20", 300, "pgd"), _altered(record, "1/10", 301, "pgd")])
    assert finding.name == "accuracy_rises_with_eps"
    assert "leaves 301 of 500 right at eps 1/10 and 300 at 1/20" in finding.evidence


def test_noise_that_beats_an_attack_is_found_across_cells(record: Record) -> None:
    noise = _altered(record, "1/10", 250, "noise")
    assert across([noise, _altered(record, "1/10", 250, "pgd")]) == []
    (finding,) = across([noise, _altered(record, "1/10", 251, "pgd")])
    assert finding.name == "noise_beats_attack"
    assert across([noise, _altered(record, "1/20", 300, "pgd")]) == []  # another radius is no comparison
    fog = _altered(record, "1/10", 251, "corruption")
    assert across([noise, fog.model_copy(update={"attack": fog.attack.model_copy(update={"bounded": False})})]) == []


def test_a_system_that_was_trained_to_resist_one_step_alone_is_found_across_cells(record: Record) -> None:
    def cells(robust: int, *defenses: str) -> list[Record]:
        both = [_altered(record, "1/10", 201, "fgsm"), _altered(record, "1/10", robust, "pgd")]
        return [r.model_copy(update={"system": r.system.model_copy(update={"defenses": list(defenses)})}) for r in both]

    assert across(cells(101, "free_adversarial_training")) == []
    (finding,) = across(cells(100, "jpeg", "free_adversarial_training"))
    assert finding.name == "catastrophic_overfitting"
    assert "fgsm leaves 201 of 500 right and pgd 100, less than half" in finding.evidence
    assert across(cells(0, "jpeg")) == []


def test_an_aware_attack_that_is_weaker_than_the_oblivious_one_is_found_across_cells(record: Record) -> None:
    """McNemar's exact test: 8 discordant examples of 8 give 1/256, 7 of 8 give 9/256."""
    aware = _altered(record, "1/10", 300, "pgd").model_copy(update={"key": "aware"})
    threat = aware.threat.model_copy(update={"aware": False})
    oblivious = aware.model_copy(update={"key": "oblivious", "threat": threat, "suite": "another@1"})
    assert sign_test(8, 0) == 1 / 256
    assert sign_test(7, 1) == 9 / 256

    def broken(more: int, fewer: int) -> Callable[[Record], list[bool]]:
        alone = {"aware": [False] * more + [True] * fewer, "oblivious": [True] * more + [False] * fewer}
        return lambda record: alone[record.key] + [True] * 20

    (finding,) = across([aware, oblivious], broken(8, 0))
    assert finding.name == "aware_weaker_than_oblivious"
    assert "pgd breaks 8 examples only without knowledge of the defense and 0 only with it" in finding.evidence
    assert across([aware, oblivious], broken(7, 1)) == []
    assert across([aware, oblivious], broken(0, 8)) == []
    assert across([aware, oblivious], lambda record: None) == []
    assert across([aware], broken(8, 0)) == []


@dataclasses.dataclass(frozen=True)
class Idle(Attack):
    """Asks `asked` times about the clean input and finds nothing, but for the labels below `found`."""

    supports: ClassVar[Supports] = Supports(access=Access.labels, minimal=True)
    asked: int = 3
    found: int = 0

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        for _ in range(self.asked):
            target.labels(x)
        easy = (y < self.found).reshape(-1, *([1] * (x.ndim - 1)))
        return torch.where(easy, 1 - x, x)


@pytest.mark.parametrize(
    ("attack", "queries", "left", "named"),
    [
        (Idle(), None, None, True),
        (Idle(), 100, 97, True),
        (Idle(), 5, 2, False),
        (Idle(), 3, None, False),
        (Idle(found=9), 100, 97, True),
    ],
)
def test_whole_classes_that_were_given_up_are_named(
    tmp_path: Path, attack: Idle, queries: int | None, left: int | None, named: bool
) -> None:
    with declared(("attack", Idle)):
        result = run(small_config(tmp_path, attack=attack, threat=Threat(eps=parse_eps("1"), queries=queries)))
    record = Store(tmp_path / "results").record(result.key)
    assert record is not None
    assert record.status == "complete", record.error
    assert (record.given_up is not None) == (queries != 3)
    if record.given_up is not None:
        assert record.given_up.asked == 3 * record.given_up.examples
        assert record.given_up.left == (None if left is None else left * record.given_up.examples)
    said = [f.evidence for f in record.findings if f.name == "classes_given_up"]
    assert bool(said) == named, record.findings
    if said and not attack.found:
        assert "of the classes 0, 1, 2" in said[0]
        assert ("at any distance" if queries is None else "queries left") in said[0]


@dataclasses.dataclass(frozen=True)
class Sociable(Attack):
    """Breaks what it can in a batch of more than 40, and nothing in a smaller one."""

    supports: ClassVar[Supports] = Supports(access=Access.labels)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        return 1 - x if len(x) > 40 else x


def test_a_finding_that_was_deleted_is_a_forgery_where_it_can_be_made_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")

    def proved(record: Record, again: int) -> Proof:
        return prove(store.cell(record.key), record, store, tmp_path / "data", again=again)

    with declared(("attack", Sociable)):
        result = run(small_config(tmp_path, attack=Sociable(), threat=Threat(eps=parse_eps("1")), examples=60))
        record = store.record(result.key)
        assert record is not None
        assert [f.name for f in record.findings if f.severity == "error"] == ["attack_depends_on_batch"]
        assert "which was made while the attack ran" in str(proved(record, 0))
        assert "since the attack depends on its batch, as the record says" in str(proved(record, 4))
        kept = [f for f in record.findings if f.name != "attack_depends_on_batch"]
        with pytest.raises(RecordError, match=r"the finding attack_depends_on_batch \(error\) is missing"):
            proved(record.model_copy(update={"findings": kept}), 4)
