"""Calls in a child process, which report the cause of its death, such as a segmentation fault or lack of memory.

The child is a fork of this process, which must not have computed anything with torch yet: threads do not survive a
fork.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import pickle
import select
import signal
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from benchmark.errors import message_of
from benchmark.guard import Terminated

__all__ = ["AVAILABLE", "ChildDied", "in_child", "signal_name"]

AVAILABLE = sys.platform == "linux"
"""True if calls in a child are possible, which needs a fork that ends with its parent."""

GRACE = 30.0
"""Seconds between the request to terminate a child and its kill."""

LOOK = 0.2
"""Seconds between two checks of a child's memory."""

PR_SET_PDEATHSIG = 1
ASKED_TO_END = {signal.SIGINT, signal.SIGTERM}


class ChildDied(Exception):  # noqa: N818 - it is what happened
    """The child ended before the call did. pid: of the child. final: it was killed for exceeding a limit."""

    def __init__(self, reason: str, pid: int, *, final: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.pid, self.final = reason, pid, final


def in_child(call: Callable[[], Any], *, timeout: float = 0.0, memory: int = 0) -> Any:
    """Call a function in a child process, and return its result or raise its error.

    Args:
        timeout: in seconds; 0 for none. memory: limit of the resident size in bytes; 0 for none.

    Raises:
        ChildDied: if the process ended before the call did.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    parent = os.getpid()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ASKED_TO_END)  # an exception in the hooks of a fork is lost
    child = os.fork()
    if child == 0:
        os.close(reading)
        _be_a_child(call, writing, parent, mask)
    os.close(writing)
    with contextlib.closing(os.fdopen(reading, "rb")) as answers, _ended_with_us(child):
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return _answer(child, answers, timeout, memory)


def _be_a_child(call: Callable[[], Any], writing: int, parent: int, mask: set[Any]) -> NoReturn:
    """Make the call, write the answer, and end without the parent's exit handlers."""
    code = 1
    try:
        _forget_exit_handlers()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.setpgid(0, 0)  # a terminal's interrupt goes to the parent, which passes it on once
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        try:
            answer: tuple[bool, Any] = (True, call())
        except Exception as error:
            answer = (False, error)
        with os.fdopen(writing, "wb") as out:
            out.write(_pickled(answer))
        code = 0
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except Terminated:
        code = 128 + signal.SIGTERM
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        _run_exit_handlers()
        os._exit(code)


def _forget_exit_handlers() -> None:
    """Drop the parent's registered exit handlers, such as the removal of its temporary folders."""
    atexit._clear()
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        finalizer.atexit = False
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]  # those of the child run
    processes = sys.modules.get("multiprocessing.util")
    if processes is not None:
        atexit.register(processes._exit_function)  # which knows its own process by the number


def _run_exit_handlers() -> None:
    """Run exit handlers that libraries registered since the fork, such as the completion of uploads."""
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()


def _pickled(answer: tuple[bool, Any]) -> bytes:
    try:
        content = pickle.dumps(answer)
        pickle.loads(content)  # some errors cannot be made again from what they say of themselves
        return content
    except Exception:
        return pickle.dumps((False, RuntimeError(f"{type(answer[1]).__name__}: {message_of(answer[1])}")))


@contextlib.contextmanager
def _ended_with_us(child: int) -> Iterator[None]:
    """Forward a user's interrupt to the child, and make sure that the child ends."""
    try:
        yield
    except BaseException as error:
        if _reaped(child) is None:
            asked = signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT
            _send(child, asked if isinstance(error, (KeyboardInterrupt, Terminated)) else signal.SIGKILL)
            if not _ends_within(child, GRACE):
                _send(child, signal.SIGKILL)
                _ends_within(child, GRACE)
        raise


def _answer(child: int, answers: Any, timeout: float, memory: int) -> Any:
    """Read the answer of a child until it has ended."""
    begun, content, status = time.monotonic(), b"", None
    while status is None:
        if select.select([answers], [], [], LOOK)[0]:
            piece = os.read(answers.fileno(), 1 << 16)
            content += piece
            if not piece:  # it closed its end: it has answered, or is gone
                status = _waited(child)
                break
        limit = _beyond(child, time.monotonic() - begun, timeout, memory)
        if limit:
            _send(child, signal.SIGKILL)
            _waited(child)
            raise ChildDied(limit, child, final=True)
        status = _reaped(child)
    while piece := os.read(answers.fileno(), 1 << 16) if select.select([answers], [], [], 0)[0] else b"":
        content += piece
    try:
        fine, value = pickle.loads(content)
    except Exception as error:
        raise ChildDied(_reason(status), child) from error
    if not fine:
        raise value
    return value


def _beyond(child: int, seconds: float, timeout: float, memory: int) -> str:
    """Limit that the child exceeded, or ""."""
    if timeout and seconds > timeout:
        return f"it took longer than cell.timeout allows ({timeout:g} s)"
    resident = _resident(child) if memory else 0
    if memory and resident > memory:
        return f"it used {resident / 1e9:.3g} GB of memory, more than cell.memory allows ({memory / 1e9:.3g} GB)"
    return ""


def _resident(child: int) -> int:
    """Resident memory of a process, in bytes."""
    try:
        return int(Path(f"/proc/{child}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def _reason(status: int) -> str:
    """Cause of the end of a process, from its status: "signal 11 (SIGSEGV)", "exit code 3"."""
    if os.WIFSIGNALED(status):
        return signal_name(os.WTERMSIG(status))
    return f"exit code {os.WEXITSTATUS(status)}"


def signal_name(number: int) -> str:
    """Display name of a signal, such as `signal 11 (SIGSEGV)`."""
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def _send(child: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)


_statuses: dict[int, int] = {}
"""Statuses of reaped children, which the operating system reports once."""


def _reaped(child: int) -> int | None:
    """Status of a child that has ended, else None."""
    if child not in _statuses:
        try:
            pid, status = os.waitpid(child, os.WNOHANG)
        except ChildProcessError:
            pid, status = child, 0
        if pid == 0:
            return None
        _statuses[child] = status
    return _statuses[child]


def _waited(child: int) -> int:
    while (status := _reaped(child)) is None:
        time.sleep(0.005)
    return status


def _ends_within(child: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while _reaped(child) is None:
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True
