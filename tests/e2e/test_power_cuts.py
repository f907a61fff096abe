"""A file system whose power is cut while a sweep writes to it: what was called complete is there, and it goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.commands import environment

ROOT = Path(__file__).parents[2]


def _unable() -> str:
    """Reason why no power can be cut here; "" if it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux"
    missing = [tool for tool in ("cc", "losetup", "mkfs.ext4", "mount") if shutil.which(tool) is None]
    if missing:
        return f"needs {', '.join(missing)}"
    found = subprocess.run(["losetup", "-f"], capture_output=True, text=True, check=False)
    return "" if found.returncode == 0 else f"needs a loop device: {found.stderr.strip()}"


@pytest.mark.slow
def test_power_cuts_lose_no_complete_cell_and_without_flushes_they_do(tmp_path: Path) -> None:
    if why := _unable():
        pytest.skip(why)
    command = [sys.executable, "-m", "benchmarks.power_cuts", str(tmp_path)]
    for words, code in ((["--cuts", "5"], 0), (["--cuts", "2", "--without-flushes"], 1)):
        done = subprocess.run([*command, *words], cwd=ROOT, env=environment(), capture_output=True, check=False)
        assert done.returncode == code, done.stderr
    cuts, control = (
        [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        for name in ("cuts.jsonl", "control.jsonl")
    )
    assert [cut for cut in cuts if cut["lost"] or cut["again"]] == []
    assert len(cuts) == 5
    assert any(cut["lost"] for cut in control)
