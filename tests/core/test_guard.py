"""The guard around a call into a plugin: what is left behind is undone and named, and only a person interrupts."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch.overrides import BaseTorchFunctionMode

from benchmark.errors import PluginFault, message_of
from benchmark.guard import forks, guarded


@pytest.fixture
def ignored() -> Iterator[None]:
    """SIGINT is ignored, as in a shell script's background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


def _raised(call: Callable[[], object], *, lasting: bool = False) -> str:
    with pytest.raises(PluginFault) as caught, guarded("the plugin", lasting=lasting):
        call()
    return str(caught.value)


@pytest.mark.usefixtures("ignored")
def test_an_interrupt_is_the_plugins_where_no_user_can_interrupt() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    assert "the plugin raised KeyboardInterrupt(), which ends the process" in _raised(interrupt)


def test_a_replaced_function_is_put_back_and_a_hidden_one_shows_again() -> None:
    def replace() -> None:
        torch.clamp = random.random = torch.Tensor.argmax = None  # type: ignore[assignment]

    clamp, draw, argmax = torch.clamp, random.random, torch.Tensor.argmax
    assert "functions (random.random, torch.Tensor.argmax, torch.clamp)" in _raised(replace)
    assert (torch.clamp, random.random, torch.Tensor.argmax) == (clamp, draw, argmax)


def test_a_mode_of_torch_is_left_even_below_a_default_device() -> None:
    def enter() -> None:
        torch.set_default_device("meta")
        BaseTorchFunctionMode().__enter__()

    assert "function modes of torch (from 0 to 1)" in _raised(enter)
    assert torch._C._len_torch_function_stack() == 0
    assert torch.empty(1).device.type == "cpu"


def test_a_closed_stream_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with os.fdopen(os.dup(1), "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert "standard streams" in _raised(stream.close)
        assert isinstance(sys.stdout, io.TextIOWrapper)
        assert not sys.stdout.closed


def test_files_timers_and_the_mask_are_restored() -> None:
    def change() -> None:
        os.close(1)
        signal.setitimer(signal.ITIMER_REAL, 1000.0)
        os.umask(0o777)

    before, mask = os.fstat(1), os.umask(0o022)
    os.umask(mask)
    of_pytest = signal.setitimer(signal.ITIMER_REAL, 0.0)
    said = _raised(change)
    left = signal.setitimer(signal.ITIMER_REAL, *of_pytest)
    assert all(name in said for name in ("files of the standard streams", "timers", "mask of new files")), said
    assert os.path.samestat(os.fstat(1), before)
    assert left == (0.0, 0.0)
    assert os.umask(mask) == mask


def test_a_child_that_returns_from_the_call_is_ended_there() -> None:
    assert "the plugin forked the process and returned in both" in _raised(os.fork)
    with guarded("the plugin"):
        child = os.fork()
        if child == 0:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_child_that_returns_is_found_beside_others_that_ended_and_nobody_waited_for() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    try:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert "returned in both" in _raised(os.fork)
    finally:
        ended.wait()


def test_a_child_of_a_child_that_returns_is_found() -> None:
    def fork() -> None:
        if os.fork() == 0 and os.fork() != 0:
            os._exit(0)

    assert "returned in both" in _raised(fork)


def test_a_child_that_returns_late_is_ended_and_blamed_on_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "CHILDREN_PATIENCE", 0.05)
    told, late = os.pipe()
    with guarded("the first plugin"):
        child = os.fork()
        if child == 0:
            os.read(told, 1)
    with guarded("another plugin"):
        os.write(late, b"x")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    os.close(told)
    os.close(late)


def test_no_file_of_a_watched_fork_is_left_open() -> None:
    before = len(list(Path("/dev/fd").iterdir()))
    with guarded("the plugin"):
        for _ in range(3):
            if (child := os.fork()) == 0:
                os._exit(0)
            os.waitpid(child, 0)
    assert "returned in both" in _raised(os.fork)
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_a_thread_that_goes_on_is_named_where_it_counts() -> None:
    end = threading.Event()
    try:
        with guarded("a tracker"):
            threading.Thread(target=end.wait, name="uploads").start()
        assert "threads of Python (still running: planted)" in _raised(
            threading.Thread(target=end.wait, name="planted").start, lasting=True
        )
    finally:
        end.set()


def test_an_error_without_a_message_has_a_sentence() -> None:
    class SpeechlessError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert message_of(SpeechlessError()) == "no message: asking for it raised RuntimeError"
