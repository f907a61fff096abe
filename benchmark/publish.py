"""Telling the observers of a run what happened; an observer that fails is named, and nothing else is lost."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from benchmark import GROUP

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.api import Tracker

__all__ = ["CellResult", "Gallery", "Observers", "Report", "Series", "SweepSummary", "Table", "TrainingPlan"]


@dataclass(frozen=True)
class TrainingPlan:
    """A system that is about to be trained.

    key: the system's. name: for people. config: every setting, plain data. epochs: at most.
    sweep: the id of the sweep, "" outside one. folder: where the system will be stored.
    """

    key: str
    name: str
    config: dict[str, Any]
    epochs: int
    sweep: str
    folder: Path


@dataclass(frozen=True)
class Gallery:
    """A few attacked examples by a fixed rule: the first broken ones of the example list, then the first other
    adversarial ones, which were found outside the radius. They are also what `gallery.safetensors` holds.

    ids, y, clean_label, adv_label: (M,) int64. clean, adv: (M, C, H, W) float32 in [0, 1].
    """

    ids: Tensor
    y: Tensor
    clean: Tensor
    adv: Tensor
    clean_label: Tensor
    adv_label: Tensor


@dataclass(frozen=True)
class CellResult:
    """How one cell of a sweep ended. cached: it was in the store already. key: "" if it could not be composed."""

    key: str
    name: str
    status: str
    error: str | None = None
    cached: bool = False


@dataclass(frozen=True)
class SweepSummary:
    """A finished sweep. board: the index page of the leaderboard, or None if none was built."""

    sweep: str
    cells: tuple[CellResult, ...]
    seconds: float
    board: Path | None = None
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Plain numbers and words. name: usable in a path. rows: as long as columns."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float | None, ...], ...]


@dataclass(frozen=True)
class Series:
    """Curves over one axis. lines: (label, xs, ys)."""

    name: str
    x: str
    y: str
    lines: tuple[tuple[str, tuple[float, ...], tuple[float, ...]], ...]


@dataclass(frozen=True)
class Report:
    """What many cells say together.

    key: content address of the cells. name: for people. root: the results folder. site: the folder of the leaderboard.
    """

    key: str
    name: str
    root: Path
    site: Path
    tables: tuple[Table, ...]
    series: tuple[Series, ...]


@dataclass
class Observers:
    """The trackers of a run, each called by itself, so that one that fails does not silence the others."""

    trackers: Sequence[Tracker] = ()
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        from benchmark import hookspecs

        self._managers: list[tuple[str, pluggy.PluginManager]] = []
        for tracker in self.trackers:
            manager = pluggy.PluginManager(GROUP)
            manager.add_hookspecs(hookspecs)
            manager.register(tracker)
            self._managers.append((type(tracker).__name__, manager))

    def tell(self, hook: str, **values: Any) -> None:
        """Call one hook of every tracker; failures are kept in `problems` and printed to standard error."""
        for name, manager in self._managers:
            try:
                getattr(manager.hook, hook)(**values)
            except Exception as error:
                problem = f"tracker {name} failed in {hook}: {type(error).__name__}: {error}"
                self.problems.append(problem)
                sys.stderr.write(f"{problem}; the record is safe\n")
