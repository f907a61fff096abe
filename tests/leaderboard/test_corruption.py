"""Mean corruption errors: an example by hand, the baseline, what is left out, and the table on the board."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from benchmark_leaderboard.board import Board
from benchmark_leaderboard.build import build
from benchmark_leaderboard.cells.load import read
from benchmark_leaderboard.ranking.aggregate import aggregate
from benchmark_leaderboard.ranking.corruption import (
    CorruptionErrors,
    corruption_errors,
    mean_corruption_error,
    relative_mean_corruption_error,
)

from tests.leaderboard.made_records import made_cell

N = 100
BASE: dict[str, tuple[int, ...]] = {"fog": (10, 20, 30, 40, 50), "snow": (20, 20, 20, 20, 20)}
OTHER: dict[str, tuple[int, ...]] = {"fog": (10, 10, 10, 20, 25), "snow": (30, 30, 30, 30, 30)}
"""Of 100 examples, how many are wrong at each severity."""


def cells(root: Path, wrong: dict[str, tuple[int, ...]], clean_wrong: int, **system: object) -> None:
    """A cell per family and severity; the first `clean_wrong` examples are wrong without corruption too."""
    place = np.arange(N)
    for kind, counts in wrong.items():
        for severity, count in enumerate(counts, start=1):
            made_cell(
                root,
                clean=place >= clean_wrong,
                distance=np.where(place < count, 0.05, np.inf),
                attack="corruption",
                params={"kind": kind, "severity": severity, "amount": None, "draws": 1},
                access="labels",
                bounded=False,
                backwards=0,
                **system,  # type: ignore[arg-type]
            )


def board(root: Path) -> Board:
    made, problems = read([root / "cells"])
    assert not problems
    (only,) = aggregate(made).boards
    return only


def found(root: Path) -> CorruptionErrors:
    errors = corruption_errors(board(root))
    assert errors is not None
    return errors


def test_the_formula_by_hand() -> None:
    base = {"fog": [0.1, 0.2, 0.3, 0.4, 0.5], "snow": [0.2] * 5}
    other = {"fog": [0.1, 0.1, 0.1, 0.2, 0.25], "snow": [0.3] * 5}
    # fog: 0.75 / 1.5 = 0.5; snow: 1.5 / 1.0 = 1.5; their mean is 1.
    assert mean_corruption_error(other, base) == pytest.approx(1.0)
    assert mean_corruption_error(base, base) == 1.0
    # clean 0.05 and 0.1: fog (0.75 - 0.25) / (1.5 - 0.5) = 0.5; snow (1.5 - 0.25) / (1.0 - 0.5) = 2.5.
    assert relative_mean_corruption_error(other, 0.05, base, 0.1) == pytest.approx(1.5)


def test_families_are_averaged_after_the_division() -> None:
    """AlexNet's figures of the paper make hard families count no more than easy ones: a ratio each."""
    base = {"fog": [0.9] * 5, "snow": [0.1] * 5}
    assert mean_corruption_error({"fog": [0.9] * 5, "snow": [0.2] * 5}, base) == pytest.approx(1.5)


def test_nothing_is_divided_by_zero() -> None:
    assert mean_corruption_error({"fog": [0.1] * 5}, {"fog": [0.0] * 5}) is None
    assert relative_mean_corruption_error({"fog": [0.1] * 5}, 0.1, {"fog": [0.2] * 5}, 0.2) is None
    assert mean_corruption_error({}, {}) is None


def test_errors_of_a_store_are_those_by_hand(tmp_path: Path) -> None:
    cells(tmp_path, BASE, 10)
    cells(tmp_path, OTHER, 5, defenses=("adversarial_training",))
    errors = found(tmp_path)
    assert errors.families == ("snow", "fog")
    assert not errors.complete
    assert errors.baseline is not None
    assert errors.baseline.label == "mlp"
    lines = {line.row.system.defenses[0] if line.row.system.defenses else "": line for line in errors.lines}
    assert lines[""].mce == pytest.approx(1.0)
    assert lines[""].relative == pytest.approx(1.0)
    other = lines["adversarial_training"]
    assert other.mce == pytest.approx(1.0)
    assert other.relative == pytest.approx(1.5)
    assert other.clean.value == pytest.approx(0.05)
    snow, fog = other.families
    assert snow is not None
    assert fog is not None
    assert (snow.value, fog.value) == pytest.approx((0.30, 0.15))
    assert snow.low < 0.3 < snow.high
    assert other.mean is not None
    assert other.mean.value == pytest.approx(0.225)


def test_the_baseline_is_the_undefended_system_with_the_smallest_clean_error(tmp_path: Path) -> None:
    cells(tmp_path, BASE, 10)
    cells(tmp_path, BASE, 4, model="linear")
    cells(tmp_path, BASE, 1, defenses=("adversarial_training",))
    errors = found(tmp_path)
    assert errors.baseline is not None
    assert errors.baseline.system.model == "linear"
    assert not errors.baseline.system.defenses


def test_without_an_undefended_system_nothing_is_divided(tmp_path: Path) -> None:
    cells(tmp_path, BASE, 10, defenses=("adversarial_training",))
    errors = found(tmp_path)
    assert errors.baseline is None
    assert errors.lines[0].mce is None
    assert errors.lines[0].mean is not None


def test_a_family_with_a_missing_severity_is_left_out(tmp_path: Path) -> None:
    cells(tmp_path, {**BASE, "frost": (10, 20, 30, 40)}, 10)
    cells(tmp_path, {"fog": BASE["fog"]}, 10, defenses=("adversarial_training",))
    errors = found(tmp_path)
    assert errors.families == ("snow", "fog")
    partial = errors.lines[-1]
    assert partial.row.system.defenses == ["adversarial_training"]
    assert partial.families[0] is None
    assert partial.mce is None
    assert partial.mean is None


def test_other_attacks_amounts_and_families_are_no_corruption_errors(tmp_path: Path) -> None:
    clean, far = np.ones(N, bool), np.full(N, 0.05)
    for severity in range(1, 6):
        made_cell(tmp_path, clean=clean, distance=far, params={"kind": "fog", "severity": severity})
        for more in ({"kind": "gaussian_blur"}, {"kind": "contrast", "amount": 0.5}, {"kind": "snow", "draws": 2}):
            params = {"severity": severity, "amount": None, "draws": 1, **more}
            made_cell(tmp_path, clean=clean, distance=far, attack="corruption", params=params)
    assert corruption_errors(board(tmp_path)) is None


def test_the_page_shows_the_errors_and_names_the_baseline(tmp_path: Path) -> None:
    cells(tmp_path / "store", BASE, 10)
    cells(tmp_path / "store", OTHER, 5, defenses=("adversarial_training",))
    site = build([tmp_path / "store"], tmp_path / "site").parent
    (page,) = [p for p in site.glob("boards/*.html") if 'id="corruption-errors"' in p.read_text(encoding="utf-8")]
    text = page.read_text(encoding="utf-8")
    table = text.partition('id="corruption-errors"')[2].partition("</table>")[0]
    assert 'data-v="0.225"' in table.replace("0.22499999999999998", "0.225")
    assert "<strong>mlp</strong>, the baseline, and averages over 2 families (the benchmark of" in text
    rows = json.loads(page.with_name(f"{page.stem}-corruptions.json").read_text(encoding="utf-8"))["rows"]
    assert [row["baseline"] for row in rows] == ["mlp", "mlp"]
    assert sorted(round(row["relative_mce"], 6) for row in rows) == [1.0, 1.5]
    markdown = page.with_name(f"{page.stem}-corruptions.md").read_text(encoding="utf-8")
    assert "| 100.0 | 150.0 |" in markdown


def test_a_board_without_corruptions_has_no_such_table(tmp_path: Path) -> None:
    made_cell(tmp_path / "store", clean=np.ones(N, bool), distance=np.full(N, 0.05))
    site = build([tmp_path / "store"], tmp_path / "site").parent
    assert not list(site.glob("boards/*-corruptions.*"))
    assert all("corruption-errors" not in p.read_text(encoding="utf-8") for p in site.glob("boards/*.html"))
