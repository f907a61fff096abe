"""Progress and remaining time: bars and tables at a terminal, plain lines elsewhere."""

from __future__ import annotations

import atexit
import math
import multiprocessing
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from benchmark.api import Tracker, hookimpl
from benchmark.records.summary import figures_of

if TYPE_CHECKING:
    from benchmark.hooks.events import CellPlan, Gallery, SweepSummary, TrainingPlan
    from benchmark.records.card import Card
    from benchmark.records.record import Record

QUIET_SECONDS = 10.0
"""Seconds between progress lines of a stage without a terminal."""

COLORS = {"complete": "green", "failed": "red", "refused": "yellow"}


@dataclass
class _Stage:
    """A running stage: its start, its last output, and its bar if there is one."""

    title: str
    began: float
    spoke: float
    task: TaskID | None = None


@dataclass
class _Screen:
    """Output: at a terminal one bar per stage, elsewhere only printed lines."""

    console: Console
    bars: Progress | None = None
    stages: dict[str, _Stage] = field(default_factory=dict)

    def say(self, tag: str, text: str, style: str = "") -> None:
        """Print one line; `text` is printed verbatim, and not wrapped without a terminal."""
        line = Text(f"[{tag}] ", style="dim" if self.console.is_terminal else "")
        line.append(text, style=style if self.console.is_terminal else "")
        self.console.print(line, soft_wrap=True, highlight=False)

    def advance(self, name: str, title: str, done: int, total: int, values: str = "") -> None:
        """Show `done` of `total` steps of a stage."""
        now = time.monotonic()
        if name not in self.stages:
            self.stages[name] = _Stage(title, now, now)
            if self.console.is_terminal:
                self.stages[name].task = self._progress().add_task(Text(title).markup, total=total, values="")
        stage = self.stages[name]
        if self.bars is not None and stage.task is not None:
            self.bars.update(stage.task, completed=done, total=total, values=values)
        elif done and now - stage.spoke >= QUIET_SECONDS:
            stage.spoke = now
            left = (now - stage.began) / done * (total - done)
            detail = f", {values}" if values else ""
            self.say(name, f"{title}: {done}/{total}{detail}, about {duration(left)} left")

    def close(self) -> None:
        """Remove the bars from the screen."""
        self.stages.clear()
        if self.bars is not None:
            self.bars.stop()
            self.bars = None

    def _progress(self) -> Progress:
        if self.bars is None:
            self.bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(elapsed_when_finished=True),
                TextColumn("{task.fields[values]}", markup=False),
                console=self.console,
                transient=True,
                redirect_stdout=False,  # they belong to the process
                redirect_stderr=False,
            )
            self.bars.start()
            atexit.register(self.bars.stop)  # a run that is broken off must not leave the cursor hidden
        return self.bars


@dataclass(frozen=True)
class ConsoleTracker(Tracker):
    """Report on standard output; each process of a launcher prints its own plain lines."""

    _screens: list[_Screen] = field(default_factory=list, init=False, repr=False, compare=False)
    _titles: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    @hookimpl
    def benchmark_cell_started(self, plan: CellPlan) -> None:
        """Remember the cell to which the following stages belong."""
        self._titles[:] = [plan.name]

    @hookimpl
    def benchmark_progress(self, stage: str, done: int, total: int) -> None:
        """Show a bar per stage of the cell."""
        title = self._titles[0] if self._titles else stage
        self._screen().advance(stage, f"{stage} {title}" if self._screen().console.is_terminal else title, done, total)

    @hookimpl
    def benchmark_cell_finished(self, plan: CellPlan, record: Record, folder: Path, gallery: Gallery | None) -> None:
        """Print one line per cell, and one per finding."""
        screen = self._screen()
        screen.close()
        if record.error and not plan.sweep:
            return  # the command itself says it, on standard error
        told = ", ".join([result_of(record), *figures_of(record, folder)])
        screen.say("cell", f"{plan.name}: {told}", COLORS[record.status] if record.error else "")
        for finding in record.findings:
            if finding.severity != "info":
                screen.say(finding.severity, f"{plan.name}: {finding.name}: {finding.evidence}", "yellow")

    @hookimpl
    def benchmark_training_started(self, training: TrainingPlan) -> None:
        """Print the system about to be trained."""
        how = f"up to {training.epochs} epochs" if training.epochs else "no epochs"
        self._screen().say("train", f"{training.name}: {how}")
        self._screen().advance("train", training.name, 0, training.epochs)

    @hookimpl
    def benchmark_epoch(self, training: TrainingPlan, epoch: int, values: dict[str, float]) -> None:
        """Show the epochs as a bar; they are counted from 0."""
        shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items() if name != "epoch")
        self._screen().advance("train", training.name, epoch + 1, training.epochs, shown)

    @hookimpl
    def benchmark_training_finished(self, training: TrainingPlan, card: Card | None) -> None:
        """Print the clean accuracy of the trained system."""
        screen = self._screen()
        screen.close()
        if card is None:
            screen.say("train", f"{training.name}: training failed", "red")
            return
        clean = percent(card.test_correct / card.test_total) if card.test_total else "not measured"
        screen.say("train", f"{training.name}: clean {clean}, {card.epochs_run} epochs, {duration(card.seconds)}")
        for warning in card.warnings:
            screen.say("warning", f"{training.name}: {warning}", "yellow")

    @hookimpl
    def benchmark_sweep_finished(self, summary: SweepSummary) -> None:
        """Print all cells with every error, the findings, and the location of the leaderboard."""
        screen = self._screen()
        screen.close()
        if screen.console.is_terminal:
            screen.console.print(sweep_table(summary))
        else:
            for cell in summary.cells:
                if cell.status == "complete":
                    continue  # it had a line of its own, or was in the store already
                error = f": {cell.error}" if cell.error else ""
                screen.say("sweep", f"{cell.status}{' (cached)' if cell.cached else ''}: {cell.name}{error}")
        for finding in summary.findings:
            screen.say("finding", finding, "yellow")
        screen.say("sweep", totals_of(summary))
        if summary.board is not None:
            screen.say("sweep", f"leaderboard: {summary.board}")

    def _screen(self) -> _Screen:
        if not self._screens:
            worker = multiprocessing.current_process().name != "MainProcess"
            self._screens.append(_Screen(Console(force_terminal=False if worker else None)))
        return self._screens[0]


def result_of(record: Record) -> str:
    """Result of a cell in one line; without intervals if their metrics are not selected.

    Passes are forward passes per attacked example; those to prepare are forward and backward passes that all share.
    """
    if record.status in ("failed", "refused"):
        return f"{record.status}: {record.error or 'no reason was recorded'}"
    parts: list[str] = []
    within = " top-5" if record.threat.goal == "top5" else ""
    robust, clean, passes = (
        record.metric(name) for name in ("robust_accuracy", "clean_accuracy", "forwards_per_example")
    )
    if robust is not None and robust.value is not None:
        bounds = (
            "" if robust.low is None or robust.high is None else f" ({100 * robust.low:.1f} to {100 * robust.high:.1f})"
        )
        parts.append(f"robust{within} {percent(robust.value)}{bounds}")
    elif record.counts is not None:
        parts.append(f"robust{within} {percent(record.counts.robust_correct / record.counts.total)}")
    if clean is not None and clean.value is not None:
        parts.append(f"clean{within} {percent(clean.value)}")
    elif record.counts is not None:
        parts.append(f"clean{within} {percent(record.counts.clean_correct / record.counts.total)}")
    if record.counts is not None and record.counts.invalid:
        parts.append(f"{record.counts.invalid} of {record.counts.total} candidates invalid")
    if passes is not None and passes.value is not None:
        parts.append(f"{passes.value:.6g} {'pass' if passes.value == 1 else 'passes'}")
    if record.cost is not None:
        shared = record.cost.prepared_forwards + record.cost.prepared_backwards
        if shared:
            parts.append(f"{shared} passes to prepare")
        parts.append(duration(record.cost.seconds))
    return ", ".join(parts) or record.status


def totals_of(summary: SweepSummary) -> str:
    """Number of cells by status."""
    count = len(summary.cells)
    statuses = [cell.status for cell in summary.cells]
    ended = ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(sorted(statuses)))
    cached = sum(cell.cached for cell in summary.cells)
    stored = f"; {cached} {'was' if cached == 1 else 'were'} in the store already" if cached else ""
    return (
        f"{count} cell{'' if count == 1 else 's'}{f': {ended}' if ended else ''}{stored}; {duration(summary.seconds)}"
    )


def sweep_table(summary: SweepSummary) -> Table:
    """Table with one row per cell, including errors."""
    table = Table(title="Cells of the sweep", title_justify="left")
    table.add_column("cell", overflow="fold")
    table.add_column("status")
    table.add_column("error", overflow="fold")
    for cell in summary.cells:
        status = f"{cell.status} (cached)" if cell.cached else cell.status
        table.add_row(Text(cell.name), Text(status, style=COLORS.get(cell.status, "")), Text(cell.error or ""))
    return table


def percent(share: float) -> str:
    """Format a share in [0, 1] as a percentage."""
    return f"{100 * share:.1f} %"


def duration(seconds: float) -> str:
    """Format a duration: 3.2 s, 4 min 10 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = math.floor(seconds + 0.5)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@hookimpl
def benchmark_component() -> type[Tracker]:
    """Registers the tracker."""
    return ConsoleTracker
