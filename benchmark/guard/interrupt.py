"""A person's interrupt, told from one that a plugin pretends."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

__all__ = ["Terminated", "let_a_person_through", "listening"]


class Terminated(BaseException):
    """The process was asked to end (SIGTERM)."""


_asked: list[int] = []
"""The signals by which somebody asked for the end of the process."""


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Hear a person: SIGINT is a KeyboardInterrupt, SIGTERM is :class:`Terminated`; asked twice, the process ends.

    Handlers that somebody else has set stay, and threads beside the main one hear nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.getsignal(number) for number in ours}
    taken = [number for number, default in ours.items() if before[number] is default]
    for number in taken:
        signal.signal(number, _hear)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])
        if taken:
            _asked.clear()


def _hear(number: int, frame: object) -> None:
    if _asked:
        os._exit(128 + number)  # asked twice: at once; whatever is under way has its files
    _asked.append(number)
    let_a_person_through(None)


def let_a_person_through(cause: BaseException | None) -> None:
    """Raise what a person asked for; nothing where nobody did, though somebody pretends.

    Without :func:`listening`, an interrupt cannot be told from a pretended one, and is taken for a person's.
    """
    if _asked:
        raise (KeyboardInterrupt if _asked[0] == signal.SIGINT else Terminated) from cause
    if isinstance(cause, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is not _hear:
        raise cause
