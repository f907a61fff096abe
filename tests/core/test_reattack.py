"""`benchmark reattack`: the cells of another attack on published systems, with the published weights."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from benchmark.cli import main
from benchmark.commands.reattack import unattacked
from benchmark.config.cell import RunConfig
from benchmark.records.record import GIVEN, Record
from benchmark.records.store import Store
from benchmark.run import run
from benchmark.threat import parse_eps
from tests.core.cells import plugin, small_config


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one system under noise and FGSM at one radius, and under noise at another."""
    root = tmp_path_factory.mktemp("author")
    config = small_config(root, examples=40)
    noise = plugin("attack", "noise")
    for one in (
        config,
        dataclasses.replace(config, attack=noise),
        dataclasses.replace(config, attack=noise, threat=dataclasses.replace(config.threat, eps=parse_eps("1/20"))),
    ):
        run(one)
    return root / "results"


def records(store: Path) -> list[Record]:
    return Store(store).records()


def test_each_system_and_threat_is_attacked_once_and_nothing_is_trained(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "results"
    shutil.copytree(home / "systems", store / "systems")
    before = {path: path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file()}
    arguments = ["reattack", str(home / "cells"), "--store", str(store), "--attack", "pgd"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    made = records(store)
    assert sorted(record.threat.eps_exact for record in made) == ["1/10", "1/20"]
    assert len(lines) == 2
    old = {(r.threat.eps_exact, r.attack.name): r for r in records(home)}
    for record in made:
        assert record.attack.name == "pgd"
        assert record.system == old[record.threat.eps_exact, "noise"].system
        assert record.weights_sha256 == old[record.threat.eps_exact, "noise"].weights_sha256
        assert record.examples_sha256 == old[record.threat.eps_exact, "noise"].examples_sha256
        best = "fgsm" if record.threat.eps_exact == "1/10" else "noise"
        against = old[record.threat.eps_exact, best].counts
        assert record.counts is not None
        assert against is not None
        said = f"robust {record.counts.robust_correct} of 40 under pgd, {against.robust_correct} under {best}"
        assert any(line.endswith(said) for line in lines), said
    assert {path: path.read_bytes() for path in before} == before
    assert main([*arguments[:1], str(home / "cells"), str(store / "cells"), *arguments[2:]]) == 0
    assert capsys.readouterr().out == "every system under every threat was attacked by pgd already\n"


def test_a_system_whose_weights_are_not_here_is_left_out_by_name(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = records(home)[0].system.key
    arguments = ["reattack", str(home / "cells"), "--store", str(tmp_path / "results"), "--attack", "pgd"]
    assert main(arguments) == 1
    assert capsys.readouterr().out.count(f"get them with: benchmark fetch {key}") == 2
    shutil.copytree(home / "systems", tmp_path / "results" / "systems")
    weights = Store(tmp_path / "results").system(key) / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert main(arguments) == 1
    assert capsys.readouterr().out.count(f"get them with: benchmark fetch {key}") == 2
    assert records(tmp_path / "results") == []


def test_another_code_than_that_of_the_record_trains_nothing(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "results"
    shutil.copytree(home / "systems", store / "systems")
    monkeypatch.setattr(RunConfig, "system_key", lambda config: "f" * 24)
    assert main(["reattack", str(home / "cells"), "--store", str(store), "--attack", "pgd"]) == 1
    said = f"its key would be {'f' * 24}, so it would be trained again; install the versions of the record"
    assert capsys.readouterr().out.count(said) == 2
    assert [path.name for path in (store / "systems").iterdir()] == [records(home)[0].system.key]


def test_only_aware_attackers_of_the_system_itself_are_repeated(home: Path) -> None:
    (one, *_) = records(home)
    blind = one.model_copy(update={"threat": one.threat.model_copy(update={"aware": False})})
    moved = one.model_copy(update={"threat": one.threat.model_copy(update={"access": "transfer"})})
    failed = one.model_copy(update={"status": "failed"})
    given = one.model_copy(update={"attack": one.attack.model_copy(update={"name": GIVEN})})
    assert list(unattacked([blind, moved, failed, given], "pgd")) == []
    assert list(unattacked([one], "pgd")) == [one]


def test_no_record_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reattack", str(tmp_path)]) == 2
    assert f"no record.json under {tmp_path}; expected cells or folders of cells" in capsys.readouterr().err
