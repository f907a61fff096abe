"""The suites of attacks have what the catalogue has."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf

from benchmark import registry
from benchmark.tasks.task import CLASSIFICATION
from tests.house.checkout import ROOT


def attacks(suite: str) -> list[str]:
    """The plugins that a suite's attacks are, variants by the plugin that they are made of; repeats are kept."""
    config: Any = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "suite" / f"{suite}.yaml"))
    names = str(config["hydra"]["sweeper"]["params"]["attack"]).split(",")
    files = {name: ROOT / "conf" / "attack" / f"{name}.yaml" for name in names}
    made: Any = {name: OmegaConf.to_container(OmegaConf.load(file)) for name, file in files.items() if file.is_file()}
    return [str(made[name]["defaults"][0]) if name in made else name for name in names]


def test_every_attack_is_in_the_suite_of_attacks() -> None:
    named = attacks("attacks_digits")
    bridges = {"adv_lib", "art", "cleverhans", "foolbox", "pyautoattack", "torchattacks"}
    assert bridges < set(attacks("toolkits_digits"))
    dense = {name for name in registry.names("attack") if CLASSIFICATION not in registry.load("attack", name).tasks}
    assert dense <= {*attacks("segmentation_digits"), *attacks("detection_digits")}
    assert set(named) == set(registry.names("attack")) - {"none", "cascade", "adaptive", "trigger"} - bridges - dense
    # A cascade and the adaptive search are made of attacks that are there, and a trigger needs a poisoned system.
    assert [name for name in named if named.count(name) > 1] == ["carlini_wagner"] * 2  # with a tenth of its steps too


def test_every_attack_that_looks_for_the_smallest_perturbation_is_in_the_suite_of_exact_distances() -> None:
    supports = {name: registry.load("attack", name).supports for name in registry.names("attack")}  # type: ignore[attr-defined]
    assert {name for name, can in supports.items() if can.minimal} <= set(attacks("oracle"))
