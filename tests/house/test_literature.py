"""docs/literature.md: what it names is here, what is here it names, and what it says is missing is missing."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest
from benchmark_leaderboard.literature.published_numbers import load_published

from benchmark import registry
from tests.house.checkout import ROOT, files, tree

PAGE = (ROOT / "docs" / "literature.md").read_text(encoding="utf-8")
HERE, _, MISSING = PAGE.partition("\n## Not here\n")
ROWS = {
    (kind, name): [cell.strip() for cell in line.split("|")[1:-1]]
    for line in HERE.splitlines()
    for kind, name in re.findall(r"^\| `(\w+)=(\w+)` \|", line)
}
CONTRACT = "contract suite alone"
KINDS = tuple(kind for kind in registry.KINDS if kind != "tracker")
OWN = {(d.kind, d.name) for d in registry.declared() if d.distribution == registry.DISTRIBUTION and d.kind in KINDS}


@functools.cache
def functions_of(file: Path) -> dict[str, str]:
    """The test functions of a file, with their source."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return {
        node.name: ast.get_source_segment(text, node) or ""
        for node in tree(file).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@functools.cache
def docstring(kind: str, name: str) -> str:
    """The docstring of a plugin's module, in one line."""
    (module,) = [d.module for d in registry.declared() if (d.kind, d.name) == (kind, name)]
    file = Path("plugins", *module.split(".")[1:]).with_suffix(".py")
    return " ".join((ast.get_docstring(tree(file)) or "").split())


def test_every_plugin_has_a_row_and_every_row_a_plugin() -> None:
    assert set(ROWS) == OWN, "docs/literature.md and pyproject.toml differ"


@pytest.mark.parametrize(("kind", "name"), sorted(ROWS), ids=str)
def test_the_source_of_a_row_is_that_of_the_plugin(kind: str, name: str) -> None:
    source = ROWS[kind, name][1]
    said = docstring(kind, name)
    if source == "no paper":
        return
    author, dates = re.split(r"\W", source)[0], re.findall(r"\b(?:19|20)\d\d\b|arXiv:[\d.]+\d", source)
    assert dates, f"{source}: a year or a number of arXiv is missing"
    assert author in said, f"{kind}.{name} does not name {author}"
    assert all(date in said for date in dates), f"{kind}.{name} does not name {dates}"


def test_every_test_that_is_named_exists_and_tries_something() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) >= len(ROWS)
    for file, test in named:
        place = Path("tests", file)
        assert place in files(), f"tests/{file} does not exist"
        assert test in functions_of(place), f"tests/{file} has no {test}"
    assert all(re.search(r"`[\w/]+\.py::\w+`", cells[2]) for cells in ROWS.values() if cells[2] != CONTRACT)


@pytest.mark.parametrize(("kind", "name"), sorted(ROWS), ids=str)
def test_the_file_of_its_test_names_the_plugin(kind: str, name: str) -> None:
    if ROWS[kind, name][2] == CONTRACT:
        return
    (file,) = re.findall(r"`([\w/]+\.py)::", ROWS[kind, name][2])
    text = (ROOT / "tests" / file).read_text(encoding="utf-8")
    folder = f"benchmark_plugins.{kind}s"
    own = (ROOT / "plugins" / f"{kind}s" / f"{name}.py").read_text(encoding="utf-8")
    parts = [
        f"{folder}.{name}",
        *(f"{folder}.{part}" for part in re.findall(r"from \.(_\w+) import", own)),
    ]
    said = re.search(rf"""["'=.]{name}["',\].:]""", text) or any(part in text for part in parts)
    assert said, f"tests/{file} names neither {kind}.{name} nor what it is made of"


def test_published_rows_are_sources_of_the_leaderboard() -> None:
    published = {source.key for source in load_published()}
    named = {cells[3].strip("`") for cells in ROWS.values() if cells[3]}
    tables = PAGE.partition("\n## Tables and studies\n")[2].partition("\n## ")[0]
    listed = {line.split("|")[3].strip(" `") for line in tables.splitlines() if line.startswith("| ")}
    assert named <= published
    assert listed - {"published row", ""} == published, "every source of published numbers is a row of the tables"


def test_what_is_missing_is_not_installed_and_has_a_reason() -> None:
    rows = [line.split("|")[1:-1] for line in MISSING.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 20
    for _, _, would_be, reason in rows:
        names = re.findall(r"`(\w+)=(\w+)`", would_be)
        assert names, would_be
        assert not OWN & set(names), f"{would_be} is here now: give it a row above"
        assert reason.strip()
