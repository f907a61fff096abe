"""Sweeps as users run them: resumed, spread over workers, with broken parts among the good ones."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark.records.record import Record, cell_key
from tests.e2e.commands import QUICK, benchmark, environment, files, records

TORCHRUN = [
    *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "benchmark", "run", "-m"),
    *("trainer=multi_node", "trainer.nodes=1", "trainer.devices=2", "trainer.accelerator=cpu"),
]
MATRIX = ("attack=fgsm,pgd", "defense=[],[gaussian_augmentation]", "seed=0,1")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    benchmark(folder, "run", "-m", *MATRIX, *QUICK, "tracker=[console]")
    return folder


def test_eight_cells_train_four_systems_and_end_with_a_leaderboard(uninterrupted: Path) -> None:
    found = records(uninterrupted)
    assert len(found) == 8
    assert {r["status"] for r in found.values()} == {"complete"}
    assert len(list((uninterrupted / "results" / "systems").glob("*/card.json"))) == 4
    assert (uninterrupted / "results" / "leaderboard" / "index.html").is_file()


def test_a_second_time_nothing_is_computed(uninterrupted: Path) -> None:
    kept = [*(uninterrupted / "results" / "cells").rglob("*"), uninterrupted / "results" / "leaderboard" / "index.html"]
    before = {p: p.stat().st_mtime_ns for p in kept}
    done = benchmark(uninterrupted, "run", "-m", *MATRIX, *QUICK, "tracker=[console]")
    assert "8 were in the store already" in done.stdout
    assert {p: p.stat().st_mtime_ns for p in kept} == before
    assert len(list((uninterrupted / "results" / "cells").rglob("*"))) == len(kept) - 1


def test_status_shows_the_matrix(uninterrupted: Path) -> None:
    done = benchmark(uninterrupted, "status")
    assert re.search(r"digits/linear\+gaussian_augmentation  \d+\.\d \(mean of 2\)  \d+\.\d \(mean of 2\)", done.stdout)
    assert done.stdout.endswith("8 complete\n")


def test_every_record_is_proved_again(uninterrupted: Path) -> None:
    done = benchmark(uninterrupted, "verify", "results/cells")
    assert done.stdout.endswith("8 verified, 0 failed, 0 skipped\n")


@pytest.mark.parametrize(
    ("launcher", "seeds"),
    [
        (("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"), 2),
        pytest.param(("hydra/launcher=submitit_local",), 1, marks=pytest.mark.slow),  # a process for each cell
    ],
    ids=["joblib", "submitit"],
)
def test_workers_give_the_same_records_and_a_wandb_run_per_cell(
    uninterrupted: Path, tmp_path: Path, launcher: tuple[str, ...], seeds: int
) -> None:
    matrix = [*MATRIX[:2], "seed=" + ",".join(map(str, range(seeds)))]
    benchmark(tmp_path, "run", "-m", *matrix, *QUICK, "tracker=[wandb]", *launcher)
    found = records(tmp_path)
    assert len(found) == 4 * seeds
    assert found.items() <= records(uninterrupted).items()
    assert files(tmp_path).items() <= files(uninterrupted).items()
    runs = list((tmp_path / "results" / "wandb").rglob("run-*.wandb"))
    assert len([r for r in runs if "training" not in r.name]) == 4 * seeds
    assert len([r for r in runs if "training" in r.name]) == 2 * seeds


@pytest.mark.slow
def test_processes_that_an_outside_launcher_started_share_the_work(tmp_path: Path) -> None:
    words = ["attack=fgsm,pgd", "tracker=[console]", "batch_size=20", *QUICK]
    done = subprocess.run(
        [*TORCHRUN, *words],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("[sweep] 2 cells: 2 complete") == 1  # only the leading process speaks
    found = records(tmp_path)
    assert [r["status"] for r in found.values()] == ["complete", "complete"]
    again = tmp_path / "again"  # the same system, attacked by one process
    again.mkdir()
    (again / "results").mkdir()
    (tmp_path / "results" / "systems").rename(again / "results" / "systems")
    benchmark(again, "run", "-m", *words)
    assert records(again) == found
    assert files(again) == files(tmp_path)


ONE_FAILS = """
import os
from dataclasses import dataclass
from typing import ClassVar

from benchmark import hookimpl
from benchmark.api import Attack, Supports


@dataclass(frozen=True)
class Bad(Attack):
    supports: ClassVar[Supports] = Supports()

    def perturb(self, target, x, y, *, threat, rng):
        if os.environ["RANK"] == "1":
            raise ValueError("no such thing")
        return x.clone()


@hookimpl
def benchmark_component():
    return Bad
"""


@pytest.mark.slow
def test_a_cell_that_fails_in_one_of_several_processes_keeps_none_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "site" / "bad-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[benchmark]\nattack.bad = bad_plugin\n")
    (tmp_path / "site" / "bad_plugin.py").write_text(ONE_FAILS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    words = ["attack=bad,fgsm", "tracker=[console]", "batch_size=60", "retry=failed", *QUICK]

    def done() -> subprocess.CompletedProcess[str]:
        command = [*TORCHRUN, *words]
        return subprocess.run(
            command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=400, check=False
        )

    first = done()
    assert first.returncode == 1
    assert "failed: process 1 of 2 failed: ValueError: no such thing" in first.stdout
    assert "[sweep] 2 cells: 1 complete, 1 failed" in first.stdout
    assert (tmp_path / "results" / "leaderboard" / "index.html").is_file()
    again = done()  # the only batch that is missing is the first process's now
    assert again.returncode == 0, again.stderr
    assert {r["attack"]["name"]: r["status"] for r in records(tmp_path).values()} == {
        "fgsm": "complete",
        "bad": "complete",
    }


def test_one_bad_job_does_not_stop_a_sweep(tmp_path: Path) -> None:
    done = benchmark(
        tmp_path, "run", "-m", "attack=fgsm,nonesuch", "threat=linf_01,l0_10", *QUICK, "tracker=[console]", check=False
    )
    assert done.returncode == 1
    assert "no attack named 'nonesuch'; " in done.stdout
    assert "attack.fgsm perturbs under l1, l2, linf, but threat.norm is l0" in done.stdout
    assert sorted(r["status"] for r in records(tmp_path).values()) == ["complete", "refused"]


def test_settings_of_one_attack_of_a_sweep(tmp_path: Path) -> None:
    words = ("run", "-m", "attack=none,square", *QUICK, "tracker=[console]")
    done = benchmark(tmp_path, *words, "attack.square.queries=9", "attack.edges=true", check=False)
    assert done.returncode == 1
    assert "there is no setting attack.edges." in done.stdout
    assert "include the name: attack.NAME.edges=VALUE" in done.stdout
    (record,) = records(tmp_path).values()
    assert (record["attack"]["name"], record["attack"]["params"]["queries"]) == ("square", 9)
    nowhere = benchmark(tmp_path, *words, "attack.qeries=9", check=False)
    assert nowhere.returncode == 2
    assert nowhere.stderr.startswith("benchmark: there is no setting attack.qeries. ")


def test_a_sweep_in_which_everything_is_refused_says_so_to_the_shell(tmp_path: Path) -> None:
    done = benchmark(tmp_path, "run", "-m", "attack=fgsm", "threat=l0_10,l0_2", *QUICK, "tracker=[]", check=False)
    assert done.returncode == 2


KILLED = """
import os
import signal
from dataclasses import dataclass
from typing import ClassVar

from benchmark import hookimpl
from benchmark.api import Attack, Supports


@dataclass(frozen=True)
class Greedy(Attack):
    supports: ClassVar[Supports] = Supports()

    def perturb(self, target, x, y, *, threat, rng):
        os.kill(os.getpid(), signal.SIGKILL)


@hookimpl
def benchmark_component():
    return Greedy
"""


def test_a_worker_that_is_killed_takes_no_other_cell_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "site" / "greedy-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greedy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[benchmark]\nattack.greedy = greedy_plugin\n")
    (tmp_path / "site" / "greedy_plugin.py").write_text(KILLED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    workers = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    words = ("run", "-m", *workers, "attack=greedy,fgsm,none", *QUICK, "tracker=[console]")
    done = benchmark(tmp_path, *words, check=False)
    assert done.returncode == 1
    assert "[sweep] failed: " in done.stdout
    assert "the process died (signal 9 (SIGKILL)), in each of 2 attempts" in done.stdout
    assert "3 cells: 2 complete, 1 failed" in done.stdout
    states = {r["attack"]["name"]: r["status"] for r in records(tmp_path).values()}
    assert states == {"fgsm": "complete", "none": "complete", "greedy": "failed"}


def test_retry_redoes_what_failed(tmp_path: Path) -> None:
    words = ("run", "-m", "dataset=mnist", "attack=fgsm,none", "store.offline=true", *QUICK, "tracker=[console]")
    first = benchmark(tmp_path, *words, check=False)
    assert first.returncode == 2  # nothing is complete, and a file mends it
    assert first.stdout.count("train-images-idx3-ubyte.gz") >= 2  # all errors, not the first
    status = benchmark(tmp_path, "status", check=False)
    assert status.returncode == 1
    assert "2 failed" in status.stdout
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "results" / "cells").glob("*/record.json")}
    time.sleep(0.01)
    benchmark(tmp_path, *words, check=False)
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    benchmark(tmp_path, *words, "retry=failed", check=False)
    assert all(p.stat().st_mtime_ns > stamp for p, stamp in stamps.items())


def test_a_suite_is_official_until_it_is_changed(tmp_path: Path) -> None:
    words = ("run", "suite=quickstart", "model=mlp", "defense=[]", "attack=fgsm", "threat.eps=1/10", "tracker=[]")
    benchmark(tmp_path, *words)
    benchmark(tmp_path, *words, "attack.loss=margin")
    found = sorted((r["suite"], r["official"]) for r in records(tmp_path).values())
    assert found == [("quickstart@1", False), ("quickstart@1", True)]


def test_another_system_is_entered_under_the_same_rules_which_a_submission_cannot_bend(tmp_path: Path) -> None:
    entered = ("model=linear", "defense=[]", "training.epochs=1")
    benchmark(tmp_path, "run", "suite=quickstart", *entered, "attack=pgd", "threat.eps=1/10", "tracker=[]")
    (record,) = records(tmp_path).values()
    assert (record["official"], record["system"]["model"]) == (True, "linear")
    benchmark(tmp_path, "submit", "results/cells", "--out", "fair.zip", "--name", "A")
    assert "## Can be accepted" in benchmark(tmp_path, "leaderboard", "check", "fair.zip", "--results", "none").stdout
    path = tmp_path / "results" / "cells" / record["key"] / "record.json"
    weaker = json.loads(path.read_text())
    weaker["attack"]["params"]["steps"] = 1
    path.write_text(json.dumps(weaker))
    refused = benchmark(tmp_path, "submit", "results/cells", "--out", "unfair.zip", "--name", "A", check=False)
    assert refused.returncode == 2
    settings_give = cell_key(Record.model_validate(weaker))
    assert f"has the key {record['key']}, but its settings give {settings_give}" in refused.stderr
    weaker["key"] = settings_give  # as a forger would go on
    path.write_text(json.dumps(weaker))
    path.parent.rename(path.parent.with_name(weaker["key"]))
    benchmark(tmp_path, "submit", "results/cells", "--out", "unfair.zip", "--name", "A")
    refused = benchmark(tmp_path, "leaderboard", "check", "unfair.zip", "--results", "none", check=False)
    assert refused.returncode == 1
    assert "calls itself official, but its attack is none of those of quickstart@1" in refused.stdout
