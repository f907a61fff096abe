"""Forks of the process inside a call into a plugin: a child that returns from the call would run the sweep twice.

Each fork makes a pipe: the child writes a byte if it returns from the call, and closes the pipe by ending or by
becoming another program. So each child speaks for itself, whatever other children the process has.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import threading
import time

__all__ = ["Mark", "doubled", "mark"]

CHILDREN_PATIENCE = 2.0
"""Seconds that a parent waits until the children of a call have ended or returned from it."""

Mark = tuple[int, int]
"""Process, and the number of children watched so far by this thread."""


class _Thread(threading.local):
    """A thread's forks; a child has only the thread that forked it."""

    def __init__(self) -> None:
        self.calls = 0
        """Calls into plugins that are open; outside of them no fork is watched."""
        self.pipe: tuple[int, int] | None = None
        """Reading and writing end for the fork that is being made."""
        self.watched: list[int] = []
        """Reading ends, one per child."""
        self.told: int | None = None
        """In a child, and in its children: the writing end."""


_thread = _Thread()


def _before() -> None:
    _thread.pipe = None
    if _thread.calls:
        with contextlib.suppress(OSError):  # No file is left to open: the fork goes unwatched.
            _thread.pipe = os.pipe()


def _after_in_parent() -> None:
    if _thread.pipe is not None:
        reading, writing = _thread.pipe
        os.close(writing)
        _thread.watched.append(reading)


def _after_in_child() -> None:
    for reading in _thread.watched:
        os.close(reading)
    _thread.calls, _thread.watched = 0, []
    if _thread.pipe is not None:
        reading, _thread.told = _thread.pipe
        os.close(reading)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)


def mark() -> Mark:
    """Mark of the start of a call; `doubled` ends the call."""
    _thread.calls += 1
    return os.getpid(), len(_thread.watched)


def doubled(since: Mark) -> bool:
    """True if a child that was forked since has returned from the call too; does not return in that child."""
    process, first = since
    if os.getpid() != process:
        with contextlib.suppress(OSError):
            if _thread.told is not None:
                os.write(_thread.told, b"r")
        os._exit(1)
    _thread.calls -= 1
    children = _thread.watched[first:]
    del _thread.watched[first:]
    try:
        return _one_returned(children)
    except OSError:  # The plugin closed files that are not its own.
        return False
    finally:
        for reading in children:
            with contextlib.suppress(OSError):
                os.close(reading)


def _one_returned(children: list[int]) -> bool:
    """True as soon as one child says so; False once all have ended, or after the patience."""
    if not children:
        return False
    until = time.monotonic() + CHILDREN_PATIENCE
    with selectors.DefaultSelector() as selector:
        for reading in children:
            selector.register(reading, selectors.EVENT_READ)
        while selector.get_map() and (left := until - time.monotonic()) > 0.0:
            for key, _ in selector.select(left):
                if os.read(key.fd, 1):
                    return True
                selector.unregister(key.fd)
    return False
