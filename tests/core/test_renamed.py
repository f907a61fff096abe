"""Names of version 0.1: they work for one minor version, and say what to write."""

import importlib
from pathlib import Path

import pytest

from benchmark import cli, renamed
from tests.conftest import Runner

OLD = '''"""Halves: a third party's attack, written against version 0.1. Nobody, 2020."""
from dataclasses import dataclass
from typing import ClassVar
from torch import Tensor
from benchmark import hookimpl
from benchmark.api import Attack, Supports
from benchmark.ball import rows_norm
from benchmark.errors import ConfigError
from benchmark.outcomes import Outcomes
from benchmark.record import read_record
from benchmark.sampling import SampleRandom
from benchmark.target import Target
from benchmark.threat import Access, Norm, Threat
from benchmark.testing.linear import LinearClassifier


@dataclass(frozen=True)
class Halves(Attack):
    """Halves the input, as far as it may."""

    supports: ClassVar[Supports] = Supports(access=Access.labels)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        return threat.around(x, rng).project(x / 2)


@hookimpl
def benchmark_component() -> type[Attack]:
    return Halves
'''


@pytest.mark.parametrize(("old", "new"), renamed.MODULES.items(), ids=str)
def test_every_old_module_is_an_alias_of_one_that_exists(old: str, new: str) -> None:
    home = importlib.import_module(new)
    alias = importlib.import_module(old)
    name = getattr(home, "__all__", ["benchmark_component"])[0]
    known = renamed.NAMES.get(f"{old}.{name}", new)
    with pytest.warns(FutureWarning, match=rf"write `from {known} import {name}`"):
        assert getattr(alias, name) is getattr(importlib.import_module(known), name)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = alias.nothing


@pytest.mark.parametrize(("full", "home"), renamed.NAMES.items(), ids=str)
def test_every_name_that_left_its_module_is_found(full: str, home: str) -> None:
    module, _, name = full.rpartition(".")
    now = renamed.SPELT.get(full, name)
    with pytest.warns(FutureWarning, match=f"from {home} import {now}"):
        assert renamed.attribute(module, name) is getattr(importlib.import_module(home), now)


@pytest.mark.parametrize(("package", "name"), [("config", "RunConfig"), ("sweep", "Matrix")])
def test_a_module_that_became_a_package_still_offers_its_names(package: str, name: str) -> None:
    with pytest.warns(FutureWarning, match=f"benchmark.{package}.{name} moved; write `from benchmark.{package}."):
        assert getattr(importlib.import_module(f"benchmark.{package}"), name) is not None


def test_a_plugin_written_against_the_old_names_runs_and_is_told_the_new_ones(
    tmp_path: Path, run_python: Runner
) -> None:
    info = tmp_path / "halves-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: halves\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[benchmark]\nattack.halves = halves\n")
    (tmp_path / "halves.py").write_text(OLD)
    words = ["run", "attack=halves", "model=linear", "examples=8", "training.epochs=1", "tracker=[]"]
    done = run_python("-m", "benchmark", *words, f"store.root={tmp_path}/results", beside=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "write `from benchmark.system.target import Target` (the old name is removed in version 0.3)" in done.stderr
    assert done.stderr.count("FutureWarning") >= 5


def test_an_old_command_says_its_new_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lower", "nowhere", "--examples", "nothing"]) == 2
    assert "the command lower is now add-examples; the old name is removed in version 0.3" in capsys.readouterr().err
