"""Suites: the protocol that they fix, and the freedom that they leave to whoever enters a system."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module

from benchmark.records.record import Record
from benchmark.sweep import app
from benchmark.sweep.suites import departure, official


def is_official(*overrides: str) -> bool:
    """True if a job of the quickstart with these overrides is official."""
    app.register()
    with initialize_config_module("benchmark.conf", version_base="1.3"):
        suite = compose("run", ["suite=quickstart"], return_hydra_config=True)
    return official(["suite=quickstart", *overrides], suite.hydra)


@pytest.mark.parametrize(
    "override",
    [
        "model=linear", "model.width=3", "defense=[jpeg]", "+defense.jpeg.quality=50", "~defense", "poison=[badnets]",
        "training.epochs=1", "system.init_from=x", "certifier=[exact]", "attack=pgd", "threat.eps=1/20",
        "trainer.devices=2", "batch_size=7", "tracker=[]",
    ],
)  # fmt: skip
def test_the_system_is_free_and_so_is_how_it_is_computed(override: str) -> None:
    assert is_official(override)


@pytest.mark.parametrize(
    "override",
    [
        "attack=pgd_10", "attack.steps=1", "threat.eps=1/30", "threat.norm=l2", "threat.queries=5", "examples=10",
        "dataset=mnist", "seed=1", "metric=[robust_accuracy]", "trainer.precision=16-mixed",
    ],
)  # fmt: skip
def test_what_it_is_tested_against_is_not(override: str) -> None:
    assert not is_official(override)


def test_an_attack_of_another_name_is_added_freely_and_one_of_the_suite_is_not_changed() -> None:
    assert is_official("attack=square")
    assert is_official("attack=square_200", "attack.queries=10")
    assert not is_official("attack=square", "threat.queries=10")
    assert not is_official("attack=pgd", "attack.steps=1")
    assert not is_official("attack=pgd_classic")
    added = entered()
    attack = added.attack.model_copy(update={"name": "square", "params": {"queries": 5}})
    assert departure(added.model_copy(update={"attack": attack}), 500) is None


def test_without_a_suite_nothing_is_official() -> None:
    app.register()
    with initialize_config_module("benchmark.conf", version_base="1.3"):
        plain = compose("run", return_hydra_config=True)
    assert not official(["attack=pgd"], plain.hydra)


def entered(**changes: Any) -> Record:
    """A record that says that it is of the quickstart."""
    dataset = {"name": "digits", "distribution": "adversarial-benchmark", "params": {}, "version": "9.9"}
    threat = {
        "norm": "linf", "eps": 0.05, "eps_exact": "1/20", "access": "gradients", "aware": True, "targeted": False,
        "goal": "untargeted", "region": "full", "queries": None, "eot": 1, "surrogate": "",
    }  # fmt: skip
    attack = {
        "name": "fgsm", "params": {"loss": "ce"}, "distribution": "adversarial-benchmark", "version": "9.9",
        "minimal": False, "randomized": False,
    }  # fmt: skip
    counts = {"total": 500, "clean_correct": 400, "robust_correct": 300, "clean_top5": 500, "robust_top5": 400}
    return Record.model_validate(
        {
            "key": "0" * 24, "status": "complete", "suite": "quickstart@1", "official": True, "seed": 0,
            "system": {
                "key": "1" * 24, "dataset": "digits", "model": "mine", "defenses": [], "poison": [],
                "config": {"dataset": dataset},
            },
            "threat": threat, "attack": attack, "counts": {**counts, "invalid": 0}, **changes,
        }
    )  # fmt: skip


def test_a_record_that_keeps_to_the_suite_does_not_depart_whatever_the_versions() -> None:
    assert departure(entered(), 500) is None


@pytest.mark.parametrize(
    ("part", "field", "value", "sentence"),
    [
        ("attack", "params", {"loss": "margin"}, "its attack is none of those of quickstart@1"),
        ("attack", "name", "noise", "its attack is none of those of quickstart@1"),
        ("threat", "queries", 10, "its threat is none of those of quickstart@1"),
        ("threat", "eps_exact", "1/40", "its threat is none of those of quickstart@1"),
    ],
)
def test_a_weaker_attack_or_threat_departs(part: str, field: str, value: object, sentence: str) -> None:
    record = entered()
    changed = getattr(record, part).model_copy(update={field: value})
    assert departure(record.model_copy(update={part: changed}), 500) == sentence


def test_fewer_examples_another_seed_and_other_data_depart() -> None:
    assert departure(entered(), 400) == "it has 500 examples, but quickstart@1 has 400"
    assert departure(entered(seed=1), 500) == "its seed is none of those of quickstart@1"
    other = entered()
    other.system.config["dataset"]["name"] = "mnist"
    assert departure(other, 500) == "its dataset is none of those of quickstart@1"


@pytest.mark.parametrize("suite", ["quickstart@2", "elsewhere@1", "../x@1", "quickstart,attacks_digits@1", "@"])
def test_of_a_suite_that_is_not_installed_nobody_can_tell(suite: str, tmp_path: Path) -> None:
    assert departure(entered(suite=suite, seed=5), 500) is None
