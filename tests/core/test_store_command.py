"""`benchmark store`: broken things are named and made again, and two stores become one without a silent conflict."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from benchmark.cli import main
from benchmark.commands.store import tidy
from benchmark.config.cell import RunConfig
from benchmark.records.store import Store
from benchmark.run import run
from tests.core.cells import plugin, small_config


def _config(root: Path, attack: str = "fgsm") -> RunConfig:
    return small_config(root, examples=16, attack=plugin("attack", attack))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    assert run(_config(root)).status == "complete"
    return root / "results"


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Store:
    shutil.copytree(made, tmp_path / "results")
    return Store(tmp_path / "results")


def _of(store: Store, kind: str) -> Path:
    (folder,) = (p for p in (store.root / kind).iterdir() if p.is_dir() and not p.name.startswith("."))
    return folder


def test_a_whole_store_has_nothing_to_say(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "check", "--store", str(store.root)]) == 0
    assert capsys.readouterr().out == "1 cells and 1 systems: 0 broken, 0 orphaned, 0 left over\n"


@pytest.mark.parametrize(
    ("kind", "name"), [("cells", "outcomes.safetensors"), ("cells", "record.json"), ("systems", "weights.safetensors")]
)
def test_a_flipped_bit_is_found_and_the_next_run_makes_it_again(
    store: Store, capsys: pytest.CaptureFixture[str], kind: str, name: str
) -> None:
    folder = _of(store, kind)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-40] + bytes([whole[-40] ^ 64]) + whole[-39:])
    if name == "record.json":
        (folder / name).write_text((folder / name).read_text().replace('"seed": 0', '"seed": 1'))
    assert main(["store", "check", "--store", str(store.root)]) == 1
    assert f"broken  {folder}: " in capsys.readouterr().out
    assert main(["store", "clean", "--store", str(store.root)]) == 0
    assert "was set aside as .broken-" in capsys.readouterr().err
    assert run(_config(store.root.parent, "fgsm" if kind == "cells" else "noise")).status == "complete"
    if name != "record.json":
        assert (folder / name).read_bytes() == whole
    assert main(["store", "clean", "--store", str(store.root)]) == 0  # what was set aside
    assert main(["store", "check", "--store", str(store.root)]) == 0
    assert not list((store.root / kind).glob(".broken-*"))


def test_leftovers_are_no_cells_and_are_removed(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    (store.root / "cells" / ".old-abc").mkdir()
    (store.root / "cells" / "notes.txt").write_text("litter")
    orphan = store.root / "systems" / ("0" * 24)
    shutil.copytree(_of(store, "systems"), orphan)
    assert len(store.records()) == 1
    assert store.unreadable() == {}
    main(["store", "clean", "--orphans", "--store", str(store.root)])
    assert capsys.readouterr().out.endswith("3 removed\n")
    assert orphan.name not in [p.name for p in (store.root / "systems").iterdir()]


def test_failed_cells_are_dropped_on_request(store: Store) -> None:
    record = store.records()[0]
    path = store.cell(record.key) / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "status": "failed", "files": []}))
    main(["store", "clean", "--store", str(store.root)])
    assert len(store.records()) == 1
    main(["store", "clean", "--failed", "--store", str(store.root)])
    assert store.records() == []


def test_what_an_interrupted_process_left_long_ago_goes_with_the_next_sweep(store: Store) -> None:
    old, new = store.root / "cells" / ".old-a", store.root / "cells" / ".old-b"
    for folder in (old, new):
        folder.mkdir()
    os.utime(old, (time.time() - 7200,) * 2)
    tidy(store)
    assert (old.exists(), new.exists()) == (False, True)


def test_empty_logs_of_wandb_go_and_others_stay(store: Store) -> None:
    long_ago = time.time() - 7200
    for name, content in (("offline-run-1-a", b""), ("offline-run-2-b", b":W&Btr\0"), ("offline-run-3-c", b"x" * 99)):
        folder = store.root / "wandb" / name
        folder.mkdir(parents=True)
        (folder / f"run-{name[-1]}.wandb").write_bytes(content)
        os.utime(folder, (long_ago, long_ago))
    (store.root / "wandb" / "offline-run-4-d").mkdir()
    (store.root / "wandb" / "offline-run-4-d" / "run-d.wandb").touch()  # begun just now
    tidy(store)
    assert sorted(p.name for p in (store.root / "wandb").iterdir()) == ["offline-run-3-c", "offline-run-4-d"]


def test_a_sweep_keeps_the_id_under_which_it_began(store: Store) -> None:
    assert [store.sweep_of("lines", name) for name in ("first", "second")] == ["first", "first"]
    assert store.sweep_of("others", "third") == "third"


def test_merging_takes_what_is_missing_and_names_what_differs(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Store(tmp_path / "other" / "results")
    shutil.copytree(store.root, other.root)
    assert run(_config(tmp_path / "other", "noise")).status == "complete"
    words = ["store", "merge", str(other.root), "--store", str(store.root)]
    assert main(words) == 0
    assert capsys.readouterr().out == "1 copied, 2 there already, 0 in conflict\n"
    assert store.records() == other.records()
    assert main(words) == 0
    record = other.records()[0]
    path = other.cell(record.key) / "outcomes.safetensors"
    content = path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])
    path.write_bytes(content)
    assert main(words) == 1  # a broken cell is not taken
    assert f"conflict  {path.parent} has outcomes.safetensors" in capsys.readouterr().out
    assert (store.cell(record.key) / "outcomes.safetensors").read_bytes() != content


def test_a_store_is_moved(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = store.records()
    assert main(["store", "move", str(tmp_path / "there"), "--store", str(store.root)]) == 0
    assert Store(tmp_path / "there").records() == records
    assert not store.root.exists()
    (tmp_path / "results").mkdir()
    assert main(["store", "move", str(tmp_path / "there"), "--store", str(tmp_path / "results")]) == 2
    assert "benchmark store merge" in capsys.readouterr().err
