"""Events passed to observers of a run: plans, results, galleries and reports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


__all__ = ["CellPlan", "CellResult", "Gallery", "Report", "Series", "SweepSummary", "Table", "TrainingPlan"]


@dataclass(frozen=True)
class TrainingPlan:
    """A system about to be trained.

    key: the system's. name: display name. config: all settings as plain data. epochs: at most.
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
    """A few attacked examples, selected by a fixed rule; also the content of `gallery.safetensors`.

    The first broken ones of the example list, then the first that are adversarial outside the radius only.

    ids, y, clean_label, adv_label: (M,) int64. clean, adv: (M, C, H, W) float32 in [0, 1]. sites, clean_sites,
    adv_sites: labels and predictions per site, as in outcomes; None where an example has one label.
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
        """Arrays by name, without missing ones."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class CellResult:
    """Result of one cell of a sweep.

    cached: it was in the store already. key: "" if it could not be composed. mendable: it failed by something that the
    user can correct, such as a name, a value or a file.
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
    """Table of plain numbers and strings. name: valid in a path. rows: each as long as `columns`."""

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

    key: content address of the cells. name: display name. root: the results folder. site: the leaderboard's folder.
    """

    key: str
    name: str
    root: Path
    site: Path
    tables: tuple[Table, ...]
    series: tuple[Series, ...]


@dataclass(frozen=True)
class CellPlan:
    """A cell about to be computed.

    key: content address. name: display name. config: all settings as plain data. overrides: as given by the user.
    sweep: the id of the sweep, "" outside one. folder: of the future record. work: of unfinished results.
    """

    key: str
    name: str
    config: dict[str, Any]
    overrides: tuple[str, ...]
    sweep: str
    folder: Path
    work: Path
