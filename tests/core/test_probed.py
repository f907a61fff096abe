"""The probes of a system are made once, and remembered beside it under what they depend on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmark import registry
from benchmark.records.store import Store
from benchmark.run import run
from benchmark.stages import probed, probes
from benchmark.system import System
from tests.core.cells import plugin, small_config


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[System]:
    """The systems that were probed."""
    seen: list[System] = []
    whole = probes.of_system

    def noting(system: System, *arguments: Any, **settings: Any) -> Any:
        seen.append(system)
        return whole(system, *arguments, **settings)

    monkeypatch.setattr(probed, "of_system", noting)
    return seen


def finish(root: Path, attack: str, examples: int = 16) -> Store:
    model = plugin("model", "nearest_class_mean")
    result = run(small_config(root, examples=examples, model=model, attack=plugin("attack", attack)))
    assert result.status == "complete", result.error
    return Store(root / "results")


def remembered(store: Store) -> list[Path]:
    return sorted((store.root / "systems").glob("*/probed-*.json"))


def test_further_cells_of_a_system_do_not_probe_it(tmp_path: Path, made: list[System]) -> None:
    store = finish(tmp_path, "fgsm")
    assert len(made) == len(remembered(store)) == 1
    finish(tmp_path, "deepfool")
    assert len(made) == 1
    finish(tmp_path, "fgsm", examples=17)  # another list
    assert len(made) == len(remembered(store)) == 2


def test_what_was_remembered_is_checked(tmp_path: Path, made: list[System], capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = remembered(finish(tmp_path, "fgsm"))
    text = path.read_text()
    path.write_text(text.replace('"findings": []', '"findings": [1]'))
    assert path.read_text() != text
    finish(tmp_path, "deepfool")
    assert len(made) == 2
    assert path.read_text() == text
    assert "is broken: its content does not match its checksum" in capsys.readouterr().err


def test_code_that_changed_probes_again(tmp_path: Path, made: list[System], monkeypatch: pytest.MonkeyPatch) -> None:
    finish(tmp_path, "fgsm")
    monkeypatch.setattr(registry, "harness_version", lambda _part: "9.9")
    finish(tmp_path, "deepfool")
    assert len(made) == 2
