"""Configuration: what Hydra composes, how values are checked, what a key depends on, whether parts fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.errors import HydraException

from benchmark.api import Supports
from benchmark.config.cell import RunConfig
from benchmark.config.check import check_fit
from benchmark.config.overrides import sentence
from benchmark.config.resolve import resolve
from benchmark.errors import ConfigError, Refused
from benchmark.sweep.app import register
from benchmark.threat import Access, Goal, Norm, Region, RegionKind, Threat, parse_eps
from tests.core.cells import small_config


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    register()
    with initialize_config_module("benchmark.conf", version_base="1.3"):
        yield


def _config(*overrides: str) -> RunConfig:
    return resolve(compose("run", overrides=list(overrides)))


def test_the_default_run() -> None:
    config = _config()
    assert config.name == "digits/small_cnn pgd linf 1/10 seed 0"
    assert config.defenses == ()
    assert config.threat.eps == Fraction(1, 10)


def test_a_name_says_what_is_unusual_about_the_threat() -> None:
    unusual = ["threat.aware=false", "threat.goal=next_class", "threat.queries=500", "threat.levels=256"]
    config = _config("threat.region.kind=stripes", "threat.region.size=2", *unusual)
    assert config.name == (
        "digits/small_cnn pgd linf 1/10 oblivious next_class stripes:2 500 queries 256 levels seed 0"
    )
    transfer = _config("attack=pgd", "threat.access=transfer", "threat.surrogate='0123456789ab,ba9876543210'")
    assert transfer.name.endswith(" linf 1/10 from 01234567, ba987654 seed 0")


def test_defenses_keep_their_order_and_their_settings() -> None:
    one = _config("defense=[label_smoothing,jpeg]", "defense.jpeg.quality=50")
    assert one.system_spec.name == "digits/small_cnn+label_smoothing+jpeg"
    assert one.defenses[1].quality == 50  # type: ignore[attr-defined]
    assert _config("defense=[jpeg,label_smoothing]").system_spec.name.endswith("+jpeg+label_smoothing")


def test_an_attack_inside_a_defense_is_chosen_like_any_other() -> None:
    chosen = "attack@defense.adversarial_training.attack=fgsm"
    (defense,) = _config("defense=[adversarial_training]", chosen).defenses
    assert type(defense.attack).__name__ == "FGSM"  # type: ignore[attr-defined]
    steps = "defense.adversarial_training.attack.steps=3"
    (defense,) = _config("defense=[adversarial_training]", steps).defenses
    assert defense.attack.steps == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", ["8/255", "${frac:8,255}"])
def test_a_radius_is_exact(text: str) -> None:
    assert _config(f"threat.eps={text}").threat.eps == Fraction(8, 255)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("attack.stepz=3", "there is no setting attack.stepz. Known: loss, random_start, restarts, step_size,"),
        ("sede=3", "there is no setting sede. Did you mean seed, "),
        ("attack.steps=abc", "attack.steps=abc: Value 'abc' of type 'str' could not be converted to Integer"),
        ("threat.norm=l7", "threat.norm=l7: Invalid value 'l7', expected one of"),
        (
            "threat.region=stripes",
            "threat.region has the settings kind, size, path; set one of them, as in threat.region.",
        ),
        ("training=3", "training=3: training has the settings epochs, batch_size, optimizer, "),
        ("seed=zero", "Value 'zero' of type 'str' could not be converted to Integer"),
        ("attack=pdg", "no attack named 'pdg'; "),
        ("attack=pdg", " Did you mean pdpgd, pgd, "),
        ("defense=[jpg]", "no defense named 'jpg'; "),
        (
            "defense.jpeg.quality=5",
            "defense.jpeg.quality is not a setting, since defense 'jpeg' is not chosen; choose it",
        ),
        ("model@model.model=mlp", "no chosen plugin has a field model.model; first choose the plugin that has it"),
        ("threat", "'threat' is neither GROUP=CHOICE nor KEY=VALUE; see benchmark run --help"),
        ("threat.eps=0,1", "threat.eps=0,1 gives several values; to run each of them, add -m: benchmark run -m "),
        ("dataset.path=a(1).npz", "cannot be parsed: some of its characters are special to Hydra, as to the shell"),
        ("dataset.path=a=b.npz", "put the value in quotes within quotes: \"dataset.path='a=b.npz'\""),
        ("dataset.path=é#.npz", "quotes within quotes: \"dataset.path='é#.npz'\""),
        ("dataset.path=a,b.npz", "to pass one value that contains a comma, quote it: \"dataset.path='a,b.npz'\""),
        ("attack=", "nothing is chosen for attack; write attack=NAME"),
    ],
)
def test_what_cannot_be_composed_is_one_sentence(override: str, told: str) -> None:
    with pytest.raises(HydraException) as caught:
        _config(override)
    assert told in sentence(caught.value)
    assert "\n" not in sentence(caught.value)


@pytest.mark.parametrize(
    "override",
    ["defense={},{}", "dataset.path={}({})", "attack.steps={}", "attack={}", "dataset.path={}=b", "training={}", "{}"],
)
def test_a_long_value_is_said_once_and_short(override: str) -> None:
    given = override.format(*[f"[{'jpeg' * 60}]" if "," in override else "jpeg" * 60] * 2)
    with pytest.raises(HydraException) as caught:
        _config(given)
    told = sentence(caught.value)
    assert len(told) < 400
    assert told.count("jpegjpeg") <= 30
    assert " ... " in told
    assert "[[" not in told  # a list of lists is no advice


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("attack.steps=0", "attack.steps is 0"),
        ("threat.eps=8", "inputs lie in \\[0, 1\\], so a radius in 0-255 units must be divided by 255"),
        ("threat.eps=wide", "threat.eps is 'wide'; expected a fraction such as 8/255"),
        ("threat.eps=-1/10", "a radius cannot be negative"),
        ("threat.queries=0", "threat.queries is 0; expected at least 1"),
        ("threat.access=transfer", "transfer access needs the key of a system in the store"),
        ("threat.region.kind=square", "expected at least 1 pixel for region square"),
        ("batch_size=0", "batch_size is 0; expected at least 1 example"),
        ("examples=0", "examples is 0; expected at least 1"),
        ("training.ema=1", "training.ema is 1.0; expected a decay in \\[0, 1\\)"),
        ("+experiment=paper", "there is no setting experiment, and no config group of that name. Did you"),
        ("+threat.epsilon=0.5", r"there is no setting threat.epsilon. Did you mean .*eps"),
        ("++threat.region.siz=2", "there is no setting threat.region.siz. Known: kind, path, size."),
        ("+training.epoch=2", "there is no setting training.epoch. Did you mean epochs?"),
        ("+attack.step=2", "there is no setting attack.step. Known: .*steps"),
        ("+defense.jpeg=3", "defense.jpeg is not a setting, since defense 'jpeg' is not among the chosen"),
        ("trainer.precision=banana", "trainer.precision is 'banana'; expected one of 32-true, 64-true, bf16-mixed"),
        ("trainer.precision=bf16-true", "trainer.precision is 'bf16-true'; expected one of"),
        ("trainer.precision=16-mixed", "trainer.precision is 16-mixed, and trainer.accelerator is cpu, which would"),
        ("training.learning_rate=0", "training.learning_rate is 0.0; expected a positive number"),
    ],
)
def test_values_that_mean_nothing(override: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        _config(override)


def test_keys_depend_on_what_can_change_a_result_and_on_nothing_else() -> None:
    def keys(*overrides: str) -> tuple[str, str]:
        config = _config(*overrides)
        return config.system_key(), config.cell_key()

    system, cell = keys()
    assert keys("batch_size=7", "tracker=[]", "trainer.devices=2", "store.root=elsewhere") == (system, cell)
    for override in ("attack.steps=41", "threat.eps=1/9", "examples=100", "threat.queries=9"):
        assert keys(override)[0] == system
        assert keys(override)[1] != cell
    for override in ("seed=1", "model=mlp", "training.epochs=2", "defense=[jpeg]", "trainer.precision=bf16-mixed"):
        assert keys(override)[0] != system
        assert keys(override)[1] != cell


def _fits(attack: Supports, threat: Threat) -> None:
    config = small_config(Path("unused"), threat=threat)
    stub = dataclasses.make_dataclass("Stub", [], bases=(type(config.attack),), frozen=True)
    stub.supports = attack  # type: ignore[attr-defined]
    stub.__module__ = type(config.attack).__module__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmark.registry.name_of", lambda _: ("attack", "stub"))
        check_fit(dataclasses.replace(config, attack=stub()))


@pytest.mark.parametrize(
    ("attack", "threat", "sentence"),
    [
        (Supports(norms=frozenset({Norm.l2})), Threat(), "attack.stub perturbs under l2, but threat.norm is linf"),
        (Supports(), Threat(goal=Goal.next_class), "attack.stub is untargeted, but threat.goal is next_class"),
        (Supports(), Threat(access=Access.labels), "attack.stub needs gradients, but threat.access is labels"),
    ],
)
def test_parts_that_do_not_fit(attack: Supports, threat: Threat, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        _fits(attack, threat)


@pytest.mark.parametrize(
    ("attack", "threat"),
    [
        (Supports(access=Access.labels), Threat(access=Access.scores)),
        (Supports(), Threat(access=Access.transfer, surrogate="some system")),
    ],
)
def test_parts_that_fit(attack: Supports, threat: Threat) -> None:
    refused = None
    try:
        _fits(attack, threat)
    except Refused as error:
        refused = str(error)
    assert refused is None


@pytest.mark.parametrize(
    ("text", "value"), [("0.1", Fraction(1, 10)), ("8 / 255", Fraction(8, 255)), (12, Fraction(12))]
)
def test_eps_means_what_was_written(text: str, value: Fraction) -> None:
    assert parse_eps(text) == value


def test_a_region_is_named_in_a_word() -> None:
    assert str(Region()) == "full"
    assert str(Region(RegionKind.square, 3)) == "square:3"
    assert str(Region(RegionKind.file, path="masks/glasses.npy")) == "file:glasses.npy"
