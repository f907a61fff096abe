"""The shipped suite over everything that is declared, and over planted faults."""

import dataclasses
import itertools
from typing import Any

import pytest

from benchmark import registry
from benchmark.api import Component
from benchmark.errors import PluginError
from benchmark.testing import contract, faults
from benchmark.testing.combinations import CLASSES, SHAPES, TRIED, combinations
from benchmark.threat import Access

SHORT: dict[str, dict[str, Any]] = {
    "attack.adaptive": {"passes": 25},
    "attack.adv_lib": {"args": {"steps": 3, "relative_step_size": 0.5, "random_init": False}},
    "attack.alma": {"steps": 150},
    "attack.apgd": {"steps": 60},
    "attack.autoattack": {"steps": 10, "queries": 60},
    "attack.generator": {"epochs": 4, "width": 8},
    "attack.rp2": {"steps": 10},
    "attack.substitute": {"rounds": 3, "epochs": 10},
    "attack.pyautoattack": {"args": {"n_iter": 2, "n_restarts": 1}},
}
"""Plugins whose defaults are a long search, and settings with which it ends within the query budget of the rules."""

DEFAULTS = dict.fromkeys(
    f"{kind}.{name}" for kind in registry.KINDS for name in registry.names(kind) if f"{kind}.{name}" not in SHORT
)

test_contract = contract.tests(*DEFAULTS)
test_contract_adaptive = contract.tests("attack.adaptive", **SHORT["attack.adaptive"])
test_contract_adv_lib = contract.tests("attack.adv_lib", **SHORT["attack.adv_lib"])
test_contract_pyautoattack = contract.tests("attack.pyautoattack", **SHORT["attack.pyautoattack"])
test_contract_generator = contract.tests("attack.generator", **SHORT["attack.generator"])
test_contract_rp2 = contract.tests("attack.rp2", **SHORT["attack.rp2"])
test_contract_substitute = contract.tests("attack.substitute", **SHORT["attack.substitute"])
test_contract_alma = contract.tests("attack.alma", **SHORT["attack.alma"])
test_contract_apgd = contract.tests("attack.apgd", **SHORT["attack.apgd"])
test_contract_autoattack = contract.tests("attack.autoattack", **SHORT["attack.autoattack"])


def test_every_short_plugin_has_its_tests() -> None:
    assert {f"test_contract_{name.removeprefix('attack.')}" for name in SHORT} < set(globals())


def failing(kind: str, plugin: Component) -> dict[str, str]:
    """The rules that fail, with their sentences."""
    failures = {}
    for rule in contract.rules(kind):
        try:
            rule(plugin)
        except contract.Inapplicable:
            continue
        except AssertionError as error:
            failures[rule.name] = str(error)
    return failures


@pytest.mark.parametrize("fault", faults.FAULTS, ids=str)
def test_a_planted_fault_is_caught_by_its_rule_and_by_no_other(fault: faults.Fault) -> None:
    failures = failing(fault.kind, fault.plugin)
    assert set(failures) == fault.caught_by, failures
    assert all(len(sentence) > 20 for sentence in failures.values())


@pytest.mark.parametrize(("kind", "plugin"), faults.SOUND, ids=lambda v: v if isinstance(v, str) else type(v).__name__)
def test_what_the_faults_are_made_from_is_sound(kind: str, plugin: Component) -> None:
    assert failing(kind, plugin) == {}


@pytest.mark.parametrize("kind", registry.KINDS)
def test_almost_every_rule_has_a_fault_that_it_catches(kind: str) -> None:
    caught = {rule for fault in faults.FAULTS for rule in fault.caught_by}
    without = {rule.name for rule in contract.rules(kind)} - caught
    assert without <= {
        "travels_to_workers",  # a plugin that cannot be pickled cannot be a module's frozen dataclass
        "refuses_what_it_does_not_support",  # asks benchmark.config about installed plugins alone
        "builds_a_classifier",
        "trains_to_finite_weights",
        "protects_with_logits",
        "has_a_usable_normalisation",
        "reads_in_any_order",
        "gives_valid_examples",
        "same_seed_same_poison",
    }


def test_each_two_of_any_values_are_tried_together() -> None:
    rows = [dataclasses.astuple(combination) for combination in combinations()]
    values = [set(column) for column in zip(*rows, strict=True)]
    every = (set(TRIED), set(SHAPES), set(CLASSES), set(range(len(Access))), {False, True}, {False, True})
    assert values == list(every)
    for one, other in itertools.combinations(range(len(every)), 2):
        together = {(row[one], row[other]) for row in rows}
        assert together == set(itertools.product(every[one], every[other]))


def test_there_is_one_case_per_plugin_and_rule() -> None:
    expected = sum(len(registry.names(kind)) * len(contract.rules(kind)) for kind in registry.KINDS)
    names = [str(case) for case in contract.cases()]
    assert len(names) == len(set(names)) == expected


def test_a_name_that_is_not_installed_is_refused_when_tests_are_collected() -> None:
    with pytest.raises(PluginError, match=r"no plugin named 'attack\.pdg'; \d+ of kind attack are installed\. Did you"):
        contract.tests("attack.pdg")


def test_settings_replace_defaults() -> None:
    case = next(c for c in contract.cases("attack.pgd", steps=0) if c.rule.name == "same_seed_same_result")
    with pytest.raises(contract.Inapplicable, match=r"attack\.pgd cannot be built from its defaults: .*steps is 0"):
        case.run()
