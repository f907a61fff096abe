"""Processes killed before file operations of a cell and at random moments: every record has the same bytes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.commands import environment

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler")
def test_cells_killed_at_twenty_file_operations_and_twenty_moments_end_with_the_same_bytes(tmp_path: Path) -> None:
    words = ["--kinds", "training", "work", "--points", "10", "--moments", "10"]
    command = [sys.executable, "-m", "benchmarks.kills", str(tmp_path), *words]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    trials = [json.loads(line) for line in (tmp_path / "trials.jsonl").read_text().splitlines()]
    assert sum("point" in trial for trial in trials) == 20
    assert sum("moment" in trial for trial in trials) >= 10, "most runs had ended before they were killed"
    assert [trial for trial in trials if trial["wrong"]] == []
