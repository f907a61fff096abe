"""Cascades: each member sees what the ones before left, and what they declare follows from the members."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmark_plugins.attacks.bim import BIM
from benchmark_plugins.attacks.carlini_wagner import CarliniWagner
from benchmark_plugins.attacks.cascade import Cascade
from benchmark_plugins.attacks.fgsm import FGSM
from benchmark_plugins.attacks.jsma import JSMA
from benchmark_plugins.attacks.negative import Negative
from benchmark_plugins.attacks.pgd import PGD
from benchmark_plugins.attacks.square import Square
from benchmark_plugins.attacks.uap import UAP
from torch import Tensor

from benchmark import registry
from benchmark.api import Attack, Supports
from benchmark.config.check import check_fit
from benchmark.errors import ConfigError, PluginError, Refused
from benchmark.records.store import Store
from benchmark.run import run
from benchmark.sampling import SampleRandom
from benchmark.stages.rebuild import component
from benchmark.system.target import Target
from benchmark.testing.worlds import World, world
from benchmark.threat import Access, Norm, Threat, parse_eps
from tests.core.cells import small_config

THREAT = Threat(eps=parse_eps("1/20"))


@dataclasses.dataclass(frozen=True)
class Fixed(Attack):
    """Moves the example of one id past the boundary, and notes which ids it was shown."""

    supports = Supports(access=Access.labels, targeted=True)
    breaks: int = 0
    shown: list[int] = dataclasses.field(default_factory=list)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        self.shown.extend(rng.ids.tolist())
        return torch.where((rng.ids == self.breaks).reshape(-1, *([1] * (x.ndim - 1))), 1.0 - x, x)


def _target(here: World, threat: Threat) -> Target:
    return Target(
        here.system, rng=here.rng(), classes=3, access=threat.access, queries=threat.queries,
        ball=threat.around(here.x, here.rng()),
    )  # fmt: skip


def test_each_member_sees_what_the_ones_before_left() -> None:
    here = world()
    threat = Threat(eps=parse_eps("1"))
    turned = (here.system(1.0 - here.x).argmax(1) != here.y) & (here.system(here.x).argmax(1) == here.y)
    first, second = here.ids[turned].tolist()[:2]
    members = (Fixed(first), Fixed(second), Fixed(-1))
    target = _target(here, threat)
    x_adv = Cascade(members=members).perturb(target, here.x, here.y, threat=threat, rng=here.rng())
    every = set(here.ids.tolist())
    assert [set(member.shown) for member in members] == [every, every - {first}, every - {first, second}]
    moved = (x_adv != here.x).flatten(1).any(1)
    assert set(here.ids[moved].tolist()) == {first, second}
    credited = dict(zip(here.ids.tolist(), target.ledger.found_by, strict=True))
    assert {credited[first], credited[second]} == {"1 Fixed", "2 Fixed"}
    assert int(target.ledger.forwards.sum()) == 2  # one pass for each candidate that is not the input


def test_a_cascade_breaks_what_any_member_breaks() -> None:
    here, wrong = world(count=40), []
    for attack in (FGSM(), BIM(steps=5), Cascade(members=(FGSM(), BIM(steps=5)))):
        x_adv = attack.perturb(_target(here, THREAT), here.x, here.y, threat=THREAT, rng=here.rng())
        wrong.append(here.system(x_adv).argmax(1) != here.y)
    assert torch.equal(wrong[2], wrong[0] | wrong[1])
    assert 0 < int(wrong[2].sum()) < 40


def test_what_leaves_the_ball_is_not_handed_in() -> None:
    """A member that looks for the smallest perturbation goes as far as it must; the cascade keeps to the radius."""
    here = world()
    x_adv = Cascade(members=(CarliniWagner(steps=20),)).perturb(
        _target(here, THREAT), here.x, here.y, threat=THREAT, rng=here.rng()
    )
    assert not bool((THREAT.around(here.x, here.rng()).audit(x_adv).excess > 0).any())


def test_abilities_follow_from_the_members() -> None:
    both = Cascade(members=(PGD(), Square())).supports
    assert both == Supports(norms=PGD.supports.norms, access=Access.gradients, targeted=True, randomized=True)
    assert Cascade(members=(Square(),)).supports.access is Access.scores
    assert Cascade(members=(FGSM(), BIM())).supports.randomized is False
    assert Norm.l2 not in Cascade(members=(PGD(), JSMA())).supports.norms
    assert Cascade(members=(PGD(), Negative())).supports.bounded is False


def test_senseless_members_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"attack\.members is empty; expected at least one attack"):
        Cascade(members=())
    with pytest.raises(ConfigError, match=r"attack\.members holds UAP, which is prepared once per cell"):
        Cascade(members=(UAP(),))


# --- as configuration ---


def _resolved(*overrides: str) -> Any:
    from hydra import compose, initialize_config_module

    from benchmark.config import source
    from benchmark.config.resolve import resolve

    source.register_schemas()
    with initialize_config_module("benchmark.conf", version_base="1.3"):
        return resolve(compose("run", list(overrides)))


def test_members_are_names_variants_and_names_with_settings() -> None:
    config = _resolved("attack=cascade", "attack.members=[fgsm,pgd_10,{pgd:{steps:7}},{cascade:{members:[bim]}}]")
    assert config.attack.members == (FGSM(), PGD(steps=10), PGD(steps=7), Cascade(members=(BIM(),)))
    assert [type(member).__name__ for member in _resolved("attack=cascade").attack.members] == [
        "FGSM", "PGD", "APGD", "Square",
    ]  # fmt: skip
    other = _resolved("attack=cascade", "attack.members=[fgsm,pgd_10,{pgd:{steps:8}},{cascade:{members:[bim]}}]")
    assert config.cell_key(refused=True) != other.cell_key(refused=True)


@pytest.mark.parametrize(
    ("members", "error", "sentence"),
    [
        ("[fgsn]", PluginError, r"no plugin named 'attack\.fgsn'.*Did you mean attack\.fgsm"),
        ("[{pgd:{stepz:7}}]", ConfigError, r"attack\.members\[0\]: .*stepz"),
        (
            "[3]",
            ConfigError,
            r"attack\.members\[0\] is 3; expected the name of a plugin \(attack\), or a name with",
        ),
        ("fgsm", ConfigError, r"attack\.members is 'fgsm'; expected a list of names"),
    ],
)
def test_members_that_are_none_are_named(members: str, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        _resolved("attack=cascade", f"attack.members={members}")


def test_a_recorded_cascade_holds_its_members_and_the_path(tmp_path: Path) -> None:
    attack = Cascade(members=(FGSM(), PGD(steps=3)))
    result = run(small_config(tmp_path, attack=attack, examples=60))
    record = Store(tmp_path / "results").record(result.key)
    assert record is not None
    assert record.counts is not None
    described = registry.settings(attack)
    assert record.attack.params == described
    assert [member["name"] for member in described["members"]] == ["fgsm", "pgd"]
    assert all(member["version"] for member in described["members"])
    assert component("attack", {"name": "cascade", "params": described}) == attack
    assert set(record.path) <= {"1 FGSM", "2 PGD"}
    assert record.path["1 FGSM"] > 0
    assert sum(record.path.values()) == record.counts.clean_correct - record.counts.robust_correct


def test_norms_that_a_member_lacks_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"attack": Cascade(members=(PGD(), JSMA())), "threat": THREAT}
    config = small_config(tmp_path, **changes)
    with pytest.raises(Refused, match=r"attack\.cascade perturbs under no norm"):
        check_fit(config)
