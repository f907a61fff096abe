"""All hooks: one registers a plugin, the others observe a run (trackers implement those that they need)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

from benchmark import GROUP

if TYPE_CHECKING:
    from benchmark.api import Component
    from benchmark.hooks.events import CellPlan, Gallery, Report, SweepSummary, TrainingPlan
    from benchmark.records.card import Card
    from benchmark.records.record import Record

hookspec = pluggy.HookspecMarker(GROUP)


@hookspec
def benchmark_component() -> type[Component]:  # type: ignore[empty-body]
    """Return the plugin's class. Every plugin module implements this hook."""


@hookspec
def benchmark_cell_started(plan: CellPlan) -> None:
    """Called before a cell is computed that is not in the store; `plan` has key, configuration, sweep and folder."""


@hookspec
def benchmark_training_started(training: TrainingPlan) -> None:
    """Called before a system is trained (never for a cached one)."""


@hookspec
def benchmark_epoch(training: TrainingPlan, epoch: int, values: dict[str, float]) -> None:
    """Called after an epoch of training; `values` are floats by name, such as train_loss, select_accuracy."""


@hookspec
def benchmark_training_finished(training: TrainingPlan, card: Card | None) -> None:
    """Called after a system is trained; `card` is None if training failed."""


@hookspec
def benchmark_progress(stage: str, done: int, total: int) -> None:
    """Called when `done` of `total` examples of a stage ("attack", "certify") are finished.

    Within a long batch, the stage "passes" reports the forward passes made, out of the number that the attack's
    settings imply for all examples; an attack may end with fewer.
    """


@hookspec
def benchmark_cell_finished(plan: CellPlan, record: Record, folder: Path, gallery: Gallery | None) -> None:
    """Called when a cell's record is on disk in `folder`, whatever its status; `gallery` has a few images, if any."""


@hookspec
def benchmark_cell_interrupted(plan: CellPlan) -> None:
    """Called when a cell is interrupted, such as by the user: it has no record; running it again resumes it."""


@hookspec
def benchmark_sweep_finished(summary: SweepSummary) -> None:
    """Called once when all cells of a sweep are done, in the process that the user started."""


@hookspec
def benchmark_report(report: Report) -> None:
    """Called to publish a report of many cells: tables, curves and a site, all made from records."""
