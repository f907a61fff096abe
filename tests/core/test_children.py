"""Calls in a child process: answers, errors, limits and deaths."""

from __future__ import annotations

import atexit
import faulthandler
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import ConfigError
from benchmark.sweep.children import AVAILABLE, ChildDied, in_child

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="children need Linux")


def test_answers_and_errors_come_back() -> None:
    assert in_child(lambda: {"pid": os.getpid()})["pid"] != os.getpid()
    with pytest.raises(ConfigError, match="such a setting"):
        in_child(_refused)


def _refused() -> None:
    raise ConfigError("there is no such a setting")


def _fault() -> None:
    faulthandler.disable()  # pytest's, which would print a traceback
    os.kill(os.getpid(), signal.SIGSEGV)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (_fault, "signal 11 (SIGSEGV)"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "signal 9 (SIGKILL)"),
        (lambda: os._exit(3), "exit code 3"),
    ],
    ids=["segmentation fault", "kill", "_exit"],
)
def test_a_death_is_told_by_its_cause(call: Any, reason: str) -> None:
    with pytest.raises(ChildDied) as died:
        in_child(call)
    assert (died.value.reason, died.value.final) == (reason, False)


def test_a_call_beyond_its_time_is_ended_for_good() -> None:
    begun = time.monotonic()
    with pytest.raises(ChildDied, match=r"longer than cell\.timeout allows \(0\.5 s\)") as died:
        in_child(lambda: time.sleep(60), timeout=0.5)
    assert died.value.final
    assert time.monotonic() - begun < 30
    with pytest.raises(ProcessLookupError):
        os.kill(died.value.pid, 0)


def test_a_call_beyond_its_memory_is_ended_for_good() -> None:
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    with pytest.raises(ChildDied, match=r"more than cell\.memory allows") as died:
        in_child(_greedy, memory=resident + 50_000_000)
    assert died.value.final
    assert in_child(os.getpid, memory=resident + 50_000_000) != os.getpid()


def _greedy() -> None:
    kept = b"x" * 1_500_000_000  # more than a child is smaller than its parent: it maps libraries when it needs them
    time.sleep(60)
    assert kept


def test_an_interrupt_is_passed_on_and_leaves_no_child(tmp_path: Path) -> None:
    told = tmp_path / "child"

    def call() -> None:
        told.write_text(str(os.getpid()))
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(60)

    with pytest.raises(KeyboardInterrupt):
        in_child(call)
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)


def test_a_child_ends_with_its_own_exit_handlers_alone(tmp_path: Path) -> None:
    told = tmp_path / "told"
    told.write_text("")
    folder = tempfile.TemporaryDirectory()
    atexit.register(told.write_text, "the parent's handler ran")

    def call() -> str:
        mine = tempfile.TemporaryDirectory()
        keep.append(mine)
        atexit.register((tmp_path / "own").write_text, "ran")
        return mine.name

    keep: list[Any] = []
    try:
        own = in_child(call)
    finally:
        atexit.unregister(told.write_text)
    assert Path(folder.name).is_dir()  # as W&B's, which every later child writes into
    assert told.read_text() == ""
    assert (tmp_path / "own").read_text() == "ran"
    assert not Path(own).exists()
    folder.cleanup()


def test_an_interrupt_at_the_fork_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    fork = os.fork

    def interrupted() -> int:
        child = fork()
        if child:
            os.kill(os.getpid(), signal.SIGINT)
            assert signal.SIGINT in signal.sigpending()  # it waits until the child can be told
        return child

    monkeypatch.setattr("benchmark.sweep.children.os.fork", interrupted)
    with pytest.raises(KeyboardInterrupt):
        in_child(lambda: time.sleep(60))
