"""Forgeries: what can be proved of a record is proved, and what is not is on the list.

`BENCHMARK_FORGERIES=500 pytest tests/core/test_forgeries.py -s` tries 500 edits and prints how they were caught.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmark.commands.verify import main as verify
from benchmark.commands.verify import verify_record
from benchmark.errors import BenchmarkError
from benchmark.records.record import read_record
from benchmark.records.store import Store
from benchmark.run import run
from benchmark.threat import Goal, Norm, Region, RegionKind, Threat, parse_eps
from tests.core.cells import plugin, small_config
from tests.core.forgeries import Edit, forged

EDITS = int(os.environ.get("BENCHMARK_FORGERIES", "60"))
EXAMPLES = 40
METRICS = ("clean_accuracy", "robust_accuracy", "attack_success", "distances", "passes", "confidence", "detection",
           "rejection")  # fmt: skip


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """A folder with a store, and the cells in it."""
    root = tmp_path_factory.mktemp("sound")
    np.save(root / "mask.npy", np.arange(64).reshape(8, 8) % 3 > 0)
    metrics = tuple(plugin("metric", name) for name in METRICS)
    pgd, tenth = plugin("attack", "pgd", steps=5), parse_eps("1/10")
    changes = [
        {"attack": pgd, "certifiers": (plugin("certifier", "exact"),)},
        {"attack": plugin("attack", "fmn", steps=10), "threat": Threat(norm=Norm.l2, eps=parse_eps("1/2"))},
        {"attack": pgd, "threat": Threat(eps=parse_eps("1/5"), goal=Goal.least_likely)},
        {"attack": pgd, "threat": Threat(eps=tenth, region=Region(RegionKind.file, path=str(root / "mask.npy")))},
        {"attack": pgd, "defenses": (plugin("defense", "random_transform"),)},
        {"attack": pgd, "defenses": (plugin("defense", "mahalanobis", attack=plugin("attack", "fgsm")),)},
    ]
    keys = [run(small_config(root, metrics=metrics, examples=EXAMPLES, **change)).key for change in changes]
    return root, [Store(root / "results").cell(key) for key in keys]


def prover(root: Path, *, again: int = 0) -> Callable[[Path], str | None]:
    """Verifies a folder, and gives the reason if it is not proved."""

    def reason(folder: Path) -> str | None:
        try:
            verify_record(folder, read_record(folder), Store(root / "results"), root / "data", again=again)
        except BenchmarkError as error:
            return str(error)
        return None

    return reason


def test_sound_cells_are_proved_and_attacked_again(
    sound: tuple[Path, list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    root, cells = sound
    paths = [str(cell) for cell in cells]
    assert verify(paths, str(root / "results"), str(root / "data"), again=EXAMPLES, seed=3) == 0, (
        capsys.readouterr().out
    )
    said = capsys.readouterr().out
    assert said.count("examples attacked again") == len(cells)
    assert "8 certificates" in said
    assert "what a record alone cannot prove: " in said
    assert verify(paths, str(root / "results"), str(root / "data"), distances=True) == 0


def test_forgeries_are_caught_or_on_the_list(sound: tuple[Path, list[Path]], tmp_path: Path) -> None:
    root, cells = sound
    prove, attack = prover(root), prover(root, again=EXAMPLES)
    caught: Counter[str] = Counter()
    missed: list[Edit] = []
    for number in range(EDITS):
        folder = tmp_path / "forged"
        edit = forged(cells[number % len(cells)], folder, number)
        reason = prove(folder)
        if reason is None and edit.proof == "again":
            reason = attack(folder)
            caught["by an attack again"] += reason is not None
        else:
            caught["by verify" if reason else "on the list of what no record proves"] += 1
        if reason is None and edit.proof != "nothing":
            missed.append(edit)
    print(dict(caught))
    assert missed == []
    assert caught["by verify"] > EDITS // 2


@pytest.mark.parametrize("what", ["goal", "region"])
def test_an_unknown_word_is_a_line_and_not_the_end(
    sound: tuple[Path, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    root, cells = sound
    folder = tmp_path / "unknown"
    shutil.copytree(cells[0], folder)
    document = json.loads((folder / "record.json").read_text())
    document["threat"][what] = "moon:3"
    (folder / "record.json").write_text(json.dumps(document))
    assert verify([str(folder), str(cells[1])], str(root / "results"), str(root / "data")) == 1
    said = capsys.readouterr().out
    assert "FAILED   unknown  its threat is unknown to this version: " in said
    assert f"verified {cells[1].name}" in said


def test_a_system_that_is_not_here_leaves_a_record_unproved(
    sound: tuple[Path, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, cells = sound
    assert verify([str(cells[0])], str(tmp_path / "elsewhere"), str(root / "data")) == 1
    assert f"unproved {cells[0].name}  the system " in capsys.readouterr().out


def test_a_mask_beside_the_record_is_what_is_proved(sound: tuple[Path, list[Path]]) -> None:
    root, cells = sound
    (masked,) = (cell for cell in cells if (cell / "mask.safetensors").is_file())
    (root / "mask.npy").rename(root / "moved.npy")
    assert prover(root)(masked) is None
    assert read_record(masked).threat.region.startswith("file:")
    (masked / "mask.safetensors").rename(root / "hidden")
    reason = prover(root)(masked)
    (root / "hidden").rename(masked / "mask.safetensors")
    (root / "moved.npy").rename(root / "mask.npy")
    assert "is missing or does not have the sha256" in str(reason)
