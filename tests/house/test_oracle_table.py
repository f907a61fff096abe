"""The page of the exact distances: its rows are those of the suite, and its numbers keep what the project promises."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from benchmark import registry
from benchmark.errors import RecordError
from tests.house.checkout import ROOT, docs_script
from tests.leaderboard.made_records import made_cell

PAGE = (ROOT / "docs" / "oracle-table.md").read_text(encoding="utf-8")
NORMS = ("linf", "l2", "l1", "l0")


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    with docs_script("oracle_table") as module:
        yield module


def table(name: str, text: str = PAGE) -> list[list[str]]:
    """The cells of a table of the page, without its head."""
    made = text.partition(f"<!-- {name} -->\n")[2].partition(f"<!-- end of {name} -->")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in made.splitlines()[2:]]


def declared(*, minimal: bool, norms: tuple[str, ...]) -> set[tuple[str, str]]:
    """(norm, plugin) of the suite's attacks that look for the smallest perturbation, or do not."""
    config: Any = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "suite" / "oracle.yaml"))
    names = [name.partition("_margin")[0] for name in config["hydra"]["sweeper"]["params"]["attack"].split(",")]
    found = {name: registry.load("attack", name).supports for name in names}  # type: ignore[attr-defined]
    return {
        (norm.value, name)
        for name, can in found.items()
        for norm in can.norms
        if can.minimal is minimal and norm.value in norms
    }


@pytest.mark.parametrize(("name", "norms"), [("linear", NORMS), ("network", ("linf", "l1"))])
def test_the_rows_of_the_page_are_the_attacks_of_the_suite(name: str, norms: tuple[str, ...]) -> None:
    assert {(row[0], row[1]) for row in table(name)} == declared(minimal=True, norms=norms)
    at_radius = {(row[0].split()[0], row[1].split(",")[0]) for row in table(f"{name}-radius")}
    assert at_radius == declared(minimal=False, norms=norms)


@pytest.mark.parametrize("name", ["linear", "network"])
def test_no_attack_reports_less_than_the_optimum(name: str) -> None:
    for norm, attack, found, *ratios, _ in [row[:8] for row in table(name)]:
        least, median, mean, worst = (float(value.replace("\N{INFINITY}", "inf")) for value in ratios)
        assert 1 - 1e-4 <= least <= median <= worst, (norm, attack)
        assert least <= mean <= worst
        assert (found.split(" of ")[0] == found.split(" of ")[1]) == np.isfinite(worst)
    for row in table(f"{name}-radius"):
        assert int(row[3]) <= int(row[2]) <= int(row[4]), row


def test_the_page_keeps_what_the_project_asks_of_itself(script: Any) -> None:
    rows = {(row[1], row[0]): row for row in table("linear")}
    for key, (median, mean) in script.ASKED.items():
        found, total = rows[key][2].split(" of ")
        assert found == total, rows[key]
        assert float(rows[key][4]) <= median, rows[key]
        assert mean is None or float(rows[key][5]) <= mean, rows[key]
    exact = [row for row in table("linear-radius") if row[1] in ("apgd, margin_targeted", "autoattack")]
    assert len(exact) == 6
    assert all(row[2] == row[3] for row in exact)


def test_at_every_radius_what_can_be_broken_is() -> None:
    rows = table("radii")
    assert len(rows) == 5 + 4 + 5 + 1
    for where, exact, *counted, _ in rows:
        assert [right for right in counted if right] == [exact] * (1 if where == "l0 1" else 2), where
    known = {"linf 1/10": 311, "linf 1/5": 63, "l2 1/4": 381, "l2 1": 60, "l1 1/2": 388, "l1 3": 46, "l0 1": 341}
    by_radius = {row[0]: row for row in rows}
    for where, right in known.items():  # of 500: the closed form's, tests/core/test_linear_oracle.py
        assert int(by_radius[where][1]) == right
        assert by_radius[where][-1] == "500"


def made(store: Path) -> Path:
    """Ten examples, of which one is wrong without an attack; nine lie 0.1, 0.2 ... 0.9 from the boundary."""
    exact = np.arange(10) / 10
    cell: dict[str, Any] = {"clean": exact > 0, "certified": (exact * (1 - 1e-5)).astype(np.float32)}
    cell |= {"suite": "oracle@1", "eps": "1/2"}
    for model, attack in itertools.product(("nearest_class_mean", "mlp"), ("fmn", "ddn")):
        far = exact * (1.5 if attack == "ddn" else 1.0 + 0.01 * np.arange(10))
        found = np.where((attack == "ddn") & (exact > 0.85), np.inf, far)
        norm = "l2" if attack == "ddn" else "linf"
        made_cell(store, **cell, distance=found, attack=attack, norm=norm, minimal=True, model=model)
    for suite, eps in (("oracle@1", "1/2"), (None, "1/5")):
        radius = {**cell, "suite": suite, "eps": eps, "official": suite is not None, "model": "nearest_class_mean"}
        made_cell(store, **radius, distance=exact, attack="autoattack")
        made_cell(store, **radius, distance=exact, attack="apgd", params={"loss": "margin_targeted"})
    made_cell(store, clean=exact > 0, distance=exact, attack="pgd", suite="oracle@1")  # nothing is known of it
    return store


def test_the_tables_are_made_of_the_records(script: Any, tmp_path: Path) -> None:
    page = script.filled(PAGE, script.tables(script.read(made(tmp_path))))
    ratios = 1.0 + 0.01 * np.arange(1, 10)
    row = ["linf", "fmn", "9 of 9", "1.0100", f"{np.median(ratios):.4f}", f"{ratios.mean():.4f}", "1.0900"]
    assert [cells[:7] for cells in table("linear", page)] == [
        row,
        ["l2", "ddn", "8 of 9", "1.5000", "1.5000", "\N{INFINITY}", "\N{INFINITY}"],
    ]
    assert [cells[-1] for cells in table("linear", page)] == ["1.001, 1.02", "1.05, 1.08"]
    assert table("network", page)[0][:7] == row
    assert table("linear-radius", page)[0][:5] == ["linf 1/2", "apgd, margin_targeted", "4", "4", "10"]
    assert table("radii", page) == [["linf 1/5", "7", "7", "7", "", "10"]]
    assert re.sub(r"\|.*\n", "", page) == re.sub(r"\|.*\n", "", PAGE)


def test_a_store_without_exact_distances_says_what_to_run(script: Any, tmp_path: Path) -> None:
    made_cell(tmp_path, clean=[True], distance=[0.1], suite="oracle@1")
    with pytest.raises(
        RecordError, match=r"no complete cell with exact distances; run the commands of oracle-table\.md"
    ):
        script.read(tmp_path)
