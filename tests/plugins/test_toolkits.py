"""Bridges to other toolkits: methods by name, passes charged, budgets kept, verdicts the core's."""

from __future__ import annotations

import importlib.util
import inspect
from fractions import Fraction
from typing import Any

import pytest
import torch

from benchmark import registry
from benchmark.api import Access, Goal, Norm, Threat
from benchmark.config.check import check_attack
from benchmark.errors import AttackFault, ConfigError, Refused
from benchmark.testing.trials import attempt
from benchmark.testing.worlds import threat_of, world

TOOLKITS = {
    "foolbox": "foolbox", "art": "art", "cleverhans": "cleverhans", "torchattacks": "torchattacks",
    "adv_lib": "adv_lib", "pyautoattack": "pyautoattack",
}  # fmt: skip
ONE_STEP = {
    "foolbox": "FGSM", "art": "FastGradientMethod", "cleverhans": "fast_gradient_method", "torchattacks": "FGSM",
}  # fmt: skip


def bridge(name: str, method: str = "", **settings: Any) -> Any:
    if importlib.util.find_spec(TOOLKITS[name]) is None:
        pytest.skip(f"{name} is not installed")
    cls: Any = registry.load("attack", name)
    return cls(**({"method": method} if method else {}), **settings)


@pytest.mark.parametrize("name", ONE_STEP)
def test_one_step_of_the_gradients_sign_is_the_native_one(name: str) -> None:
    threat, here = threat_of(Norm.linf), world()
    native: Any = registry.load("attack", "fgsm")
    ours, theirs = attempt(native(), here, threat), attempt(bridge(name, ONE_STEP[name]), here, threat)
    assert torch.allclose(ours.x_adv, theirs.x_adv, atol=1e-6)
    assert (theirs.ledger.backwards >= 1).all()


@pytest.mark.parametrize("name", TOOLKITS)
def test_every_attack_of_the_installed_toolkit_is_offered_or_left_out_with_a_reason(name: str) -> None:
    cls: Any = type(bridge(name))
    left_out = getattr(inspect.getmodule(cls), "LEFT_OUT", {})
    assert set(cls.offered()) == set(cls.known)
    assert all(len(reason) > 20 for reason in left_out.values())
    there = {
        "foolbox": lambda: _classes("foolbox.attacks", "Attack"),
        "art": lambda: _classes("art.attacks.evasion", "EvasionAttack"),
        "torchattacks": lambda: _classes("torchattacks", "Attack"),
    }
    if name in there:
        assert there[name]() == set(cls.known) | set(left_out)


def _classes(module: str, base: str) -> set[str]:
    """Names of the concrete classes in a module whose bases have that name."""
    found = vars(importlib.import_module(module)).items()
    kinds = {n: c for n, c in found if inspect.isclass(c) and not inspect.isabstract(c)}
    return {n for n, c in kinds.items() if base in {b.__name__ for b in c.__mro__[1:]}}


def test_settings_are_checked_against_the_toolkits_signature() -> None:
    assert bridge("foolbox", "LinfPGD", args={"steps": 3}).version
    with pytest.raises(ConfigError, match=r"attack\.args\.stepz is no parameter of foolbox's LinfPGD; it has .*steps"):
        bridge("foolbox", "LinfPGD", args={"stepz": 3})
    with pytest.raises(ConfigError, match=r"attack\.method is 'LinfPGDD'; .*did you mean LinfPGD"):
        bridge("foolbox", "LinfPGDD")
    with pytest.raises(ConfigError, match=r"attack\.args\.eps is set by the bridge, from the threat"):
        bridge("torchattacks", "PGD", args={"eps": 0.3})
    with pytest.raises(ConfigError, match=r"attack\.version is 1\.0, and foolbox .* is installed"):
        bridge("foolbox", version="1.0")


def test_a_missing_toolkit_is_one_sentence_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cls: Any = registry.load("attack", "foolbox")
    monkeypatch.setattr(cls, "package", "foolbox_that_is_not_there")
    with pytest.raises(ConfigError, match=r"needs foolbox, which is not installed: pip install 'adversarial-benchmark"):
        cls()
    assert cls.offers() == ("foolbox is not installed: pip install 'adversarial-benchmark[foolbox]'",)


def test_an_attack_by_gradients_is_refused_where_the_attacker_has_scores() -> None:
    scores = Threat(access=Access.scores)
    with pytest.raises(Refused, match=r"attack\.foolbox needs gradients, but threat\.access is scores"):
        check_attack(bridge("foolbox", "LinfPGD"), scores)
    check_attack(bridge("torchattacks", "Square"), scores)
    with pytest.raises(Refused, match="perturbs under l2"):
        check_attack(bridge("foolbox", "DDNAttack"), scores)


def test_a_decision_attack_gets_labels_alone_and_its_passes_are_charged() -> None:
    attack = bridge("foolbox", "HopSkipJumpAttack", args={"steps": 2, "initial_gradient_eval_steps": 10})
    run = attempt(attack, world(), threat_of(Norm.l2, access=Access.labels))
    assert (run.ledger.forwards[:-1] > 20).all()
    assert not run.ledger.backwards.any()
    said = run.here.system(run.x_adv).argmax(1)
    assert (said[:-1] != run.here.y[:-1]).all()


def test_where_the_budget_ends_first_the_nearest_success_asked_about_is_handed_in() -> None:
    attack = bridge("foolbox", "L2CarliniWagnerAttack", args={"steps": 50, "binary_search_steps": 2, "stepsize": 0.05})
    run = attempt(attack, world(), threat_of(Norm.l2, queries=30))
    assert (run.ledger.forwards <= 30).all()
    assert (run.here.system(run.x_adv).argmax(1) != run.here.y).sum() >= 3


def test_what_a_toolkit_returns_can_be_judged_as_it_is() -> None:
    threat = threat_of(Norm.l0, access=Access.scores)
    run = attempt(bridge("torchattacks", "Pixle", project=False, args={"restarts": 1}), world(), threat)
    assert (run.threat.around(run.here.x, run.here.rng()).audit(run.x_adv).excess > 0).any()


def test_the_region_is_kept_by_toolkits_that_know_of_none() -> None:
    from benchmark.threat import Region, RegionKind

    threat = threat_of(Norm.linf, region=Region(RegionKind.square, 3), eps=Fraction(1, 2))
    run = attempt(bridge("foolbox", "LinfPGD", args={"steps": 5}), world(), threat)
    audit = run.threat.around(run.here.x, run.here.rng()).audit(run.x_adv)
    assert not audit.outside_region.any()
    assert (run.x_adv != run.here.x).any()


def test_a_toolkit_that_fails_is_named_with_its_own_words() -> None:
    with pytest.raises(AttackFault, match=r"foolbox's LinfPGD failed on an example of shape \(3, 6, 6\): TypeError"):
        attempt(bridge("foolbox", "LinfPGD", args={"steps": "many"}), world(), threat_of(Norm.linf))


def test_a_method_that_only_reaches_labels_refuses_to_leave_one() -> None:
    attack = bridge("foolbox", "GenAttack", args={"steps": 2})
    with pytest.raises(Refused, match=r"GenAttack reaches given labels, and threat\.goal is untargeted"):
        attempt(attack, world(), threat_of(Norm.linf, access=Access.scores))
    attempt(attack, world(), threat_of(Norm.linf, access=Access.scores, goal=Goal.next_class))


def test_what_is_offered_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmark.commands.plugins import main

    bridge("cleverhans")
    assert main("attack.cleverhans", None, as_json=False) == 0
    assert "projected_gradient_descent  linf l2, gradients, targeted" in capsys.readouterr().out
