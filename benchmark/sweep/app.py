"""The Hydra application of `benchmark run`: composes configurations, and skips finished cells of sweeps.

A config source passes the plugins' schemas to Hydra lazily, so that only the chosen plugins are imported; a sweeper
looks into the store before a job is composed, and summarises the sweep at its end.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from benchmark.config import source
from benchmark.config.overrides import NO_WORD, sentence
from benchmark.config.source import SWEEPER, DescribedSource, PluginSource
from benchmark.errors import ConfigError
from benchmark.records.plan import Plan
from benchmark.sweep import chosen
from benchmark.sweep.files import written_out
from benchmark.sweep.sweeper import MatrixSweeper, SweepJob

if TYPE_CHECKING:
    from benchmark.hooks.events import CellResult

__all__ = ["complete", "main", "plan", "register", "work"]

FULL_ERROR = "HYDRA_FULL_ERROR"
"""Hydra's own switch: with "1" its errors include the full traceback."""


def register(schemas: type[PluginSource] = PluginSource) -> None:
    """Register the plugins' schemas, the resolvers and the sweeper with Hydra; idempotent."""
    source.register_schemas(schemas)
    plugins = Plugins.instance()
    plugins.register(MatrixSweeper)
    plugins.class_name_to_class[SWEEPER] = MatrixSweeper  # Hydra 1.3 takes plugins of this package name only


def plan(words: Sequence[str], path: Path) -> int:
    """Write the sweep of these words to a plan file; returns the exit code 0."""
    task = _task()
    task.plan, task.words = path.absolute(), tuple(words)
    return _run(["-m", *words], PluginSource, task)


def work(path: Path) -> int:
    """Work on a plan until none of its cells is left; returns 0 if each then has a record, whatever its status."""
    frozen = Plan.read(path)
    task = _task()
    task.plan, task.sweep = path.absolute(), frozen.sweep
    _run(["-m", *frozen.words], PluginSource, task)
    return 0 if len([cell for cell in task.swept if cell.key]) == len(frozen.lines) else 1


def _task() -> SweepJob:
    return SweepJob(time.strftime("%Y%m%d-%H%M%S-") + uuid.uuid4().hex[:4])


def main(argv: list[str], schemas: type[PluginSource] = PluginSource) -> int:
    """Run Hydra's application with these arguments.

    Args:
        schemas: source of the plugins' schemas.

    Returns:
        0 if a cell is complete and none failed; 2 if none is, for reasons that the user can correct; 1 otherwise.
    """
    return _run(argv, schemas, _task())


def _run(argv: list[str], schemas: type[PluginSource], task: SweepJob) -> int:
    """Run Hydra's application with these arguments for a task; returns the exit code."""
    import hydra

    register(schemas)
    argv = written_out(argv) if schemas is PluginSource else argv
    task.dry = any(word.partition("=")[::2] == ("dry_run", "true") for word in argv)
    argv = chosen.options_first([word for word in argv if word.partition("=")[0] != "dry_run"])
    if any(word in ("-m", "--multirun") for word in argv):
        task.settings = tuple(word for word in argv if chosen.is_setting(word))
        argv = ["-m", *(word for word in argv if word not in (*task.settings, "-m", "--multirun"))]  # options first
    elif schemas is PluginSource:
        argv = chosen.for_one_cell(argv)
        task.varied = chosen.own(argv)
    placed = any(word.startswith("hydra.sweep.dir=") for word in argv)
    folder = f"hydra.sweep.dir=${{store.root}}/sweeps/{task.sweep}"
    sys.argv = ["benchmark run", *argv, *([folder] if schemas is PluginSource and not placed else [])]
    application: Callable[[], None] = hydra.main(
        version_base="1.3", config_path="pkg://benchmark.conf", config_name="run"
    )(task)
    _composed(application)
    for plan in (task.swept or task.cells) if task.dry else ():  # said here, since jobs may run in other processes
        sys.stdout.write(f"{plan.error}\n")
    for result in [] if task.swept else task.cells:  # a sweep has told its observers already
        if result.error and not task.dry:
            sys.stderr.write(f"benchmark: {result.status}: {result.name}: {result.error}\n")
    return _code(task.swept or task.cells)


def _code(cells: Sequence[CellResult]) -> int:
    """Exit code for the cells of a run or a sweep; 0 for none, as after --cfg."""
    if cells and all(r.status == "refused" or (r.status == "failed" and r.mendable) for r in cells):
        return 2
    return 1 if any(r.status == "failed" for r in cells) else 0


def _composed(application: Callable[[], None]) -> None:
    """Call Hydra's application; a composition error becomes one sentence, unless HYDRA_FULL_ERROR is set.

    Raises:
        ConfigError: with that sentence.
    """
    if os.environ.get(FULL_ERROR) == "1":
        application()
        return
    os.environ[FULL_ERROR] = "1"  # Hydra then raises what it would print
    try:
        application()
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(sentence(error)) from error
    except ValueError as error:
        if not str(error).startswith(NO_WORD):
            raise
        raise ConfigError(sentence(error)) from error
    finally:
        del os.environ[FULL_ERROR]


def complete(argv: list[str]) -> int:
    """Complete a shell line: `benchmark -sc query=bash` with the line in COMP_LINE, as Hydra's scripts do."""
    line = os.environ.get("COMP_LINE", "")
    os.environ["COMP_LINE"] = line.replace("benchmark run", "benchmark", 1)
    return main(argv, DescribedSource)
