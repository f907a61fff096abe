"""Events of a run, as observers are told them: plans, results, galleries and reports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


__all__ = ["CellPlan", "CellResult", "Gallery", "Report", "Series", "SweepSummary", "Table", "TrainingPlan"]


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

    ids, y, clean_label, adv_label: (M,) int64. clean, adv: (M, C, H, W) float32 in [0, 1]. sites, clean_sites,
    adv_sites: labels and answers per site, as outcomes have them; None where an example has one label.
    """

    ids: Tensor
    y: Tensor
    clean: Tensor
    adv: Tensor
    clean_label: Tensor
    adv_label: Tensor
    sites: Tensor | None = None
    clean_sites: Tensor | None = None
    adv_sites: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Arrays by name, without those that are None."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class CellResult:
    """The end of one cell of a sweep.

    cached: it was in the store already. key: "" if it could not be composed. mendable: it failed by something that the
    user can mend, such as a name, a value or a file.
    """

    key: str
    name: str
    status: str
    error: str | None = None
    cached: bool = False
    mendable: bool = False


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
    """Tables, curves and a site made from many cells.

    key: content address of the cells. name: for people. root: the results folder. site: the folder of the leaderboard.
    """

    key: str
    name: str
    root: Path
    site: Path
    tables: tuple[Table, ...]
    series: tuple[Series, ...]


@dataclass(frozen=True)
class CellPlan:
    """A cell that is about to be computed.

    key: its content address. name: for people. config: every setting, plain data. overrides: what the user passed.
    sweep: the id of the sweep, "" outside one. folder: where the record will be. work: where it is made.
    """

    key: str
    name: str
    config: dict[str, Any]
    overrides: tuple[str, ...]
    sweep: str
    folder: Path
    work: Path
