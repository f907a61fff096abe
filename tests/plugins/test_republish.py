"""Results that were made where there was no W&B reach it from their records; read back from disk."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark import hookimpl
from benchmark.api import Tracker
from benchmark.cli import main
from benchmark.commands.publish import republish
from benchmark.errors import RecordError
from benchmark.hooks.observers import Observers
from benchmark.records.published import Published
from benchmark.records.record import Record
from benchmark.records.store import Store
from benchmark.run import run
from tests.core.cells import plugin, small_config
from tests.leaderboard.made_records import made_cell
from tests.plugins._runs_on_disk import runs_in


@dataclasses.dataclass(frozen=True)
class Listener(Tracker):
    """Remembers what it is told."""

    heard: list[tuple[str, Any]] = dataclasses.field(default_factory=list, compare=False)

    @hookimpl
    def benchmark_cell_started(self, plan: Any) -> None:
        self.heard.append(("started", plan))

    @hookimpl
    def benchmark_training_started(self, training: Any) -> None:
        self.heard.append(("training", training))

    @hookimpl
    def benchmark_epoch(self, training: Any, epoch: int, values: dict[str, float]) -> None:
        self.heard.append(("epoch", (epoch, values)))

    @hookimpl
    def benchmark_training_finished(self, training: Any, card: Any) -> None:
        self.heard.append(("trained", card))

    @hookimpl
    def benchmark_cell_finished(self, plan: Any, record: Record, folder: Path, gallery: Any) -> None:
        self.heard.append(("finished", (record, folder, gallery)))

    def of(self, kind: str) -> list[Any]:
        return [what for name, what in self.heard if name == kind]


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DATA_DIR", "WANDB_DIR", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def test_a_tracker_hears_what_it_would_have_heard(tmp_path: Path) -> None:
    live, later = Listener(), Listener()
    config = small_config(tmp_path, defenses=(plugin("defense", "label_smoothing"),), examples=40)
    result = run(dataclasses.replace(config, trackers=(live,)))
    (told,) = republish([tmp_path / "results" / "cells"], Observers([later]), "again")
    assert (told.key, told.status, told.name) == (result.key, "complete", result.name)
    for kind in ("epoch", "trained"):
        assert later.of(kind) == live.of(kind), kind
    assert len(later.of("epoch")) == 1
    (record, folder, gallery), (first, _, shown) = later.of("finished")[0], live.of("finished")[0]
    assert (record, folder) == (first, Store(tmp_path / "results").cell(result.key))
    assert vars(gallery).keys() == vars(shown).keys()
    for name, value in vars(gallery).items():
        assert value is getattr(shown, name) is None or torch.equal(value, getattr(shown, name))
    (plan,), (was,) = later.of("started"), live.of("started")
    assert (plan.key, plan.name, plan.folder, plan.overrides) == (was.key, was.name, was.folder, was.overrides)
    assert plan.sweep == "again"
    same = set(plan.config) - {"threat"}
    assert {name: plan.config[name] for name in same} == {name: was.config[name] for name in same}


def test_wandb_runs_are_rebuilt_from_records_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "results"
    done = run(small_config(tmp_path, examples=40))
    assert main(["publish", "--tracker", "wandb", str(results / "cells"), "--sweep", "later"]) == 0
    assert capsys.readouterr().out.endswith("1 cells published, 0 problems\n")
    runs = {r.header["job_type"]: r for r in runs_in(results)}
    assert set(runs) == {"cell", "training"}
    cell = runs["cell"]
    record = json.loads((results / "cells" / done.key / "record.json").read_text(encoding="utf-8"))
    assert cell.summary["run_id"] == done.key[:16]
    assert cell.summary["name"] == done.name
    assert cell.header["run_group"] == "later"
    assert cell.summary["summary"]["counts"] == record["counts"]
    assert cell.summary["summary"]["examples/clean"]["count"] > 0
    assert set(cell.artifact("record")) == {"record.json", *(file["path"] for file in record["files"])}
    assert len(runs["training"].history("train_loss")) == 1


def test_what_cannot_be_read_is_named_and_the_rest_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(small_config(tmp_path, examples=20))
    bad = tmp_path / "results" / "cells" / "bad"
    bad.mkdir()
    (bad / "record.json").write_text("{}", encoding="utf-8")
    assert main(["publish", "--tracker", "console", str(tmp_path / "results" / "cells")]) == 1
    said = capsys.readouterr()
    assert "1 cells published, 1 problems" in said.out
    assert "bad/record.json is not a record of schema version 1" in said.err
    with pytest.raises(RecordError, match=r"no record\.json under"):
        republish([tmp_path / "home"], Observers())


@dataclasses.dataclass(frozen=True)
class Dying(Listener):
    """Dies when it is told of its second record."""

    @hookimpl
    def benchmark_cell_finished(self, plan: Any, record: Record, folder: Path, gallery: Any) -> None:
        super().benchmark_cell_finished(plan, record, folder, gallery)
        if len(self.of("finished")) == 2:
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_publisher_goes_on_and_nothing_is_published_twice(tmp_path: Path) -> None:
    for seed in range(3):
        made_cell(tmp_path, clean=[True] * 4, distance=[0.05] * 4, minimal=True, seed=seed)
    paths = [tmp_path / "cells"]
    child = os.fork()
    if child == 0:
        try:
            republish(paths, Observers([Dying()]), tracker="wandb")
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

    def cached(tracker: str, listener: Listener) -> list[bool]:
        return [result.cached for result in republish(paths, Observers([listener]), tracker=tracker)]

    later = Listener()
    assert cached("wandb", later) == [True, False, False]
    assert len(later.of("finished")) == 2
    assert cached("wandb", later) == [True, True, True]
    assert len(later.of("finished")) == 2
    assert cached("", Listener()) == [False, False, False]
    ledger = tmp_path / "published" / "wandb.jsonl"
    ledger.write_text(ledger.read_text(encoding="utf-8")[:-9], encoding="utf-8")  # whoever wrote the last line died
    assert cached("wandb", Listener()) == [True, True, False]
    assert cached("wandb", Listener()) == [True, True, True]


def test_what_a_tracker_failed_on_is_published_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Failing(Listener):
        @hookimpl
        def benchmark_cell_finished(self, plan: Any, record: Record, folder: Path, gallery: Any) -> None:
            raise RuntimeError("rate limit exceeded")

    made_cell(tmp_path, clean=[True] * 4, distance=[0.05] * 4, minimal=True)
    republish([tmp_path], Observers([Failing()]), tracker="wandb")
    assert "rate limit exceeded; the record is safe" in capsys.readouterr().err
    (told,) = republish([tmp_path], Observers([Listener()]), tracker="wandb")
    assert not told.cached


def test_no_more_records_a_minute_than_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        made_cell(tmp_path, clean=[True] * 4, distance=[0.05] * 4, minimal=True, seed=seed)
    words = ["publish", "--tracker", "console", str(tmp_path)]
    begun = time.monotonic()
    assert main([*words, "--rate", "300"]) == 0
    assert time.monotonic() - begun >= 0.4
    assert capsys.readouterr().out.endswith("3 cells published, 0 problems\n")
    assert main(words) == 0
    said = "0 cells published, 3 were before (--again publishes them once more), 0 problems\n"
    assert capsys.readouterr().out.endswith(said)
    with pytest.raises(SystemExit):
        main([*words, "--rate", "0"])
    assert "0 records a minute; expected a positive number" in capsys.readouterr().err


def test_the_ledger_is_read_once_and_what_others_append_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = Published(Store(tmp_path), "wandb"), Published(Store(tmp_path), "wandb")
    parsed: list[bytes] = []
    loads = json.loads

    def counted(line: bytes) -> Any:
        parsed.append(line)
        return loads(line)

    monkeypatch.setattr("benchmark.records.published.json.loads", counted)
    for number in range(40):
        ledger = (mine, other)[number % 2]
        with ledger.once(f"{number}", "a") as new:
            assert new
            ledger.note(f"{number}", "a")
    for number in range(40):
        with mine.once(f"{number}", "a") as new:
            assert not new
    assert len(parsed) < 2 * 41
    with mine.path.open("ab") as file:
        file.write(b'{"key": "torn", "sha')
    with mine.once("torn", "a") as new:
        assert new
        mine.note("torn", "a")
    with other.once("torn", "a") as new:
        assert not new
    mine.path.write_text("")
    with mine.once("1", "a") as new:
        assert new
