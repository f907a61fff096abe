"""Every hook: one to register a plugin, the others to observe a run (trackers implement those that they need)."""

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
    """Return the plugin's class. Every plugin module implements this one."""


@hookspec
def benchmark_cell_started(plan: CellPlan) -> None:
    """A cell begins that is not yet in the store. `plan` says which: its key, configuration, sweep and folder."""


@hookspec
def benchmark_training_started(training: TrainingPlan) -> None:
    """A system is about to be trained (never called for a cached one)."""


@hookspec
def benchmark_epoch(training: TrainingPlan, epoch: int, values: dict[str, float]) -> None:
    """An epoch of training ended; `values` are plain floats such as train_loss, select_accuracy."""


@hookspec
def benchmark_training_finished(training: TrainingPlan, card: Card | None) -> None:
    """A system is trained; `card` is None if training failed."""


@hookspec
def benchmark_progress(stage: str, done: int, total: int) -> None:
    """`done` of `total` examples of a stage ("attack", "certify") are finished.

    Inside a batch that takes long, the stage "passes" tells how many forward passes were made, of those that the
    settings of the attack declare for all examples; an attack may well end with fewer.
    """


@hookspec
def benchmark_cell_finished(plan: CellPlan, record: Record, folder: Path, gallery: Gallery | None) -> None:
    """A cell's record is on disk in `folder`, whatever its status; `gallery` has a few images, if it can have any."""


@hookspec
def benchmark_cell_interrupted(plan: CellPlan) -> None:
    """A cell was broken off, as by a person: it has no record, and the same command goes on with it."""


@hookspec
def benchmark_sweep_finished(summary: SweepSummary) -> None:
    """All cells of a sweep are done; called once, in the process that was started by the user."""


@hookspec
def benchmark_report(report: Report) -> None:
    """Somebody asked for a report of many cells: tables, curves and a site, all made from records."""
