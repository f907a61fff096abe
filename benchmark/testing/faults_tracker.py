"""Trackers that each break one promise, made from a sound one."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from benchmark import hookimpl
from benchmark.api import Tracker

__all__ = ["SoundTracker"]


@dataclass(frozen=True)
class SoundTracker(Tracker):
    """Observes, and does nothing."""

    @hookimpl
    def benchmark_cell_finished(self, plan: Any, record: Any) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class TripsOverFailures(SoundTracker):
    """Expects every cell to have counts."""

    @hookimpl
    def benchmark_cell_finished(self, plan: Any, record: Any) -> None:
        """Read counts that a failed cell does not have."""
        if record.status == "failed":
            raise ValueError(f"no counts in {record.key}")


@dataclass(frozen=True)
class ListensToNobody(Tracker):
    """Implements no hook."""


@dataclass(frozen=True)
class MisspellsAHook(Tracker):
    """Implements a hook that does not exist."""

    @hookimpl
    def benchmark_cell_finnished(self, plan: Any) -> None:
        """Never called."""


@dataclass(frozen=True)
class SeedsWhileObserving(Tracker):
    """Seeds Python's generator when a cell starts."""

    @hookimpl
    def benchmark_cell_started(self, plan: Any) -> None:
        """Set a seed."""
        random.seed(0)
