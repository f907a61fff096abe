"""Plans, worked at by tasks of which one is killed: nothing is lost, nothing is computed twice to the end."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark.commands import progress
from benchmark.errors import ConfigError
from benchmark.records.plan import Plan, ordered
from benchmark.records.store import Store
from benchmark.sweep.work import Worker
from tests.e2e.commands import QUICK, benchmark, environment, files, records

MATRIX = ("attack=fgsm,pgd,noise", "defense=[],[gaussian_augmentation]", "seed=0,1")
TRACKED = "tracker=[]"


def _task(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "benchmark", "work", "plan.jsonl"]
    return subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.DEVNULL)


def test_a_system_comes_before_its_cells_and_long_cells_before_short_ones() -> None:
    jobs = [(f"{a}{s}", [f"attack={a}", f"seed={s}"]) for s in (0, 1) for a in ("fgsm", "pgd")]
    assert [line.line for line in ordered(jobs, [])] == ["fgsm0", "fgsm1", "pgd0", "pgd1"]
    assert [line.leads for line in ordered(jobs, [])] == [True, True, False, False]


def test_what_is_no_plan_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="write a plan with benchmark plan"):
        Plan.read(tmp_path / "none.jsonl")
    (tmp_path / "odd.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match="is not a plan"):
        Plan.read(tmp_path / "odd.jsonl")


def test_what_cannot_be_begun_is_lost_and_named_and_the_rest_is_taken(tmp_path: Path) -> None:
    lines = ordered([(name, [f"attack={name}"]) for name in ("good", "bad", "dies")], [])
    store = Store(tmp_path)

    def launch(overrides: object) -> None:
        if "attack=bad" in str(overrides):
            raise ValueError("no such thing")
        if "attack=dies" in str(overrides):
            os._exit(7)

    lost = Worker(Plan("s", (), str(tmp_path), "f", lines), store, launch).work()
    assert lost["attack=bad"] == "ValueError: no such thing"
    if sys.platform == "linux":
        assert lost["attack=dies"] == "its process died before the cell started (exit code 7)"
    assert "attack=good" not in lost


@pytest.mark.skipif(sys.platform != "linux", reason="tasks end with their parents on Linux only")
def test_three_tasks_of_which_one_is_killed_give_what_one_sweep_gives(tmp_path: Path) -> None:
    serial, shared = tmp_path / "serial", tmp_path / "shared"
    benchmark(serial, "run", "-m", *MATRIX, *QUICK, TRACKED)
    said = benchmark(shared, "plan", *MATRIX, *QUICK, TRACKED).stdout
    assert said.startswith("12 cells of 4 systems")
    moment = random.Random(5)
    tasks = [_task(shared) for _ in range(2)]
    began = time.monotonic()
    while not list((shared / "results" / "work").glob("*/attempt.json")) and time.monotonic() - began < 60:
        time.sleep(0.05)
    time.sleep(moment.uniform(0.0, 0.5))
    tasks[0].send_signal(signal.SIGKILL)
    tasks.append(_task(shared))  # which joins late
    assert [task.wait(timeout=240) for task in tasks[1:]] == [0, 0]
    assert tasks[0].wait() == -signal.SIGKILL
    assert records(shared) == records(serial)
    assert files(shared) == files(serial)
    assert Store(shared / "results").attempts() == {}
    plan = Plan.read(shared / "plan.jsonl")
    told = progress.summary(plan, Store(shared / "results"))
    assert (told["complete"], told["left"], told["tasks"]) == (12, 0, [])
    assert benchmark(shared, "status", "--plan", "plan.jsonl").stdout.startswith(
        "12 cells: 12 complete\n0 active tasks"
    )
    assert json.loads((shared / "plan.jsonl").read_text().splitlines()[0])["plan"] == 1
