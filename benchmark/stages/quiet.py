"""Silence Lightning's banners, here and in the processes that it spawns."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

__all__ = ["QuietInChild", "quiet_lightning"]

LOGGERS = ("pytorch_lightning", "lightning_fabric", "lightning")
NEEDLESS = (
    ".*does not have many workers.*",  # batches are read whole
    ".*smaller than the logging interval.*",
    ".*Checkpoint directory .* exists and is not empty.*",  # the folder of an interrupted training
    ".*`srun` command is available.*",  # a login node: nobody asked for Slurm
    ".*LeafSpec.*",  # Lightning's own use of torch
    ".*use `self.log\\('score', ..., sync_dist=True\\)`.*",  # every process works out the same score
)


def _silence() -> None:
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in NEEDLESS:
        warnings.filterwarnings("ignore", message=message)


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Suppress banners, and advice that does not apply, inside the block."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        _silence()
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


class QuietInChild:
    """Token sent with the work of a spawned process, which silences that process when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return _quiet_child, ()


def _quiet_child() -> QuietInChild:
    import lightning_fabric  # noqa: F401 - sets the level of its loggers when it is first imported
    import pytorch_lightning  # noqa: F401 - so does this

    _silence()
    return QuietInChild()
