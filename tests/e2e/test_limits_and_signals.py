"""Cells in processes of their own, their limits, and what a person's interrupt and a scheduler's SIGTERM leave."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.commands import QUICK, benchmark, environment, records

SLOW = """
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from benchmark import hookimpl
from benchmark.api import Attack, Supports


@dataclass(frozen=True)
class Slow(Attack):
    supports: ClassVar[Supports] = Supports()

    greed: int = 0

    def perturb(self, target, x, y, *, threat, rng):
        Path("begun").touch()
        held = b"x" * self.greed
        time.sleep(120)
        return x if held is not None else y


@hookimpl
def benchmark_component():
    return Slow
"""


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    info = tmp_path / "site" / "slow-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slow\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[benchmark]\nattack.slow = slow_plugin\n")
    (tmp_path / "site" / "slow_plugin.py").write_text(SLOW)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    return tmp_path


def test_a_cell_beyond_its_memory_fails_and_the_next_is_complete(slow: Path) -> None:
    words = ("attack=slow,fgsm", "attack.slow.greed=3000000000", "cell.memory=2GB", "tracker=[]", *QUICK)
    done = benchmark(slow, "run", "-m", *words, check=False)
    assert done.returncode == 1
    found = {r["attack"]["name"]: (r["status"], r["error"]) for r in records(slow).values()}
    assert found["fgsm"] == ("complete", None)
    assert found["slow"][0] == "failed"
    assert "more than cell.memory allows (2 GB)" in found["slow"][1]


def test_a_cell_beyond_its_time_fails_after_one_attempt(slow: Path) -> None:
    benchmark(slow, "run", "attack=none", "tracker=[]", *QUICK)  # the system is trained outside of the limit
    begun = time.monotonic()
    done = benchmark(slow, "run", "attack=slow", "cell.timeout=20", "tracker=[]", *QUICK, check=False)
    assert done.returncode == 1
    assert time.monotonic() - begun < 110
    assert "it took longer than cell.timeout allows (20 s)" in done.stderr


HEARING = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
"""Runs a command that hears Ctrl-C: a shell's background job, as these tests may be, starts with it ignored."""


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (signal.SIGINT, 130, ("attack=slow",)),
        (signal.SIGTERM, 143, ("attack=slow",)),
        (signal.SIGINT, 130, ("-m", "attack=slow,fgsm")),
        (signal.SIGTERM, 143, ("-m", "attack=slow,fgsm")),
    ],
    ids=["ctrl-c", "sigterm", "ctrl-c in a sweep", "sigterm in a sweep"],
)
def test_the_shell_is_told_by_which_signal_a_run_ended(
    slow: Path, number: int, code: int, words: tuple[str, ...]
) -> None:
    command = [sys.executable, "-c", HEARING, sys.executable, "-m", "benchmark", "run", *words, "tracker=[]", *QUICK]
    process = subprocess.Popen(command, cwd=slow, env=environment(), stderr=subprocess.PIPE, text=True)
    try:
        while not (slow / "begun").exists():
            assert process.poll() is None, "it ended before its attack began"
            time.sleep(0.1)
        process.send_signal(number)
        _, said = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == code
    assert "run the same command again to resume" in said
    assert "Traceback" not in said
    assert records(slow) == {}
    assert len(list((slow / "results" / "work").glob("*/plan.json"))) == 1
