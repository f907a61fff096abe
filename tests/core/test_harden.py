"""The search for protections: the same path twice, only what helps is kept, and a model at the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.errors import ConfigError
from benchmark.hardening.measure import Pool
from benchmark.hardening.parts import parts
from benchmark.hardening.search import Aim, Tried, one_by_one, sampled
from benchmark.records.store import Store
from tests.core.cells import plugin

RUN = ("model=linear", "training.epochs=1", "threat=linf_01")
SEARCH = ("--attack", "fgsm", "--examples", "60")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def harden(*arguments: str) -> int:
    return main(["harden", *RUN, *SEARCH, *arguments])


def path_of(out: str = "hardened") -> dict[str, object]:
    found: dict[str, object] = json.loads(Path(out, "path.json").read_text())
    return found


def test_protections_that_help_stay_and_the_others_go(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lost = "--protect", "jpeg quality=5"  # so coarse that clean accuracy falls
    helps = "--protect", "adversarial_training attack.steps=2|3"
    assert harden("--at-least", "0.9", "--attack", "pgd steps=5", *lost, *helps, "--clean-loss", "0.3") == 1
    steps = path_of()["steps"]
    assert isinstance(steps, list)
    assert [step["stack"] for step in steps] == [
        [], ["jpeg quality=5"], ["adversarial_training attack.steps=2"], ["adversarial_training attack.steps=3"],
    ]  # fmt: skip
    for step in steps[1:]:
        held, before = step["robust_correct"], steps[0]["robust_correct"]
        assert not step["kept"] or held > before
        assert step["robust_correct"] <= min(step["by_attack"].values())
    assert sum(step["kept"] for step in steps[2:]) <= 1  # of two settings at most one
    report = (here / "hardened" / "report.md").read_text()
    assert "Not reached" in report
    assert "| 30 |" in report  # the examples that chose nothing
    assert "Not reached" in capsys.readouterr().out


def test_the_same_search_again_computes_nothing_and_gives_the_same_path(here: Path) -> None:
    arguments = ("--at-least", "0.9", "--protect", "bit_depth", "--protect", "gaussian_augmentation")
    harden(*arguments)
    cells = {path: path.stat().st_mtime_ns for path in Store(here / "results").root.glob("cells/*/record.json")}
    assert len(cells) >= 3
    first = path_of()
    harden(*arguments, "--out", "again")
    assert path_of("again") == first
    assert {p: p.stat().st_mtime_ns for p in Store(here / "results").root.glob("cells/*/record.json")} == cells


def test_a_reached_goal_ends_the_search_with_a_model(here: Path) -> None:
    assert harden("--at-least", "0.05", "--protect", "jpeg") == 0
    assert len(path_of()["steps"]) == 1  # type: ignore[arg-type]
    model = here / "hardened" / "model"
    assert {path.name for path in model.iterdir()} == {"weights.safetensors", "card.json", "model.onnx"}
    import onnx
    from onnx.reference import ReferenceEvaluator

    x = np.random.default_rng(0).random((3, 1, 8, 8), dtype=np.float32)
    scores: Any
    (scores,) = ReferenceEvaluator(onnx.load(str(model / "model.onnx"))).run(None, {"input": x})
    assert scores.shape == (3, 10)
    assert np.isfinite(scores).all()


def test_a_system_that_onnx_cannot_express_is_said(here: Path) -> None:
    harden("--at-least", "0.0", "defense=[]")
    pool = Pool(RUN, parts("attack", "fgsm"))
    (random,) = parts("defense", "random_resize_pad")
    measured = pool.measure([random], 20)
    from benchmark.hardening.deploy import deploy

    told = deploy(measured.records[0], Store(here / "results"), here / "data", here / "out")
    assert "draws random numbers" in told[-1]
    assert not (here / "out" / "model.onnx").exists()


def test_what_does_not_fit_is_dropped_with_the_reason(here: Path) -> None:
    path = one_by_one(
        Pool(RUN, parts("attack", "fgsm")), parts("defense", "certified_training method=sabr"), Aim(0.99), 30, _quiet
    )
    assert path.steps[1].measured is None or path.steps[1].why
    misfit = one_by_one(Pool(RUN, parts("attack", "fgsm")), parts("defense", "jpeg quality=500"), Aim(0.99), 30, _quiet)
    assert misfit.steps[1].measured is None
    assert "quality is 500" in misfit.steps[1].why
    assert misfit.best.stack == ()


def _quiet(step: Tried) -> None:
    del step


def test_optuna_draws_the_same_stacks_for_the_same_seed(here: Path) -> None:
    pool = Pool(RUN, parts("attack", "fgsm"))
    some = [*parts("defense", "bit_depth bits=2|4"), *parts("defense", "jpeg")]
    paths = [sampled(pool, some, Aim(0.99), 30, _quiet, trials=5, seed=seed) for seed in (3, 3)]
    labels = [[step.label for step in path.steps] for path in paths]
    assert labels[0] == labels[1]
    assert len(set(labels[0])) >= 2
    assert set(labels[0]) <= {
        "no protection", "bit_depth bits=2", "bit_depth bits=4", "jpeg", "bit_depth bits=2 + jpeg",
        "bit_depth bits=4 + jpeg",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--at-least", "2"], "--at-least is 2.0; expected a share"),
        (["--at-least", "0.5", "--protect", "jpg"], "no plugin named 'defense.jpg'"),
        (["--at-least", "0.5", "--protect", "jpeg quality"], "'quality' of defense jpeg is not a setting"),
        (["--at-least", "0.5", "--search-examples", "61"], "--search-examples is 61, of 60"),
        (["--at-least", "0.5", "--trials", "0"], "--trials is 0"),
        (["--at-least", "0.5", "attack=pgd"], "attack=pgd is set by harden"),
        (["--at-least", "0.5", "model=linnear"], "linnear"),
        (["--at-least", "0.5", "--attack", "pgd foo=1"], "there is no setting attack.foo. Known: loss, random_start"),
    ],
)
@pytest.mark.usefixtures("here")
def test_wrong_options_end_with_2_and_a_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert harden(*arguments) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_parts_with_several_values_are_tried_in_turn() -> None:
    assert [part.label for part in parts("defense", "jpeg quality=30|60")] == ["jpeg quality=30", "jpeg quality=60"]
    assert parts("defense", "jpeg quality=30")[0].overrides == ["defense.jpeg.quality=30"]
    assert parts("attack", "pgd steps=5")[0].overrides == ["attack.steps=5"]
    assert parts("attack", "art_pgd")[0].label == "art_pgd"  # a variant, of a bridge
    with pytest.raises(ConfigError, match="is not a setting"):
        parts("attack", "pgd =5")


def test_variants_of_ones_own_are_parts_and_members(here: Path) -> None:
    for kind, text in (("attack", "defaults: [pgd_10, _self_]\nsteps: 3\n"), ("defense", "defaults: [jpeg]\n")):
        (here / "own" / kind).mkdir(parents=True)
        (here / "own" / kind / "mine.yaml").write_text(text)
    own = [here / "own"]
    (attack,), (defense,) = parts("attack", "mine", own), parts("defense", "mine", own)
    config: Any = Pool(RUN, [attack], own).config([defense], attack, 5)
    assert config.attack.steps == 3
    assert config.attack.restarts == 1
    (cascade,) = parts("attack", "cascade members=[fgsm,mine]")
    config = Pool(RUN, [cascade], own).config([], cascade, 5)
    assert config.attack.members[1] == plugin("attack", "pgd", steps=3, stop_on_success=True)
    (own[0] / "attack" / "mine.yaml").write_text("steps: 3\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml names no attack under defaults; expected a list such as"):
        Pool(RUN, [cascade], own).config([], cascade, 5)
