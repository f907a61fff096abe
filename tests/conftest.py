"""Shared fixtures: third-party distributions, really installed, and a way to run commands beside them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

FIXTURES = Path(__file__).with_name("fixtures")
ACME = Path(__file__).parents[1] / "docs" / "examples" / "third_party"
"""A third party's repository, as the documentation shows it."""

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # in the background of a script; tests interrupt themselves
    signal.signal(signal.SIGINT, signal.default_int_handler)

Runner = Callable[..., "subprocess.CompletedProcess[str]"]


def pip_install(target: Path, packages: Sequence[Path], scratch: Path) -> None:
    """Install distributions into a folder, without the network; sources are copied, so that no build stays in them."""
    copies = [shutil.copytree(package, scratch / package.name) for package in packages]
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-build-isolation", "--no-index", "--target", str(target), *map(str, copies)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def third_parties(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the good distribution and those of tests/fixtures are installed, which are not."""
    packages = [ACME, *sorted(path.parent for path in FIXTURES.glob("*/pyproject.toml"))]
    target = tmp_path_factory.mktemp("third_parties")
    pip_install(target, packages, tmp_path_factory.mktemp("sources"))
    return target


@pytest.fixture(scope="session")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the good distribution alone is installed."""
    target = tmp_path_factory.mktemp("acme")
    pip_install(target, [ACME], tmp_path_factory.mktemp("acme_sources"))
    return target


@pytest.fixture(scope="session")
def run_python(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """Run Python in a process of its own, with a folder of installed distributions on its path, away from the tests."""
    cache, away = tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("away")

    def run(*arguments: str, beside: Path | None = None, cwd: Path = away) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONPATH", None)
        if beside is not None:
            environment["PYTHONPATH"] = str(beside)
        return subprocess.run(
            [sys.executable, *arguments], env=environment, cwd=cwd, capture_output=True, text=True, check=False
        )

    return run
