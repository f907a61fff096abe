"""Settings of one choice of a sweep: given to the cells that make it, refused once where none does."""

from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from benchmark import registry
from benchmark.errors import ConfigError
from benchmark.sweep import chosen

DEFAULT = {"attack": ["pgd"], "model": ["checkpoint"], "defense": []}


def given(jobs: list[list[str]], *settings: str) -> list[list[str]]:
    parsed = OverridesParser.create().parse_overrides(list(settings))
    return chosen.given_to(jobs, parsed, DEFAULT.__getitem__, registry.names)


def test_a_setting_that_names_a_choice_is_for_the_cells_that_make_it() -> None:
    assert given([["attack=fgsm"], ["attack=square"]], "attack.square.queries=50") == [
        ["attack=fgsm"],
        ["attack=square", "attack.queries=50"],
    ]


def test_several_values_multiply_those_cells_alone() -> None:
    assert given([["attack=fgsm"], ["attack=square"]], "attack.square.queries=50,60") == [
        ["attack=fgsm"],
        ["attack=square", "attack.queries=50"],
        ["attack=square", "attack.queries=60"],
    ]


def test_a_setting_that_names_none_is_for_all_and_the_one_that_names_one_takes_its_place() -> None:
    assert given([["attack=apgd"], ["attack=pgd"]], "attack.steps=5", "attack.pgd.steps=9") == [
        ["attack=apgd", "attack.steps=5"],
        ["attack=pgd", "attack.steps=9"],
    ]


def test_a_plugin_in_a_list_is_named_anyway() -> None:
    jobs = [["defense=[]"], ["defense=[jpeg,label_smoothing]"], ["+defense=jpeg"]]
    assert given(jobs, "defense.jpeg.quality=50") == [
        ["defense=[]"],
        ["defense=[jpeg,label_smoothing]", "defense.jpeg.quality=50"],
        ["+defense=jpeg", "defense.jpeg.quality=50"],
    ]


def test_a_cell_that_says_nothing_of_a_kind_makes_the_default_choice() -> None:
    assert given([["seed=0"]], "attack.pgd.steps=3") == [["seed=0", "attack.steps=3"]]
    assert given([["seed=0"]], "model.model.width=3") == [["seed=0", "model.model.width=3"]]  # a plugin inside another


@pytest.mark.parametrize("setting", ["attack.square.queries=5", "defense.jpeg.quality=50"])
def test_a_setting_for_a_choice_that_no_cell_makes_is_refused(setting: str) -> None:
    key = setting.partition("=")[0]
    with pytest.raises(ConfigError, match=rf"^{key} is a setting of .*, which no cell chooses \(.*\); choose it, or"):
        given([["attack=fgsm"], ["attack=pgd"]], setting)


def test_a_setting_of_a_suite_is_left_out_where_the_command_line_chooses_others() -> None:
    (setting,) = OverridesParser.create().parse_overrides(["defense.jpeg.quality=50"])
    known = DEFAULT.__getitem__, registry.names
    jobs = [["defense=[]"], ["defense=[jpeg]"]]
    assert chosen.given_to(jobs[:1], [setting], *known, narrowed={"defense"}) == jobs[:1]
    assert chosen.given_to(jobs, [setting], *known, narrowed={"defense"})[1] == [
        "defense=[jpeg]",
        "defense.jpeg.quality=50",
    ]
    with pytest.raises(ConfigError, match="no cell chooses"):
        chosen.given_to(jobs[:1], [setting], *known, narrowed={"attack"})


def test_a_single_run_reads_the_same_line() -> None:
    words = ["attack=square", "attack.square.queries=50", "defense=[jpeg]", "defense.jpeg.quality=50", "seed=1"]
    assert chosen.for_one_cell(words) == [words[0], "attack.queries=50", *words[2:]]
    assert [w for w in words if chosen.is_setting(w)] == [words[1], words[3]]
    assert not chosen.is_setting("tracker.wandb.mode=offline")


def test_cells_of_a_sweep_are_told_apart_by_what_differs_and_their_names_do_not_say() -> None:
    heat = ["defense=[distillation]", "defense.distillation.temperature=9"]
    jobs = [["attack=pgd", "seed=0", "examples=20", *heat], ["attack=pgd_10", "seed=1", "examples=20"]]
    keys = chosen.varied(jobs)
    assert keys == {"attack", "seed", "defense", "defense.distillation.temperature"}
    assert chosen.telling(jobs[0], keys, "digits/mlp+distillation pgd linf 1/10 seed 0") == (heat[1],)
    assert chosen.telling(jobs[1], keys, "digits/mlp pgd linf 1/10 seed 1") == ("attack=pgd_10",)
    assert chosen.telling(jobs[1], chosen.varied(jobs[1:]), "digits/mlp pgd linf 1/10 seed 1") == ()


def test_the_name_of_a_single_run_says_the_variant_and_the_settings_of_system_and_attack() -> None:
    words = ["attack=pgd_10", "attack.loss=margin", "model.weights=a.pt", "defense=[jpeg]", "seed=3", "examples=50",
             "dataset.path=a.npz", "tracker=[]", "store.root=s", "training.epochs=2", "+attack.step_size=0.1",
             "attack@defense.adversarial_training.attack=fgsm"]  # fmt: skip
    keys = chosen.own(words)
    assert chosen.telling(words, keys, "arrays/file+jpeg pgd linf 1/10 seed 3") == (
        *words[:3], "training.epochs=2", *words[-2:],
    )  # fmt: skip


def test_options_may_stand_between_the_overrides() -> None:
    words = ["--config-dir", "mine", "a=1", "--cfg", "job", "~tracker", "b=2"]
    assert chosen.options_first(words) == ["--config-dir", "mine", "--cfg", "job", "a=1", "~tracker", "b=2"]
