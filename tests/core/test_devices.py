"""Peak resident memory of a process, without that of the process that started it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmark.stages.devices import largest_resident

MADE = """
import subprocess, sys
held = b"x" * (700 << 20)
asked = "from benchmark.stages.devices import largest_resident; print(largest_resident())"
print(subprocess.run([sys.executable, "-c", asked], check=True, capture_output=True, text=True).stdout)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not tell the two apart")
def test_the_memory_of_a_process_is_not_that_of_the_one_which_started_it() -> None:
    done = subprocess.run([sys.executable, "-c", MADE], check=True, capture_output=True, text=True)
    assert 1 << 20 < int(done.stdout) < 600 << 20


def test_memory_that_was_in_use_is_counted() -> None:
    before = largest_resident()
    held = b"x" * (before + (64 << 20))
    assert largest_resident() >= len(held) > before
