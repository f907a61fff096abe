"""Weights & Biases: one run per cell and one per training, offline without a key (https://docs.wandb.ai).

Runs are stored in `wandb/` of the results folder, next to the records that they show. A run's id is derived from the
key of its cell or system, so that records need no reference to runs, and publishing a cell again replaces its run.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from benchmark.api import Tracker, hookimpl
from benchmark.errors import BenchmarkError

if TYPE_CHECKING:
    from benchmark.hooks.events import CellPlan, Gallery, Report, SweepSummary, TrainingPlan
    from benchmark.records.card import Card
    from benchmark.records.record import Record


PATIENCE = 90.0
"""Seconds that W&B's service may take to start; W&B itself waits for 30."""


class Mode(Enum):
    """auto: online if an API key is configured (and WANDB_MODE does not override it), else offline."""

    auto = "auto"
    offline = "offline"
    online = "online"


@dataclass(frozen=True)
class WandbTracker(Tracker):
    """Publish cells and trainings as runs, grouped by the id of their sweep.

    mode: whether runs are uploaded immediately; offline runs are uploaded later by `wandb sync`.
    project, entity: destination of the runs; an empty entity is the account's default.
    """

    environment: ClassVar[tuple[str, ...]] = ("WANDB_",)

    mode: Mode = Mode.auto
    project: str = "adversarial-benchmark"
    entity: str = ""
    _open: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @hookimpl
    def benchmark_cell_started(self, plan: CellPlan) -> None:
        """Open the cell's run, so that an unfinished cell is visible."""
        self._cell_run(plan)

    @hookimpl
    def benchmark_cell_finished(self, plan: CellPlan, record: Record, folder: Path, gallery: Gallery | None) -> None:
        """Log numbers, table, curve, images and files of the cell; the run of a failed cell ends as failed."""
        from ._wandb_views import curve_of, images, result_table, summary_of_cell

        run = self._cell_run(plan)
        exit_code = 1
        try:
            run.tags = (*(run.tags or ()), record.status)
            for eps, accuracy in curve_of(record, folder):
                run.log({"curve_eps": eps, "robust_accuracy_at_eps": accuracy})
            with _staged_inside(run):
                run.log({"results": result_table(record), **images(gallery)})
                self._log_files(run, record, folder)
            run.summary.update(summary_of_cell(record))
            exit_code = int(record.status == "failed")
        finally:
            self._finish(plan.key, exit_code)

    @hookimpl
    def benchmark_cell_interrupted(self, plan: CellPlan) -> None:
        """End the run of an interrupted cell as failed; it resumes under the same id."""
        if plan.key in self._open:
            self._finish(plan.key, 1)

    @hookimpl
    def benchmark_training_started(self, training: TrainingPlan) -> None:
        """Open the run of a training."""
        self._training_run(training)

    @hookimpl
    def benchmark_epoch(self, training: TrainingPlan, epoch: int, values: dict[str, float]) -> None:
        """Log one row of the training's history."""
        row = {name: float(value) for name, value in values.items()}
        self._training_run(training).log({**row, "epoch": epoch})

    @hookimpl
    def benchmark_training_finished(self, training: TrainingPlan, card: Card | None) -> None:
        """Log the system's card as summary; the run of a failed training ends as failed."""
        from ._wandb_views import summary_of_training

        run = self._training_run(training)
        exit_code = 1
        try:
            if card is not None:
                run.summary.update(summary_of_training(card))
                exit_code = 0
        finally:
            self._finish(training.key, exit_code)

    @hookimpl
    def benchmark_sweep_finished(self, summary: SweepSummary) -> None:
        """End open runs as failed: their cell or training was interrupted."""
        for key in list(self._open):
            self._finish(key, 1)

    @hookimpl
    def benchmark_report(self, report: Report) -> None:
        """Log one run with a table per board, the curves, and the site as an artifact."""
        import wandb

        from ._wandb_views import charts_of, tables_of

        run = self._start(report, report.root, run_id=f"{report.key[:16]}-report", job_type="report", config={})
        exit_code = 1
        try:
            with _staged_inside(run):
                run.log({**tables_of(report), **charts_of(report)})
                artifact = wandb.Artifact(f"leaderboard-{report.key}", type="leaderboard")
                for file in sorted(path for path in report.site.resolve().rglob("*") if path.is_file()):
                    artifact.add_file(str(file), name=file.relative_to(report.site.resolve()).as_posix())
                run.log_artifact(artifact)
            exit_code = 0
        finally:
            self._finish(report.key, exit_code)

    # --- runs ---

    def _cell_run(self, plan: CellPlan) -> Any:
        if plan.key not in self._open:
            config = {**plan.config, "key": plan.key, "sweep": plan.sweep, "overrides": list(plan.overrides)}
            root = plan.folder.resolve().parent.parent
            run = self._start(plan, root, run_id=plan.key[:16], job_type="cell", config=config, sweep=plan.sweep)
            run.define_metric("curve_eps", hidden=True, summary="none")
            run.define_metric("robust_accuracy_at_eps", step_metric="curve_eps", summary="none")
        return self._open[plan.key]

    def _training_run(self, training: TrainingPlan) -> Any:
        if training.key not in self._open:
            config = {**training.config, "key": training.key, "sweep": training.sweep, "epochs": training.epochs}
            root = training.folder.resolve().parent.parent
            run_id = f"{training.key[:16]}-training"
            run = self._start(training, root, run_id=run_id, job_type="training", config=config, sweep=training.sweep)
            run.define_metric("epoch", hidden=True)
            run.define_metric("*", step_metric="epoch")
        return self._open[training.key]

    def _start(
        self,
        plan: CellPlan | TrainingPlan | Report,
        root: Path,
        *,
        run_id: str,
        job_type: str,
        config: dict[str, Any],
        sweep: str = "",
    ) -> Any:
        """Start a separate run in `root`, independent of other open runs of this process."""
        import wandb

        from ._wandb_views import readable

        _leave_foreign_service()
        root.mkdir(parents=True, exist_ok=True)
        settings = _started_service()
        mode: Any = _mode(settings) if self.mode is Mode.auto else self.mode.value
        self._open[plan.key] = run = wandb.init(
            project=self.project,
            entity=self.entity or None,
            id=run_id,
            name=plan.name,
            group=sweep or None,
            job_type=job_type,
            config=readable(config),
            mode=mode,
            dir=str(root),
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                console="off",
                symlink=False,
                disable_git=True,
                disable_code=True,
                x_disable_stats=True,
                x_disable_meta=True,
                x_save_requirements=False,
            ),
        )
        return run

    def _finish(self, key: str, exit_code: int) -> None:
        self._open.pop(key).finish(exit_code=exit_code)

    def _log_files(self, run: Any, record: Record, folder: Path) -> None:
        """Log the record and its files as an artifact. The arrays are referenced in place, not copied."""
        import wandb

        artifact = wandb.Artifact(f"cell-{record.key}", type="record", metadata={"status": record.status})
        artifact.add_file(str(folder.resolve() / "record.json"))
        for file in record.files:
            artifact.add_file(str(folder.resolve() / file.path), name=file.path, policy="immutable")
        run.log_artifact(artifact)


@contextlib.contextmanager
def _staged_inside(run: Any) -> Iterator[None]:
    """Keep W&B's staging files in the run's folder instead of the user's home inside the block."""
    before = os.environ.get("WANDB_DATA_DIR")
    os.environ["WANDB_DATA_DIR"] = run.settings.sync_dir
    try:
        yield
    finally:
        if before is None:
            del os.environ["WANDB_DATA_DIR"]
        else:
            os.environ["WANDB_DATA_DIR"] = before


_never_started: set[int] = set()
"""This process, if W&B's service did not start in it."""


def _started_service() -> Any:
    """Start W&B's service unless it runs, and return W&B's settings.

    W&B waits for itself for ever if its service dies while it starts, or cannot be started.

    Raises:
        BenchmarkError: if the service does not start in time.
    """
    import wandb

    found: list[Any] = []

    def start() -> None:
        try:
            found.append(wandb.setup().settings)
        except BaseException as error:  # raised below
            found.append(error)

    if os.getpid() not in _never_started:
        starting = threading.Thread(target=start, name="start of W&B", daemon=True)
        starting.start()
        starting.join(PATIENCE)
    if not found:
        _never_started.add(os.getpid())
        raise BenchmarkError(
            f"tracker.wandb: W&B's service did not start within {PATIENCE:.0f} s; the record can be sent later with "
            "`benchmark publish --tracker wandb`"
        )
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


def _leave_foreign_service() -> None:
    """Forget the parent's W&B service process: on another host, or after the parent's end, its socket is invalid."""
    service = os.environ.get("WANDB_SERVICE", "")
    if service and f"-{os.getpid()}-" not in service:
        del os.environ["WANDB_SERVICE"]


def _mode(settings: Any) -> str:
    """Resolve `auto`, given W&B's own settings (environment and settings files)."""
    if settings.mode != "online":
        return str(settings.mode)
    known = settings.api_key or settings.identity_token_file or _netrc_key(settings.base_url)
    return "online" if known else "offline"


def _netrc_key(url: str) -> str | None:
    """API key stored by `wandb login` in the netrc file, if any."""
    import netrc
    from urllib.parse import urlsplit

    try:
        entry = netrc.netrc(os.environ.get("NETRC")).authenticators(urlsplit(url).netloc)
    except (OSError, netrc.NetrcParseError):
        return None
    return entry[2] if entry else None


@hookimpl
def benchmark_component() -> type[Tracker]:
    """Registers the tracker."""
    return WandbTracker
