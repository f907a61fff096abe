"""User interrupts, told apart from those that a plugin raises."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

__all__ = ["Terminated", "let_a_person_through", "listening"]


class Terminated(BaseException):
    """Termination of the process was requested by SIGTERM."""


_asked: list[int] = []
"""Signals received so far that request the end of the process."""


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Handle user signals: SIGINT raises KeyboardInterrupt, SIGTERM :class:`Terminated`; a second one ends the process.

    Handlers that were set elsewhere are kept, and nothing is handled outside the main thread.
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
    """Re-raise an interrupt that the user requested; return if a plugin raised it unprompted.

    Without :func:`listening` the two cannot be told apart, and every interrupt counts as the user's, unless SIGINT is
    ignored.
    """
    if _asked:
        raise (KeyboardInterrupt if _asked[0] == signal.SIGINT else Terminated) from cause
    handler = signal.getsignal(signal.SIGINT)  # ignored in the background of a script, where no user can interrupt
    if isinstance(cause, KeyboardInterrupt) and handler is not _hear and handler != signal.SIG_IGN:
        raise cause
