"""The files of the checkout and their syntax trees, for the house rules."""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import MissingPackage

ROOT = Path(__file__).parents[2]
CODE = ("benchmark", "plugins", "conf", "leaderboard", "tests", "docs", "benchmarks")


@contextlib.contextmanager
def optional_packages() -> Iterator[None]:
    """Skip, and name what to install, where a plugin lacks the package that it is a bridge to."""
    try:
        yield
    except MissingPackage as error:
        pytest.skip(str(error))


@functools.cache
def files() -> tuple[Path, ...]:
    """Every file of the checkout that git does not ignore, relative to its top."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        names = [Path(name) for name in listed.stdout.split("\0") if name]
    else:  # an unpacked archive
        places = [ROOT / folder for folder in CODE]
        names = [p.relative_to(ROOT) for place in places for p in place.rglob("*") if "__pycache__" not in p.parts]
        names += [p.relative_to(ROOT) for p in ROOT.glob("*")]
    return tuple(sorted(name for name in names if (ROOT / name).is_file()))


def python_files(*folders: str) -> list[Path]:
    """The Python files under the given top-level folders."""
    return [f for f in files() if f.suffix == ".py" and f.parts[0] in folders]


def tree(file: Path) -> ast.Module:
    """The syntax tree of a file of the checkout."""
    return ast.parse((ROOT / file).read_text(encoding="utf-8"), str(file))


@contextlib.contextmanager
def docs_script(name: str) -> Iterator[Any]:
    """A script of docs/ as a module, imported as it is when it runs: from its folder."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        yield importlib.import_module(name)
    finally:
        sys.path.remove(str(ROOT / "docs"))
        for each in (name, "marked"):
            sys.modules.pop(each, None)


@functools.cache
def project() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
