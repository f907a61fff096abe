"""The wheel as users install it, a third party's package beside it, in an environment of its own, from elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ACME
from tests.house.checkout import ROOT, files

SOURCES = ("benchmark", "plugins", "conf", "leaderboard")


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command with a clean environment; what it printed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "BENCHMARK", "VIRTUAL_ENV"))}
    environment |= {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", "XDG_CACHE_HOME": str(cwd / "cache")}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build_wheel(source: Path, out: Path) -> Path:
    """The wheel of a source folder."""
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source, cwd=source)
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our wheel, built from a copy of the files that git knows."""
    source = tmp_path_factory.mktemp("source")
    for file in files():
        if file.parts[0] in (*SOURCES, "pyproject.toml", "README.md", "LICENSE"):
            (source / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / file, source / file)
    return build_wheel(source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def home(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment that holds the wheel and the third party's package."""
    sources, home = tmp_path_factory.mktemp("third_party"), tmp_path_factory.mktemp("home")
    theirs = build_wheel(shutil.copytree(ACME, sources / "acme"), sources / "wheel")
    venv.create(home, with_pip=False, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    # Downloading torch for every run of the tests would take minutes: the dependencies are links to those of this
    # environment, one by one, so that nothing of the checkout (its editable install) can be seen from the new one.
    for place in {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}:
        for entry in place.iterdir():
            own = entry.name.startswith(("adversarial_benchmark", "__editable__"))
            if not own and entry.suffix != ".pth" and not (packages / entry.name).exists():
                (packages / entry.name).symlink_to(entry)
    python = home / "bin" / "python"
    options = ["--disable-pip-version-check", "-q", "--no-deps", "--no-index", "--no-compile"]
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel, theirs, cwd=sources)
    where = run(python, "-c", "import benchmark; print(benchmark.__file__)", cwd=home).strip()
    assert Path(where).is_relative_to(home), f"the environment sees {where}"
    return home


@pytest.fixture(scope="module")
def benchmark(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """The command `benchmark` of that environment, run from another folder."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def command(*arguments: str) -> str:
        return run(home / "bin" / "benchmark", *arguments, cwd=elsewhere)

    return command


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"benchmark", "benchmark_plugins", "benchmark_leaderboard"}
    for needed in (
        "benchmark/py.typed",
        "benchmark/conf/run.yaml",
        "benchmark/conf/suite/quickstart.yaml",
        "benchmark/templates/attack.py.template",
        "benchmark_plugins/attacks/pgd.py",
        "benchmark_leaderboard/site/templates/index.html",
        "benchmark_leaderboard/site/static/site.css",
    ):
        assert needed in names
    assert not [n for n in names if "/results/" in n or "test_" in n or n.endswith((".pyc", ".safetensors"))]


def test_a_third_partys_plugin_is_listed_run_verified_and_published(
    benchmark: Callable[..., str], tmp_path: Path
) -> None:
    listed = {f"{p['kind']}.{p['name']}": p for p in json.loads(benchmark("plugins", "--json"))}
    assert listed["attack.acme_signs"]["distribution"] == "acme-attacks"
    assert listed["attack.pgd"]["distribution"] == "adversarial-benchmark"
    assert not [p["problem"] for p in listed.values() if p["problem"]]

    store = tmp_path / "results"
    small = ["dataset=digits", "model=linear", "training.epochs=1", "examples=20", "tracker=[]"]
    benchmark("run", *small, "attack=acme_signs", f"store.root={store}")
    (path,) = store.glob("cells/*/record.json")
    record = json.loads(path.read_text())
    assert record["status"] == "complete", record["error"]
    assert (record["attack"]["name"], record["attack"]["distribution"]) == ("acme_signs", "acme-attacks")
    assert record["counts"]["total"] == 20

    proof = benchmark("verify", str(store / "cells"), "--store", str(store))
    assert proof.endswith("1 verified, 0 failed, 0 skipped\n")

    site = tmp_path / "site"
    benchmark("leaderboard", "build", "--results", str(store / "cells"), "--out", str(site))
    assert "acme_signs" in "".join(page.read_text() for page in site.rglob("*.html"))
    assert "1 complete" in benchmark("status", "--store", str(store))


def test_the_third_partys_own_tests_pass_and_its_plugins_keep_their_promises(home: Path, tmp_path: Path) -> None:
    """Its test files from a copy of its repository, then the suite that pytest brings by its option alone."""
    theirs = shutil.copytree(ACME, tmp_path / "theirs")
    pytest_ = (home / "bin" / "python", "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist")
    own = run(*pytest_, "tests", cwd=theirs)
    assert " passed" in own
    assert "failed" not in own
    option = run(*pytest_, "-v", "--contract", "dataset.acme_rings", "tests/test_methods.py", cwd=theirs)
    assert "contract[dataset.acme_rings-has_values_in_the_unit_box] PASSED" in option
