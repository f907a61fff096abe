"""Forks of the process inside a call into a plugin: a child that returns from the call would run the sweep twice."""

from __future__ import annotations

import mmap
import os
import time

__all__ = ["Mark", "doubled", "mark"]

CHILDREN_PATIENCE = 2.0
"""Seconds that a parent waits until its new children have ended or returned from the call."""

_forks: list[int] = []
"""An entry for each fork of this process."""

_returned = mmap.mmap(-1, 1)
"""Shared by all children: 1 once one has returned."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_parent=lambda: _forks.append(os.getpid()))

Mark = tuple[int, int]
"""Process, and its number of forks so far."""


def mark() -> Mark:
    """Mark of the start of a call."""
    return os.getpid(), len(_forks)


def doubled(since: Mark) -> bool:
    """True if a child that was forked since has returned from the call too; does not return in that child."""
    process, forks = since
    if os.getpid() != process:
        _returned[0] = 1
        os._exit(1)
    until = time.monotonic() + CHILDREN_PATIENCE
    while len(_forks) > forks and not _returned[0] and _has_children() and time.monotonic() < until:
        time.sleep(0.001)
    found = bool(_returned[0])
    _returned[0] = 0
    return found


def _has_children() -> bool:
    """True if all children are running; none is reaped, since others may wait for it."""
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except (ChildProcessError, AttributeError):
        return False
