"""Hydra's sweeper and its job: the matrix is expanded, and its missing cells are run."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import sys
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from benchmark.config.overrides import sentence
from benchmark.errors import ConfigError
from benchmark.records.plan import Plan
from benchmark.registry import LISTS
from benchmark.sweep import chosen
from benchmark.sweep.children import AVAILABLE, ChildDied, in_child, signal_name

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn

    from benchmark.hooks.events import CellResult
    from benchmark.sweep.matrix import Matrix

__all__ = ["MatrixSweeper", "SweepJob"]


class MatrixSweeper(Sweeper):
    """Hydra's grid sweeper, which skips recorded cells before composing them and reports all failures.

    params: the matrix of a suite, as in Hydra's basic sweeper; the command line adds to it and overrides it.
    """

    def __init__(self, params: DictConfig | None) -> None:
        self.params = {str(key): value for key, value in (params or {}).items()}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store Hydra's context; called by Hydra before `sweep`."""
        self.composed, self.loader = config, hydra_context.config_loader
        assert isinstance(task_function, SweepJob)
        self.task = task_function
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[CellResult]:
        """Run the missing cells of the matrix, then summarise."""
        from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
        from hydra.core.override_parser.overrides_parser import OverridesParser

        from benchmark.hooks.events import CellResult
        from benchmark.sweep.matrix import Matrix

        parser = OverridesParser.create(config_loader=self.loader)
        suite = parser.parse_overrides([f"{key}={value}" for key, value in self.params.items()])
        typed = parser.parse_overrides([*arguments, *self.task.settings])
        settings = [override for override in (*suite, *typed) if chosen.is_setting(override.input_line or "")]
        (jobs,) = BasicSweeper.split_arguments([o for o in (*suite, *typed) if o not in settings], None)
        known = self._chosen_by_default, self.loader.get_group_options
        narrowed = {override.get_key_element().lstrip("+") for override in typed}
        jobs = chosen.given_to(jobs, [o for o in settings if o in suite], *known, narrowed=narrowed)
        jobs = chosen.given_to(jobs, [o for o in settings if o not in suite], *known)
        jobs = [list(job) for job in dict.fromkeys(map(tuple, jobs))]  # a typed setting replaces all of the suite's
        self.task.varied = chosen.varied(jobs)
        if self.task.dry:
            self.task.swept += [CellResult(**one.return_value) for one in self._launch(jobs)]
            return self.task.swept
        matrix = Matrix(self.composed, self.loader, self.task.sweep)
        self.task.fingerprint = matrix.fingerprint
        if self.task.plan is not None and matrix.until_broken:
            raise ConfigError(
                "until=broken needs cells in order, but the tasks of a plan take them in any order; leave it "
                "out, or use benchmark run -m"
            )
        if self.task.plan is not None:
            self.task.swept += self._planned(matrix, self.task.plan, jobs)
            return self.task.swept
        self.task.sweep = matrix.named(jobs)
        if matrix.until_broken:
            self.task.swept += self._until_broken(matrix, jobs)
        else:
            self.task.swept += matrix.finish(*self._completed(matrix, matrix.missing(jobs)))
        return self.task.swept

    def _until_broken(self, matrix: Matrix, jobs: list[list[str]]) -> list[CellResult]:
        """Run each system's attacks in order, each on the survivors, and summarise."""
        from benchmark.sweep.survivors import chains

        if _of_many():
            raise ConfigError(
                "until=broken needs cells in order, but torchrun or srun started several processes, each with its own "
                "sweep; start one, and distribute its work with hydra/launcher or trainer.devices"
            )
        todo: list[list[str]] = []
        returned: list[JobReturn] = []
        lost: dict[str, str] = {}
        left = chains(jobs, self._declared)
        while left:
            wave = [chain.next() for chain in left]
            done, made, failed = self._completed(matrix, matrix.missing(wave))
            complete = matrix.completed(done, made)
            for chain, job in zip(left, wave, strict=True):
                if " ".join(job) in complete:
                    chain.after.append(complete[" ".join(job)])
            todo, returned, lost = todo + done, returned + made, lost | failed
            left = [chain for chain in left if chain.jobs]
        return matrix.finish(todo, returned, lost)

    def _declared(self, job: Sequence[str]) -> tuple[float, float]:
        """Passes per example that the attack of a job declares, with its budget and without.

        0 for a job that cannot be composed; the error is reported when it is launched.
        """
        from omegaconf import OmegaConf

        from benchmark.config.declared import declared_passes
        from benchmark.config.describe import attack_info
        from benchmark.config.members import own_folders, with_members

        try:
            cfg = self.loader.load_sweep_config(self.composed, list(job))
            with_members(cfg.attack, "attack", own_folders())
            attack: Any = OmegaConf.to_object(cfg.attack)
            declared = declared_passes(attack_info(attack).params)
        except Exception:
            return 0.0, 0.0
        queries = cfg.threat.queries
        return (declared if queries is None else min(declared, float(queries))), declared

    def _planned(self, matrix: Matrix, path: Path, jobs: list[list[str]]) -> list[CellResult]:
        """Write the jobs to a plan; or, in a task that works on one, take cells of it until none is left."""
        from benchmark.records.plan import ordered
        from benchmark.sweep.matrix import cfg_line
        from benchmark.sweep.work import Worker

        if self.task.words is not None:
            lines = ordered([(cfg_line(job, matrix.fingerprint), job) for job in jobs], matrix.store.records())
            Plan(self.task.sweep, self.task.words, str(matrix.store.root), matrix.fingerprint, lines).write(path)
            sys.stdout.write(f"{len(lines)} cells of {len({line.system for line in lines})} systems: {path}\n")
            return []
        plan = Plan.read(path)
        self.task.fingerprint, self.task.varied = plan.fingerprint, chosen.varied(line.overrides for line in plan.lines)
        launcher = self.launcher
        assert launcher is not None

        def launch(overrides: Sequence[str]) -> None:
            (job,) = launcher.launch([list(overrides)], initial_job_idx=0)
            _ = job.return_value  # raises what kept the cell from being composed

        lost = Worker(plan, matrix.store, launch).work()
        return matrix.worked(plan, lost)

    def _chosen_by_default(self, kind: str) -> list[str]:
        """Choices of a kind in a cell that does not set it."""
        choice = self.composed.hydra.runtime.choices.get(kind)
        return [str(name) for name in self.composed.get(kind) or ()] if kind in LISTS else [str(choice)]

    def _completed(
        self, matrix: Matrix, todo: list[list[str]]
    ) -> tuple[list[list[str]], list[JobReturn], dict[str, str]]:
        """Launch jobs until each has ended, or is known to kill its worker.

        Returns:
            The jobs that ended, their results, and the others with the reason.

        Raises:
            ConfigError: if none can be composed.
        """
        done: list[list[str]] = []
        returned: list[JobReturn] = []
        lost: dict[str, str] = {}
        rounds = [todo]
        while rounds:
            jobs = rounds.pop(0)
            try:
                returned += self._launch(jobs)
                done += jobs
                continue
            except Exception as error:
                why = error.reason if isinstance(error, ChildDied) else _exit_codes(error)
                reason = f"its worker ended before the cell did ({why}); it may have needed too much memory"
                found = {} if isinstance(error, ChildDied) else self._not_composable(jobs)
                if not found and not _of_a_worker(error):
                    raise
                buried = [] if found else matrix.store.bury(why)
                import benchmark.run  # noqa: F401 - once, for all children that are to come
            if found and len(found) == len(todo) and not matrix.cached:
                raise ConfigError("; ".join(dict.fromkeys(found.values())))
            lost |= {" ".join(job): found[line] + chosen.hint(job) for job in jobs if (line := " ".join(job)) in found}
            jobs = [job for job in jobs if " ".join(job) not in found]
            if found or (len(jobs) == 1 and buried):
                rounds.insert(0, jobs)
            elif len(jobs) == 1:
                lost[" ".join(jobs[0])] = reason
            else:  # whoever was under way goes alone from now on, in a worker of its own; all others together
                under_way = matrix.under_way(jobs) or jobs
                rounds[:0] = [[job for job in jobs if job not in under_way], *([job] for job in under_way)]
        return done, returned, lost

    def _launch(self, jobs: list[list[str]]) -> list[JobReturn]:
        launcher = self.launcher
        assert launcher is not None
        if jobs and AVAILABLE and type(launcher).__name__ == "BasicLauncher" and not _of_many():
            returned: list[JobReturn] = in_child(lambda: list(launcher.launch(jobs, initial_job_idx=0)))
            return returned
        return list(launcher.launch(jobs, initial_job_idx=0)) if jobs else []

    def _not_composable(self, jobs: list[list[str]]) -> dict[str, str]:
        """Jobs that Hydra cannot compose, each with the reason; a broken plugin must not stop the others."""
        reasons = {}
        for job in jobs:
            try:
                self.loader.load_sweep_config(self.composed, job)
            except Exception as error:
                reasons[" ".join(job)] = sentence(error)
        return reasons


def _of_a_worker(error: Exception) -> bool:
    """True for the error of a launcher whose worker process died, which is not an error of a job."""
    return isinstance(error, (BrokenExecutor, ChildDied)) or type(error).__module__.partition(".")[0] == "submitit"


def _exit_codes(error: Exception) -> str:
    """Cause of a worker's end as reported by its executor, such as "signal 11 (SIGSEGV)", or the name of the error."""
    signals = re.findall(r"SIG[A-Z]+\(-(\d+)\)", str(error))
    return signal_name(int(signals[0])) if signals else type(error).__name__


def _of_many() -> bool:
    """True for one of several processes started by torchrun or srun, which need no launcher."""
    return "RANK" in os.environ or int(os.environ.get("SLURM_NTASKS") or 1) > 1


@dataclass
class SweepJob:
    """The job that Hydra calls, here or in a worker: runs one cell, and never raises if the cell fails.

    sweep: the id of the sweep. fingerprint: of the configuration sources; "" outside a sweep.
    plan: the plan file to write or to work on. words: of the command that plans; None when working.
    settings: settings of plugins, given to the jobs of a sweep but not to the sweep as a whole.
    varied: keys whose values differ between these jobs; of a single run, those that its name should say.
    cells: results of the jobs called in this process. dry: report what each would do, and compute nothing.
    swept: results of the whole sweep, once it is summarised.
    """

    sweep: str
    fingerprint: str = ""
    settings: tuple[str, ...] = ()
    varied: frozenset[str] = frozenset()
    plan: Path | None = None
    words: tuple[str, ...] | None = None
    cells: list[CellResult] = field(default_factory=list)
    dry: bool = False
    swept: list[CellResult] = field(default_factory=list)

    def __call__(self, cfg: DictConfig) -> dict[str, Any]:
        """Run the cell of a composed configuration; returns a plain summary.

        Relative paths are resolved in the shell's folder, whatever `hydra.job.chdir` says.
        """
        from hydra.core.hydra_config import HydraConfig

        with contextlib.chdir(HydraConfig.get().runtime.cwd):
            return self._run(cfg)

    def _run(self, cfg: DictConfig) -> dict[str, Any]:
        from hydra.core.hydra_config import HydraConfig

        from benchmark.sweep.matrix import run_job
        from benchmark.sweep.planned import planned, stored_line

        if self.dry:
            plan = planned(cfg, HydraConfig.get(), self.varied)
            self.cells.append(plan)
            return dataclasses.asdict(plan)
        result = run_job(cfg, HydraConfig.get(), self.sweep, self.fingerprint, self.varied)
        self.cells.append(result)
        if result.cached and "console" in (cfg.get("tracker") or {}) and not self.fingerprint:
            sys.stdout.write(stored_line(cfg, result))
        return dataclasses.asdict(result)
