"""The store: whole or not at all, one worker at a time, forgetful of what has changed."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
import time
from pathlib import Path

import pytest

from benchmark.commands import status
from benchmark.errors import StoreError
from benchmark.records.record import read_record
from benchmark.records.store import Store
from benchmark.run import run
from tests.core.cells import small_config


def test_a_record_that_cannot_be_read_is_computed_again(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    key = run(config).key
    path = Store(tmp_path / "results").cell(key) / "record.json"
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    assert Store(tmp_path / "results").record(key) is None
    assert not run(config).cached
    assert read_record(path).status == "complete"


def test_status_shows_a_record_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path)
    (store.cell("k")).mkdir(parents=True)
    (store.cell("k") / "record.json").write_text("{")
    assert status.main(tmp_path) == 1
    said = capsys.readouterr().out
    assert f"unreadable  k: {store.cell('k') / 'record.json'} is not a record of schema version 1" in said
    assert said.endswith("1 unreadable\n")
    assert status.main(tmp_path, as_json=True) == 1
    assert list(json.loads(capsys.readouterr().out)["unreadable"]) == ["k"]


def test_status_names_a_system_whose_card_is_gone_or_garbled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    for key in ("gone", "garbled", ".old-one"):
        store.system(key).mkdir(parents=True)
    (store.system("garbled") / "card.json").write_text('{"key": "garb')
    assert status.main(tmp_path) == 1
    said = capsys.readouterr().out
    assert f"unreadable  garbled: {store.system('garbled') / 'card.json'} cannot be read" in said
    assert f"unreadable  gone: {store.system('gone') / 'card.json'} is missing" in said
    assert said.endswith("2 unreadable\n")


def test_a_store_of_somebody_else_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cells").mkdir()

    def closed(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(StoreError, match=r"cannot be read \(Permission denied: .*cells\); ask its owner for access"):
        status.main(tmp_path)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_the_umask_decides_who_may_read(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        run(small_config(tmp_path, examples=8))
    finally:
        os.umask(before)
    files = [path for name in ("cells", "systems", "index") for path in (tmp_path / "results" / name).rglob("*.*")]
    assert len(files) >= 5
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in files} == {oct(mode)}


def test_a_folder_appears_whole_and_replaces_an_older_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for text in ("old", "new"):
        source = store.scratch("k", {"key": "k"})
        (source / "record.json").write_text(text)
        store.put(source, store.cell("k"))
        assert not source.exists()
    assert (store.cell("k") / "record.json").read_text() == "new"
    assert [p.name for p in (tmp_path / "cells").iterdir()] == ["k"]


def test_the_index_forgets_when_an_input_changes(tmp_path: Path) -> None:
    store, data = Store(tmp_path), tmp_path / "weights.safetensors"
    data.write_bytes(b"one")
    store.remember("line", "key", [data])
    assert store.recall("line") == "key"
    data.write_bytes(b"other")
    assert store.recall("line") is None
    assert store.recall("another line") is None
    (tmp_path / "index" / "line.json").write_text("{}")
    assert store.recall("line") is None


def _hold(root: str, log: str) -> None:
    with Store(Path(root)).lock("key"):
        with Path(log).open("a") as stream:
            stream.write("in ")
        time.sleep(0.1)
        with Path(log).open("a") as stream:
            stream.write("out ")


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    log = tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_hold, args=(str(tmp_path), str(log))) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert log.read_text() == "in out " * 3


def test_what_was_interrupted_is_listed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.scratch("k", {"kind": "cell", "key": "k", "name": "a cell", "overrides": ["seed=1"]})
    (note,) = store.unfinished()
    assert note == json.loads((store.work("k") / "plan.json").read_text())
