"""Outcomes of an attack that shows a trigger, as a submission: which arrays they have, and what must hold in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_leaderboard.review.check_cell import checked_cell
from benchmark_leaderboard.review.check_trigger import optional_arrays, poison_rules, to_attack
from benchmark_plugins.attacks.trigger import Trigger
from benchmark_plugins.poisons.patch_trigger import PatchTrigger
from safetensors.numpy import load_file, save_file

from benchmark.errors import RecordError
from benchmark.records.document import to_text
from benchmark.records.durable import file_sha256
from benchmark.records.outcomes import OUTCOMES
from benchmark.records.record import read_record
from benchmark.records.store import Store
from benchmark.run import run
from tests.core.cells import small_config

Arrays = dict[str, Any]


def test_only_an_attack_that_shows_a_trigger_brings_its_arrays() -> None:
    assert optional_arrays("trigger", {}) == {"triggered": "I64", "aimed": "I64"}
    assert optional_arrays("pgd", {"triggered": 0, "aimed": 0}) == {}
    assert optional_arrays("pgd", {"certified_rows": 0}) == {"certified_rows": "I64"}


def test_what_is_attacked_and_what_must_hold_of_a_trigger() -> None:
    a = {
        "y": np.array([0, 1, 2, 3]),
        "clean_correct": np.array([True, True, True, False]),
        "broken": np.array([False, True, False, False]),
        "adv_label": np.array([0, 0, 1, 1]),
        "triggered": np.array([0, 0, 1, -1]),
        "aimed": np.array([-1, 0, 0, 0]),
        "certified_rows": np.array([3, 0, 1, 0]),
    }
    assert to_attack(a).tolist() == [False, True, True, False]
    assert to_attack({"clean_correct": a["clean_correct"]}).tolist() == [True, True, True, False]
    assert all(holds.all() for holds in poison_rules(a).values())
    for name, at, value in (("aimed", 1, 1), ("aimed", 0, -2), ("triggered", 2, -2), ("adv_label", 1, 2)):
        spoilt = {**a, name: a[name].copy()}
        spoilt[name][at] = value
        assert sum(not holds.all() for holds in poison_rules(spoilt).values()) >= 1, name
    for at, value in ((0, -1), (3, 2)):
        spoilt = {**a, "certified_rows": a["certified_rows"].copy()}
        spoilt["certified_rows"][at] = value
        assert [fault for fault, holds in poison_rules(spoilt).items() if not holds.all()] == [
            "a negative number of certified training rows, or some for a misclassified input"
        ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = small_config(
        tmp_path_factory.mktemp("trigger"), attack=Trigger(), poisons=(PatchTrigger(size=2, rate=0.3),), examples=80
    )
    result = run(config)
    assert result.status == "complete", result.error
    return Store(Path(config.store.root)).cell(result.key)


def spoil(folder: Path, out: Path, change: Callable[[Arrays], object]) -> Path:
    """A copy of the cell with other outcomes, whose hash fits."""
    copy = out / folder.name
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    arrays = dict(load_file(copy / OUTCOMES))
    change(arrays)
    save_file(arrays, copy / OUTCOMES)
    record = read_record(copy)
    files = [
        f.model_copy(update={"sha256": file_sha256(copy / OUTCOMES), "bytes": (copy / OUTCOMES).stat().st_size})
        if f.path == OUTCOMES
        else f
        for f in record.files
    ]
    (copy / "record.json").write_text(to_text(record.model_copy(update={"files": files})), encoding="utf-8")
    return copy


def test_a_cell_of_a_trigger_passes_as_it_was_made(folder: Path) -> None:
    assert checked_cell(folder).record.attack.name == "trigger"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda a: a.pop("aimed"), "has other arrays than expected: 'aimed'"),
        (lambda a: a["aimed"].__setitem__(a["attacked"].argmax(), -1), "was attacked although misclassified, or not"),
        (
            lambda a: a["aimed"].__setitem__(a["attacked"], a["y"][a["attacked"]]),
            "a target label of the trigger that is the true one",
        ),
    ],
)
def test_a_cell_that_hides_examples_is_refused(
    folder: Path, tmp_path: Path, change: Callable[[Arrays], object], sentence: str
) -> None:
    with pytest.raises(RecordError, match=sentence):
        checked_cell(spoil(folder, tmp_path, change))
