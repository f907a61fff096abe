"""Every plugin is declared and loads, every package is in the wheel, and every version is pinned."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmark import registry
from tests.house.checkout import ROOT, files, project, python_files

PROJECT = project()["project"]
ENTRY_POINTS: dict[str, str] = PROJECT["entry-points"]["benchmark"]


def declaration(file: Path) -> tuple[str, str]:
    """The entry point that a file of plugins/ must have."""
    return f"{file.parts[1].removesuffix('s')}.{file.stem}", f"benchmark_plugins.{file.parts[1]}.{file.stem}"


def test_every_file_in_plugins_is_declared() -> None:
    methods = [f for f in python_files("plugins") if len(f.parts) == 3 and not f.name.startswith("_")]
    assert len(methods) >= 30
    missing = [f'"{name}" = "{module}"' for name, module in map(declaration, methods) if name not in ENTRY_POINTS]
    assert not missing, "paste into [project.entry-points.benchmark] of pyproject.toml:\n" + "\n".join(missing)


def test_every_declaration_names_its_own_file() -> None:
    for name, module in ENTRY_POINTS.items():
        kind, _, short = name.partition(".")
        file = Path("plugins") / f"{kind}s" / f"{short}.py"
        assert kind in registry.KINDS, name
        assert (ROOT / file).is_file(), f"{name} is declared in pyproject.toml, and there is no {file}"
        assert declaration(file) == (name, module)


def test_what_is_declared_is_installed() -> None:
    installed = {d.full_name for d in registry.declared() if d.distribution == registry.DISTRIBUTION}
    stale = set(ENTRY_POINTS) ^ installed
    assert not stale, f"{sorted(stale)}: run `pip install -e . --no-deps` after changing entry points"


@pytest.mark.parametrize("name", sorted(ENTRY_POINTS))
def test_every_entry_point_loads(name: str) -> None:
    kind, _, short = name.partition(".")
    assert registry.owner_of(registry.load(kind, short)).full_name == name


def test_every_package_folder_is_in_the_wheel() -> None:
    settings = project()["tool"]["setuptools"]
    renamed = {folder: package for package, folder in settings["package-dir"].items()}
    expected = set()
    for file in python_files("benchmark", "plugins", "conf", "leaderboard"):
        if "templates" in file.parts:
            continue
        expected.add(".".join([renamed[file.parts[0]], *file.parent.parts[1:]]))
    assert set(settings["packages"]) == expected, "the packages list of pyproject.toml is not what is on disk"


def folder_of(package: str, places: dict[str, str]) -> Path:
    """The folder of a package in the checkout."""
    if package in places:
        return ROOT / places[package]
    above, _, name = package.rpartition(".")
    return folder_of(above, places) / name


def test_every_data_file_is_in_the_wheel() -> None:
    settings = project()["tool"]["setuptools"]
    renamed = {folder: package for package, folder in settings["package-dir"].items()}
    for file in files():
        if file.parts[0] not in renamed or file.suffix == ".py" or file.parts[1] == "results":
            continue
        packed = {
            path
            for package, patterns in settings["package-data"].items()
            for pattern in patterns
            for path in folder_of(package, settings["package-dir"]).glob(pattern)
        }
        assert ROOT / file in packed, f"{file} matches no pattern of package-data in pyproject.toml"


def pins() -> dict[str, str]:
    """Name and version of each line of constraints.txt."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line) for line in lines), lines
    return {canonicalize_name(line.partition("==")[0]): line.partition("==")[2] for line in lines}


def test_every_requirement_is_pinned_within_its_range() -> None:
    pinned = pins()
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *extras["test"], *extras["joblib"], *extras["slurm"]]
    for text in [*wanted, *project()["build-system"]["requires"]]:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name != registry.DISTRIBUTION:
            assert name in pinned, f"{text} has no line in constraints.txt"
            assert requirement.specifier.contains(pinned[name]), f"{text} and constraints.txt disagree"
    assert pinned["torch"] == "2.13.0"


def test_extras_have_names_that_every_pip_finds() -> None:
    """Names are normalised: pip before 23.3 does not find the extra `a_b`, which the metadata calls `a-b`."""
    names = list(PROJECT["optional-dependencies"])
    assert names == [canonicalize_name(name) for name in names]
