"""Jobs and sweeps: Hydra's composed configurations to cells, and cells to a summary."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark import __version__, registry
from benchmark.commands.store import tidy
from benchmark.errors import MENDABLE, BenchmarkError, PluginError
from benchmark.guard import guarded
from benchmark.hooks.events import CellResult, SweepSummary
from benchmark.hooks.observers import Observers
from benchmark.records.document import content_key
from benchmark.records.plan import Plan, progress_of
from benchmark.records.remote import lockable
from benchmark.records.store import Store
from benchmark.sweep.children import ChildDied, in_child
from benchmark.sweep.chosen import telling
from benchmark.sweep.suites import official

if TYPE_CHECKING:
    from hydra.conf import HydraConf
    from hydra.core.config_loader import ConfigLoader
    from hydra.core.utils import JobReturn
    from omegaconf import DictConfig

    from benchmark.config.cell import RunConfig

__all__ = ["Matrix", "run_job"]


def run_job(
    cfg: DictConfig, hydra_cfg: HydraConf, sweep: str, fingerprint: str, varied: Container[str] = ()
) -> CellResult:
    """Run the cell that Hydra composed; any error becomes the cell's status.

    Args:
        sweep: the id of the sweep. fingerprint: of its configuration sources; "" outside a sweep.
        varied: keys whose values differ between its cells.
    """
    from benchmark.config.resolve import resolve
    from benchmark.run import run
    from benchmark.stages.surrogate import watched

    overrides = tuple(hydra_cfg.overrides.task)
    swept = hydra_cfg.mode is not None and hydra_cfg.mode.name == "MULTIRUN"
    parts = guarded(lambda: f"a plugin of {' '.join(overrides) or 'the default run'}", fault=PluginError)
    try:
        with parts:
            config = resolve(cfg, official=official(overrides, hydra_cfg), overrides=overrides)
            config = dataclasses.replace(config, telling=telling(overrides, varied, config.name))
    except BenchmarkError as error:
        named = " ".join(overrides) or "the default run"
        return CellResult("", named, "failed", str(error), mendable=isinstance(error, MENDABLE))
    result = _apart(config, sweep if swept else "") if config.cell.alone else run(config, sweep if swept else "")
    if result.key and result.status not in ("failed", "followed"):
        line = cfg_line(overrides, fingerprint)
        store = Store(Path(config.store.root))
        store.remember(line, result.key, [*config.input_files(), *watched(config.threat, store)])
    return result


def _apart(config: RunConfig, sweep: str) -> CellResult:
    """Run a cell in a child process, repeatedly until it is recorded, even if its processes die."""
    from benchmark.run import run

    store = Store(Path(config.store.root).absolute())
    while True:
        try:
            limits = config.cell
            result: CellResult = in_child(lambda: run(config, sweep), timeout=limits.timeout, memory=limits.bytes)
            return result
        except ChildDied as error:
            if not store.bury(error.reason, final=error.final):
                return CellResult(
                    "", config.name, "failed", f"its process died before the cell started ({error.reason})"
                )


# --- the matrix ---


class Matrix:
    """The jobs of a sweep: those in the store, those to run, and their results."""

    def __init__(self, config: DictConfig, loader: ConfigLoader, sweep: str) -> None:
        from benchmark.config.schema import StoreConfig

        self.begun = time.perf_counter()
        self.config = config
        self.sweep = sweep
        stored: Any = config.get("store") or StoreConfig()
        self.store = Store(Path(lockable(stored.root)).absolute())
        self.fingerprint = _fingerprint(loader)
        self.retry = str(getattr(config.get("retry"), "name", config.get("retry")))
        self.until_broken = str(getattr(config.get("until"), "name", config.get("until"))) == "broken"
        self.cached: list[CellResult] = []

    def named(self, jobs: Sequence[Sequence[str]]) -> str:
        """Id of the sweep of these jobs: the original one, so that trackers keep it over restarts."""
        lines = content_key(sorted(cfg_line(job, self.fingerprint) for job in jobs))
        self.sweep = self.store.sweep_of(lines, self.sweep)
        return self.sweep

    def missing(self, jobs: Sequence[Sequence[str]]) -> list[list[str]]:
        """Jobs that are not in the store; the others are noted as cached."""
        todo = []
        for job in jobs:
            key = self.store.recall(cfg_line(job, self.fingerprint))
            record = self.store.record(key) if key else None
            if record is None or self.store.damage(record) or (record.status == "failed" and self.retry == "failed"):
                todo.append(list(job))
                if record is not None:
                    self.store.forgive(record.key)
            else:
                mendable = bool(record.provenance.get("mendable"))
                self.cached.append(CellResult(key or "", " ".join(job), record.status, record.error, True, mendable))
        last = self.under_way(todo)  # in case it was they that ended the last sitting
        return [*(job for job in todo if job not in last), *last]

    def completed(self, todo: Sequence[Sequence[str]], returned: Sequence[JobReturn]) -> dict[str, str]:
        """Keys of the complete cells, by the overrides of their jobs."""
        found = {one.name: one.key for one in self.cached if one.status == "complete"}
        for job, one in zip(todo, returned, strict=True):
            with contextlib.suppress(Exception):  # of a job that failed outside the cell
                result = CellResult(**one.return_value)
                found |= {" ".join(job): result.key} if result.status == "complete" else {}
        return found

    def under_way(self, jobs: Sequence[Sequence[str]]) -> list[list[str]]:
        """Jobs whose cells were started but did not end."""
        begun = [sorted(note.get("overrides", ())) for note in self.store.unfinished() if note.get("kind") == "cell"]
        return [list(job) for job in jobs if sorted(w for w in job if not w.startswith("hydra.")) in begun]

    def finish(
        self, todo: Sequence[Sequence[str]], returned: Sequence[JobReturn], not_composable: Mapping[str, str]
    ) -> list[CellResult]:
        """Summarise all failures and the standing checks across cells, and build the leaderboard."""
        from omegaconf import OmegaConf

        from benchmark.stages.world import is_follower

        results = [*self.cached, *(CellResult("", job, "failed", why) for job, why in not_composable.items())]
        for job, one in zip(todo, returned, strict=False):
            try:
                results.append(CellResult(**one.return_value))
            except Exception as error:  # composing or running the job failed outside the cell
                results.append(CellResult("", " ".join(job), "failed", f"{type(error).__name__}: {error}"))
        trainer: Any = OmegaConf.to_object(self.config.trainer)
        if is_follower(trainer):
            return results
        tidy(self.store)
        board, findings = self._board(changed=bool(todo))
        summary = SweepSummary(
            self.sweep,
            tuple(results),
            time.perf_counter() - self.begun,
            board,
            findings,
        )
        self._tell(summary)
        return results

    def worked(self, plan: Plan, lost: Mapping[str, str]) -> list[CellResult]:
        """States of the cells of a plan, whichever task computed them."""
        found = progress_of(plan, self.store)
        results = [CellResult("", words, "failed", why) for words, why in lost.items()]
        for line in plan.lines:
            record = found.get(line.line)
            if record is not None:
                results.append(CellResult(record.key, " ".join(line.overrides), record.status, record.error, True))
        counts = Counter(result.status for result in results)
        told = ", ".join(f"{counts[s]} {s}" for s in ("complete", "failed", "refused") if counts[s])
        sys.stdout.write(f"{len(plan.lines)} cells: {told or 'none recorded'}\n")
        return results

    def _board(self, *, changed: bool) -> tuple[Path | None, tuple[str, ...]]:
        """Leaderboard, rebuilt unless this sweep changed nothing and it is newer than every record."""
        from benchmark.records.findings import across

        records = self.store.records()
        findings = tuple(f"{f.severity}: {f.name}: {f.evidence}" for f in across(records, self.store.broken))
        if not any(r.status == "complete" for r in records):
            return None, findings
        index = self.store.root / "leaderboard" / "index.html"
        newest = max(p.stat().st_mtime_ns for p in (self.store.root / "cells").glob("*/record.json"))
        if not changed and index.is_file() and index.stat().st_mtime_ns > newest:
            return index.absolute(), findings
        try:
            from benchmark_leaderboard.build import build

            return build([self.store.root / "cells"], self.store.root / "leaderboard"), findings
        except Exception as error:
            sys.stderr.write(f"the leaderboard was not built: {type(error).__name__}: {error}; the records are safe\n")
            return None, findings

    def _tell(self, summary: SweepSummary) -> None:
        from omegaconf import OmegaConf

        trackers = [OmegaConf.to_object(node) for node in (self.config.get("tracker") or {}).values()]
        for cell in [] if trackers else summary.cells:
            if cell.error:
                sys.stderr.write(f"benchmark: {cell.status}: {cell.name}: {cell.error}\n")
        Observers(trackers).tell("benchmark_sweep_finished", summary=summary)  # type: ignore[arg-type]


def cfg_line(overrides: Sequence[str], fingerprint: str) -> str:
    """Hash under which the store indexes the cell of a sweep line."""
    free = ("retry", "tracker", "batch_size", "until")
    kept = sorted(o for o in overrides if o.partition("=")[0] not in free and not o.startswith("cell."))
    return content_key([kept, fingerprint])


def _fingerprint(loader: ConfigLoader) -> str:
    """Hash of every configuration source but the overrides: versions, plugins, YAML files."""
    import benchmark.conf

    folders = [Path(p) for p in benchmark.conf.__path__]
    elements = loader.get_search_path().get_path()
    folders += [Path(str(e.path).removeprefix("file://")) for e in elements if str(e.path).startswith(("file:", "/"))]
    files = sorted(p for folder in folders for p in folder.rglob("*.yaml"))
    texts = [[str(p), p.read_text(encoding="utf-8")] for p in files]
    known = registry.declared()
    plugins = [[d.full_name, d.module, d.distribution, d.version] for d in known]
    sources = registry.source_stamps((d.distribution, d.module) for d in known)
    return content_key([__version__, plugins, sources, texts])
