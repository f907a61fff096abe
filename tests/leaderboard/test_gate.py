"""The gate: right decisions at their level, the documents that say them, and stored witnesses as a regression suite."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from benchmark_leaderboard.gate.decide import decide_loss, decide_share
from benchmark_leaderboard.ranking.statistics import paired_difference

from benchmark.cli import main
from benchmark.config.describe import attack_info
from benchmark.records.record import Finding
from benchmark.run import run
from benchmark.threat import Threat
from tests.core.cells import plugin, small_config
from tests.leaderboard.made_records import made_cell

FAR = float("inf")


def store(root: Path, held: np.ndarray, **changes: object) -> Path:
    """A store with one cell in which just these examples withstand PGD, and all are right without it."""
    distance = np.where(held, FAR, 0.05)
    made_cell(root, clean=np.ones(len(held), dtype=bool), distance=distance, **changes)  # type: ignore[arg-type]
    return root


def first(n: int, total: int) -> np.ndarray:
    return np.arange(total) < n


def gate(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """The exit code, and what is said on stdout and stderr."""
    capsys.readouterr()
    code = main(["gate", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


# --- decisions ---


def test_the_interval_of_a_paired_difference_is_the_published_one() -> None:
    # Newcombe (1998), the table (36, 12, 2, 0): 0.2, method 10 gives 0.0569 to 0.3404
    assert paired_difference(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    low, high = paired_difference(250, 0, 0, 250)
    assert low == -high
    assert 0 < high < 0.005


def test_two_hundred_builds_without_a_change_fail_at_most_at_the_level() -> None:
    rng = np.random.default_rng(0)
    builds, examples, share = 200, 500, 0.4
    failed = {"goal": 0, "loss": 0}
    for _ in range(builds):
        before, now = rng.random((2, examples)) < share  # as independent as two trainings could be at worst
        failed["goal"] += decide_share(int(now.sum()), examples, share).outcome == "fail"
        table = tuple(int(c.sum()) for c in (before & now, before & ~now, ~before & now, ~before & ~now))
        failed["loss"] += decide_loss(table, 0.05).outcome == "fail"
    most = 0.05 * builds + 1.645 * math.sqrt(0.05 * 0.95 * builds)  # within the binomial interval of 5 %
    assert max(failed.values()) <= most, failed


def test_a_loss_of_ten_points_is_caught_with_500_examples() -> None:
    rng = np.random.default_rng(1)
    caught = 0
    for _ in range(200):
        before = rng.random(500) < 0.5
        now = before & (rng.random(500) >= 0.25) | ~before & (rng.random(500) < 0.05)  # 12.5 points lost, 2.5 won
        table = tuple(int(c.sum()) for c in (before & now, before & ~now, ~before & now, ~before & ~now))
        caught += decide_loss(table, 0.05).outcome == "fail"
    assert caught >= 190


@pytest.mark.parametrize("checks", [1, 5])
def test_a_wrong_pass_and_a_wrong_failure_are_as_rare_as_the_level_says(checks: int) -> None:
    from scipy.stats import binom

    total = 80
    counts = np.arange(total + 1)
    outcomes = np.array([decide_share(int(k), total, 0.5, checks=checks).outcome for k in counts])
    just_below, just_reached = binom.pmf(counts, total, 0.5 - 1e-9), binom.pmf(counts, total, 0.5)
    assert just_below[outcomes == "pass"].sum() <= 0.05
    assert just_reached[outcomes == "fail"].sum() <= 0.05 / checks
    assert set(outcomes) == {"pass", "undecided", "fail"}


def test_a_goal_may_name_a_variant_and_systems_of_one_name_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pgd = plugin("attack", "pgd")
    long, short = (attack_info(dataclasses.replace(pgd, steps=steps)).params for steps in (40, 10))
    for layers in (1, 2):
        store(tmp_path, first(0, 50), params=long, model_params={"layers": layers})
        store(tmp_path, first(50, 50), params=short, model_params={"layers": layers})
    (tmp_path / "own" / "attack").mkdir(parents=True)
    (tmp_path / "own" / "attack" / "mine.yaml").write_text("defaults: [pgd_10, _self_]\nsteps: 40\n")
    goals = [word for name in ("pgd_10", "pgd", "mine") for word in ("--attack", f"{name}=0.5")]
    code, out, _ = gate(capsys, "--store", tmp_path, *goals, "--config-dir", tmp_path / "own")
    assert code == 1
    assert re.findall(r"^(\w+) +(.*) seed 0, .*: (\w+) (\d+) of 50", out, re.MULTILINE) == [
        (outcome, f"digits/mlp [layers={layers}]", attack, right)
        for layers in (1, 2)
        for outcome, attack, right in (("pass", "pgd_10", "50"), ("fail", "pgd", "0"), ("fail", "mine", "0"))
    ]
    code, _, err = gate(capsys, "--store", tmp_path, *goals, "--config-dir", tmp_path / "none")
    assert (code, err) == (2, f"benchmark: there is no folder {tmp_path / 'none'}; --config-dir names one with folders "
                              "such as attack/\n")  # fmt: skip


def test_the_number_of_examples_that_is_named_decides() -> None:
    found = decide_share(41, 100, 0.4)
    assert found.outcome == "undecided"
    assert found.needed is not None
    assert decide_share(round(0.41 * found.needed), found.needed, 0.4).outcome == "pass"
    assert decide_share(round(0.41 * found.needed * 0.9), round(found.needed * 0.9), 0.4).outcome == "undecided"
    assert decide_share(40, 100, 0.4).needed is None  # on the goal itself no number of examples decides
    assert decide_loss((20, 3, 3, 24), 0.05).needed is not None


# --- the command ---


def test_three_answers_with_their_codes_and_a_line_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = store(tmp_path / "s", first(90, 200))
    assert gate(capsys, "--store", root, "--at-least", 0.35)[0] == 0
    code, _, err = gate(capsys, "--store", root, "--at-least", 0.6)
    assert (code, err.count("\n")) == (1, 1)
    assert "gate: fail: digits/mlp seed 0, linf 1/10: robust 90 of 200, 45.0 %" in err
    code, out, err = gate(capsys, "--store", root, "--at-least", 0.44)
    assert code == 3
    assert "undecided with this many examples, about" in err
    assert out.startswith("undecided")


def test_the_worst_case_counts_over_all_attacks_and_attackers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(tmp_path, first(60, 100))
    store(tmp_path, ~first(40, 100), attack="square", access="scores", aware=False)
    out = gate(capsys, "--store", tmp_path, "--at-least", 0.1, "--attack", "pgd=0.1", "--attack", "square=0.1")[1]
    assert "robust 20 of 100" in out
    assert "pgd 60 of 100" in out
    assert "square 60 of 100" in out


def test_goals_of_labels_are_about_their_examples_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = np.arange(400) % 10 != 3  # label 3 falls whole
    root = store(tmp_path, held)
    code, out, _ = gate(capsys, "--store", root, "--every-class", 0.8)
    assert code == 1
    assert [line.split()[0] for line in out.splitlines()].count("fail") == 1
    assert "class 3 0 of 40" in out
    assert gate(capsys, "--store", root, "--every-class", 0.8, "--class", "3=0")[0] == 0


def test_a_baseline_is_compared_example_by_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = np.random.default_rng(0).random(500) < 0.5
    before = store(tmp_path / "before", held)
    same = store(tmp_path / "same", held, defenses=("other_settings",))
    lost = held & (np.cumsum(held) % 4 != 0)
    worse = store(tmp_path / "worse", lost)
    assert gate(capsys, "--store", same, "--baseline", before)[0] == 0
    code, _, err = gate(capsys, "--store", worse, "--baseline", before)
    assert code == 1
    assert "11.0 points (8.7 to 13.3) below the baseline's" in err
    assert gate(capsys, "--store", worse, "--baseline", before, "--loss", 0.2)[0] == 0
    assert gate(capsys, "--store", before, "--baseline", worse)[0] == 0  # a gain is no reason to stop
    other = store(tmp_path / "other", held, seed=1)
    assert gate(capsys, "--store", other, "--baseline", before)[0] == 2


def test_what_was_not_attacked_failed_or_is_void_does_not_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = store(tmp_path / "none", first(100, 100), attack="none")
    code, _, err = gate(capsys, "--store", alone, "--at-least", 0.1)
    assert (code, "no attack was run on it" in err) == (1, True)
    assert gate(capsys, "--store", alone, "--clean", 0.9)[0] == 0
    code, _, err = gate(capsys, "--store", alone, "--at-least", 0.1, "--attack", "pgd=0.1")
    assert (code, "no complete cell of attack=pgd" in err) == (1, True)
    void = Finding(name="undeclared_randomness", severity="error", evidence="it answers twice")
    voided = store(tmp_path / "void", first(100, 100), findings=[void])
    assert "undeclared_randomness" in gate(capsys, "--store", voided, "--at-least", 0.1)[2]
    failed = store(tmp_path / "failed", first(100, 100))
    store(failed, first(100, 100), attack="square", status="failed", error="it burst")
    assert "it burst" in gate(capsys, "--store", failed, "--at-least", 0.1)[2]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--at-least", "40"], "--at-least is 40.0; expected a share between 0 and 1"),
        (["--attack", "pgd"], "'pgd' is not a goal; expected NAME=SHARE"),
        (["--attack", "pgd=much"], "--attack pgd is much; expected a share"),
        (["--class", "three=0.4"], "'three' is not a label"),
        ([], "the gate has no goal"),
        (["--at-least", "0.4", "--store", "nowhere"], "there is no folder nowhere"),
    ],
)
def test_wrong_options_end_with_2_and_a_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = gate(capsys, "--store", store(tmp_path, first(5, 10)), *arguments)
    assert code == 2
    assert sentence in err


def test_the_documents_say_what_was_decided(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = store(tmp_path / "s", first(90, 200), model="m|<b>")
    names = {name: tmp_path / "out" / name for name in ("junit", "sarif", "markdown", "evidence", "card")}
    options = [part for name, path in names.items() for part in (f"--{name}", path)]
    assert gate(capsys, "--store", root, "--at-least", 0.6, "--clean", 0.5, *options)[0] == 1
    suite = ElementTree.parse(names["junit"]).getroot()[0]
    assert [suite.get(key) for key in ("tests", "failures", "errors")] == ["2", "1", "0"]
    run_ = json.loads(names["sarif"].read_text())["runs"][0]
    (result,) = run_["results"]
    assert (result["ruleId"], result["level"]) == ("missed", "error")
    assert result["ruleId"] in {rule["id"] for rule in run_["tool"]["driver"]["rules"]}
    assert Path(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]).is_file()
    comment = names["markdown"].read_text()
    assert "digits/m\\|&lt;b> seed 0" in comment
    for name in ("evidence", "card"):
        text = names[name].read_text()
        links = [part.partition(")")[0] for part in text.split("](")[1:]]
        assert links
        assert all((names[name].parent / link).is_file() for link in links)
    page = names["evidence"].read_text()
    for heading in (
        "Article 15",
        "Accuracy (15.1",
        "Robustness and",
        "Cybersecurity",
        "Govern",
        "Map",
        "Measure",
        "Manage",
    ):
        assert heading in page


def test_stored_witnesses_are_shown_first_and_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threat = Threat(eps=Fraction(3, 20))
    cell = {"threat": threat, "examples": 70}
    attacked = run(small_config(tmp_path / "old", attack=plugin("attack", "fgsm"), **cell))
    clean = run(small_config(tmp_path / "new", attack=plugin("attack", "none"), **cell))
    assert (attacked.status, clean.status) == ("complete", "complete")
    new, old = tmp_path / "new" / "results", tmp_path / "old" / "results"
    counts = json.loads((old / "cells" / attacked.key / "record.json").read_text())["counts"]
    assert counts["robust_correct"] < counts["clean_correct"]
    data = ("--data", tmp_path / "new" / "data")
    code, out, _ = gate(capsys, "--store", new, "--at-least", 0.9, "--witnesses", old, *data)
    assert code == 1  # the same system, so the same examples fall, without an attack
    assert f"robust {counts['robust_correct']} of 70" in out
    assert "no attack was run" not in out
