"""The page of the worlds: a line for each world, and on linear ones the figures that the project asks of itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from benchmark.oracles.worlds import LINEAR, WORLDS, attack_world
from benchmark.threat import Norm
from tests.house.checkout import ROOT, docs_script
from tests.house.test_oracle_table import table as cells

PAGE = (ROOT / "docs" / "worlds-table.md").read_text(encoding="utf-8")
CURVED = [name for name in WORLDS if name not in LINEAR]


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    with docs_script("worlds_table") as module:
        yield module


def heads(name: str) -> list[str]:
    """The attacks that a table has columns for."""
    line = PAGE.partition(f"<!-- {name} -->\n")[2].splitlines()[0]
    return [head.strip() for head in line.strip("|").split("|")][1:]


def figures(cell: str) -> tuple[float, float]:
    """Median and mean; infinite where an example was lost."""
    if "lost" in cell:
        return float("inf"), float("inf")
    median, mean = cell.split(", ")
    return float(median), float(mean)


@pytest.mark.parametrize("norm", [norm.value for norm in Norm])
def test_every_world_and_every_attack_has_its_place(script: Any, norm: str) -> None:
    measured = [name for name, norms in script.MINIMAL if Norm(norm) in norms]
    for kind, worlds in (("linear", list(LINEAR)), ("curved", CURVED)):
        assert heads(f"{kind}-{norm}") == measured
        assert [row[0].removesuffix(" (best known)") for row in cells(f"{kind}-{norm}", PAGE)] == worlds


@pytest.mark.parametrize("norm", [norm.value for norm in Norm])
def test_no_attack_finds_less_than_the_optimum_and_the_asked_find_it(script: Any, norm: str) -> None:
    for row in cells(f"linear-{norm}", PAGE):
        for attack, cell in zip(heads(f"linear-{norm}"), row[1:], strict=True):
            assert all(float(value) >= 0.9995 for value in re.findall(r"\d+\.\d+", cell)), (row[0], attack)
            if attack in script.ASKED and (attack, norm, row[0]) not in script.MISSED:
                median, mean = figures(cell)
                assert median <= 1.01, (row[0], attack)
                assert mean <= 1.05, (row[0], attack)


def test_what_is_asked_to_be_exact_at_a_radius_is() -> None:
    rows = cells("radius", PAGE)
    assert len(rows) == 3 * len(LINEAR)
    for where, _, exact, apgd, autoattack, *_ in rows:
        assert apgd == autoattack == exact, where


def test_what_is_missed_is_said_on_the_page(script: Any) -> None:
    said = PAGE.partition("## Missed targets")[2]
    for attack, norm, world in script.MISSED:
        assert re.search(rf"`{attack}` under {norm} on [^.]*\b{world}\b", said), (attack, norm, world)


def test_a_ratio_is_of_what_was_found_and_what_is_possible(script: Any) -> None:
    far = torch.tensor([2.0, 3.0, torch.inf, 5.0]).double()
    assert script.ratios(far, torch.tensor([1.0, 2.0, 1.0, torch.inf]).double()).tolist() == [2.0, 1.5, torch.inf]
    assert script.written(torch.tensor([1.0, 1.5, 2.0])) == "1.500, 1.500"
    assert script.written(torch.tensor([1.0, torch.inf])) == "1.000, 1.000 (1 lost)"
    assert script.written(torch.tensor([torch.inf])) == " (1 lost)"


def test_distances_are_those_of_the_attack(script: Any) -> None:
    world = attack_world("small", script.COUNT)
    exact = world.exact(Norm.l2)
    found = script.found(script.attack_of("deepfool"), world, Norm.l2)
    assert exact is not None
    assert torch.allclose(found, exact.double(), rtol=1e-2)
