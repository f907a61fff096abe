"""A cell that is killed at any file operation, or whose files are damaged, ends with the same bytes."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.config.cell import RunConfig
from benchmark.config.schema import Training
from benchmark.errors import StoreError
from benchmark.records.durable import checked_tensors, save_checked
from benchmark.records.store import Store
from benchmark.run import run
from benchmark.stages import training_history
from tests.core.cells import plugin, small_config

VARY = ("seconds", "peak_memory_bytes")


class _Killed(BaseException):
    """The process is gone: nothing of it runs any more."""


@contextmanager
def _killed_at(operation: int | None) -> Iterator[list[str]]:
    """Count what changes files (renames, removals, flushes, new folders), and be killed before one of them."""
    seen: list[str] = []

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            if operation is not None and len(seen) >= operation:
                raise _Killed  # and whatever is tried afterwards fails too
            seen.append(f"{name} {args[0]}")
            return real(*args, **more)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("rename", "replace", "unlink", "rmdir", "mkdir", "fsync"):
            patch.setattr(os, name, counted(name, getattr(os, name)))
        yield seen


def _config(root: Path) -> RunConfig:
    recipe = Training(epochs=2, learning_rate=0.01, selection_attack=plugin("attack", "pgd", steps=2))
    return small_config(root, examples=48, batch_size=16, training=recipe, attack=plugin("attack", "pgd", steps=2))


def _result(root: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The record of the only cell without what may vary, and the bytes beside it."""
    (folder,) = (path for path in (root / "results" / "cells").iterdir() if not path.name.startswith("."))
    record = json.loads((folder / "record.json").read_text())
    del record["provenance"]
    record["cost"] = {name: value for name, value in record["cost"].items() if name not in VARY}
    return record, {path.name: path.read_bytes() for path in sorted(folder.glob("*.safetensors"))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    root = tmp_path_factory.mktemp("whole")
    with _killed_at(None) as seen:
        assert run(_config(root)).status == "complete"
    return root, seen


def test_killed_at_twenty_of_its_file_operations_a_cell_ends_with_the_same_bytes(
    whole: tuple[Path, list[str]], tmp_path: Path
) -> None:
    root, seen = whole
    assert len(seen) > 60
    for at in range(0, len(seen), len(seen) // 20):
        here = tmp_path / str(at)
        with pytest.raises(_Killed), _killed_at(at):
            run(_config(here))
        result = run(_config(here))
        assert result.status == "complete", (seen[at], result.error)
        assert _result(here) == _result(root), seen[at]
        assert Store(here / "results").unfinished() == []
        shutil.rmtree(here)


def test_killed_before_it_clears_up_a_training_leaves_nothing(whole: tuple[Path, list[str]], tmp_path: Path) -> None:
    root, seen = whole
    stored = next(at for at, name in enumerate(seen) if name.startswith("rename") and name.endswith("/final"))
    with pytest.raises(_Killed), _killed_at(stored + 1):
        run(_config(tmp_path))
    (system,) = (tmp_path / "results" / "systems").iterdir()
    assert (tmp_path / "results" / "work" / system.name).is_dir()
    assert run(_config(tmp_path)).status == "complete"
    assert _result(tmp_path) == _result(root)
    assert list((tmp_path / "results" / "work").iterdir()) == []


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 0x10
    path.write_bytes(content)


def test_damaged_leftovers_are_named_and_made_again(
    whole: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, seen = whole
    damaged = set()
    renamed = [(at, name) for at, name in enumerate(seen) if name.startswith("replace")]
    parts = [at for at, name in renamed if ".part-" in name]
    epochs = [at for at, name in renamed if ".history.json" in name]
    for at in parts[0], parts[-1], epochs[-1]:
        here = tmp_path / str(at)
        with pytest.raises(_Killed), _killed_at(at + 1):
            run(_config(here))
        names = ("part-*.safetensors", "best.safetensors", "last.ckpt", "history.json")
        found = [path for name in names for path in (here / "results" / "work").rglob(name)]
        for path in found:
            _flipped(path)
        damaged |= {path.name.partition("-")[0] for path in found}
        assert run(_config(here)).status == "complete"
        assert _result(here) == _result(root)
        said = capsys.readouterr().err
        assert all(str(path) in said for path in found)
    assert damaged == {"part", "best.safetensors", "last.ckpt", "history.json"}


def test_a_cell_whose_files_are_gone_is_made_again(
    whole: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, _ = whole
    here = tmp_path / "here"
    shutil.copytree(root, here)
    (folder,) = (here / "results" / "cells").iterdir()
    (folder / "outcomes.safetensors").write_bytes(b"")
    result = run(_config(here))
    assert (result.status, result.cached) == ("complete", False)
    assert _result(here) == _result(root)
    assert "has outcomes.safetensors of 0 bytes" in capsys.readouterr().err


def test_tensors_have_a_checksum_over_all_that_they_say(tmp_path: Path) -> None:
    path = tmp_path / "part.safetensors"
    tensors = {"x": torch.arange(5.0), "none": torch.zeros(0, 3), "yes": torch.tensor([True])}
    save_checked(tensors, path, {"path": "{}"})
    found, metadata = checked_tensors(path)
    assert metadata == {"path": "{}"}
    assert all(torch.equal(found[name], value) for name, value in tensors.items())
    content = path.read_bytes()
    for at in range(8, len(content), 7):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(StoreError, match="is broken"):
            checked_tensors(path)


def test_a_history_that_was_changed_is_broken(tmp_path: Path) -> None:
    training_history.write_history(tmp_path, [{"epoch": 0.0, "score": 0.5}])
    assert training_history.read_history(tmp_path) == [{"epoch": 0.0, "score": 0.5}]
    file = tmp_path / training_history.HISTORY
    file.write_text(file.read_text().replace("0.5", "0.6"))
    with pytest.raises(StoreError, match="does not match its checksum"):
        training_history.read_history(tmp_path)


def test_deaths_are_counted_and_then_recorded(tmp_path: Path) -> None:
    config = _config(tmp_path)
    store, key = Store(tmp_path / "results"), dataclasses.replace(config, trackers=()).cell_key()
    for _ in range(2):
        with pytest.raises(_Killed), store.lock(key), _note_that_stays(store, key):
            raise _Killed
        assert store.bury("signal 9 (SIGKILL)") == [key]
    result = run(config)
    assert result.status == "failed"
    assert "the process died (signal 9 (SIGKILL)), in each of 2 attempts" in str(result.error)
    again = run(dataclasses.replace(config, retry=type(config.retry).failed))
    assert again.status == "complete"


@contextmanager
def _note_that_stays(store: Store, key: str) -> Iterator[None]:
    store.work(key).mkdir(parents=True, exist_ok=True)
    (store.work(key) / "attempt.json").write_text('{"host": "here", "pid": 1, "begun": 0}')
    yield
