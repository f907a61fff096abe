"""Tasks of a real Ray on this machine work at a plan; one is killed, and Ray starts it again."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark.records.store import Store
from tests.e2e.commands import QUICK, benchmark, environment, files, records

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (the extra ray)"),
]

SCRIPT = Path(__file__).parents[2] / "docs" / "examples" / "cluster" / "ray_job.py"
MATRIX = ("attack=fgsm,pgd,noise", "seed=0,1", *QUICK, "tracker=[]")


def test_a_task_that_is_killed_is_started_again_and_nothing_is_lost(tmp_path: Path) -> None:
    shared, serial = tmp_path / "shared", tmp_path / "serial"
    benchmark(serial, "run", "-m", *MATRIX)
    benchmark(shared, "plan", *MATRIX)
    found = {**environment(), "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "HOME": str(tmp_path)}
    found["RAY_worker_niceness"] = "0"  # else its workers wait for everything else that the machine does
    command = [sys.executable, str(SCRIPT), "plan.jsonl", "2"]
    with subprocess.Popen(command, cwd=shared, env=found, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as job:
        store, until = Store(shared / "results"), time.monotonic() + 300
        while not store.attempts():
            if time.monotonic() > until:
                job.kill()
                raise AssertionError("no task has begun a cell")
            time.sleep(0.1)
        cell = next(iter(store.attempts().values()))["pid"]
        task = Path(f"/proc/{cell}/stat").read_text().rpartition(")")[2].split()[1]  # the parent
        os.kill(int(task), signal.SIGKILL)
        said = job.communicate(timeout=300)[0].decode()
    assert job.returncode == 0, said
    assert records(shared) == records(serial)
    assert files(shared) == files(serial)
