"""The page of the classic table: its rows are those of the suite, its published figures those of the source."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from benchmark.errors import RecordError
from tests.house.checkout import ROOT, docs_script
from tests.leaderboard.made_records import made_cell

PAGE = (ROOT / "docs" / "classic-table.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    with docs_script("classic_table") as module:
        yield module


def suite(name: str) -> list[str]:
    """The attacks of a suite."""
    config: Any = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "suite" / f"{name}.yaml"))
    return str(config["hydra"]["sweeper"]["params"]["attack"]).split(",")


def plugin(attack: str) -> str:
    """The plugin that an attack of a suite is a variant of."""
    file = ROOT / "conf" / "attack" / f"{attack}.yaml"
    return str(OmegaConf.to_container(OmegaConf.load(file))["defaults"][0]) if file.is_file() else attack  # type: ignore[index, call-overload]


def rows(text: str, table: int = 0) -> list[list[str]]:
    """The cells of a table, without its head; of a page with several, the first one."""
    parts = re.findall(r"(?:^\|.*\n)+", text, re.M)
    lines = [line for line in parts[table].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_the_rows_of_the_page_are_the_attacks_of_the_suite(script: Any) -> None:
    assert [plugin(attack) for attack in suite("classic_digits")] == list(script.ROWS)
    assert [row[0] for row in rows(PAGE)] == [title for title, _ in script.ROWS.values()]
    assert suite("lenet_mnist") == suite("classic_digits")
    assert [plugin(attack) for attack in suite("googlenet_fashion")] == script.rows_of("googlenet_fashion")
    assert "benchmark run suite=classic_digits" in PAGE


def test_every_number_on_the_page_is_a_share_with_its_interval(script: Any) -> None:
    every = [row for table in range(len(script.TABLES)) for row in rows(PAGE, table)]
    assert len(every) == sum(len(script.rows_of(name)) for name, _ in script.TABLES.values())
    for row in every:
        for value, interval in (row[1:3], row[3:5]):
            low, high = (float(end) for end in interval.split("\N{EN DASH}"))
            assert 0 <= low <= float(value) <= high <= 100


def test_published_figures_are_those_of_the_source(script: Any) -> None:
    by_title = {row[0]: row for row in rows(PAGE)}
    known = {"clean": ("98.58", "100"), "FGSM, 0.3": ("50.9", "99.3"), "semantic: the negative": ("23.3", "64.5")}
    for title, figures in known.items():
        assert tuple(by_title[title][6:8]) == figures
    googlenet = {
        row[0]: row[6] for row in rows(PAGE, list(script.TABLES.values()).index(("googlenet_fashion", "googlenet")))
    }
    assert [googlenet[script.ROWS[name][0]] for name in ("none", "fgsm", "pgd", "deepfool")] == ["98*", "", "18*", "1*"]
    for title, called in script.ROWS.values():
        number = script.published().get((called, 1))
        assert by_title[title][6].rstrip("*") == ("" if number is None else f"{100 * number.value:.4g}")


def made(store: Path, names: list[str]) -> Path:
    """A store of the suite in which the n-th attack breaks 10 n of 100 examples; 5 are wrong without one."""
    place = np.arange(100)
    for count, name in enumerate(names):
        made_cell(
            store,
            clean=place >= 5,
            distance=np.where(place < 5 + 10 * count, 0.2, np.inf),
            attack=name,
            eps="3/10",
            suite="classic_digits@1",
            model="lenet",
        )
    return store


def test_the_table_is_made_of_the_records(script: Any, tmp_path: Path) -> None:
    store = made(tmp_path, list(script.ROWS))
    made_cell(store, clean=np.ones(100, bool), distance=np.full(100, 0.1), eps="3/10", suite="quickstart@1")
    entered = {"eps": "3/10", "suite": "classic_digits@1", "model": "mlp"}
    made_cell(store, clean=np.ones(100, bool), distance=np.full(100, 0.1), **entered)  # type: ignore[arg-type]
    table = rows(script.table(script.records(store)))
    assert [float(row[1]) for row in table] == [95 - 10 * count for count in range(8)]
    assert table[0][2] == "88.8\N{EN DASH}97.8"  # Wilson's interval of 95 of 100
    page = script.filled(PAGE, {script.MARK: script.table(script.records(store))})
    assert rows(page) == table
    assert re.sub(r"\| .*\n", "", page) == re.sub(r"\| .*\n", "", PAGE)
    assert script.records(store, "classic_fashion", "lenet") == {}


def test_a_store_without_the_suite_says_what_is_missing(script: Any, tmp_path: Path) -> None:
    store = made(tmp_path, [name for name in script.ROWS if name != "pgd"])
    with pytest.raises(RecordError, match="has no complete cell of classic_digits for pgd; run the suite first"):
        script.records(store)
