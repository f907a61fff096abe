"""`benchmark run`: where Hydra composes configurations, and how sweeps skip what is done.

Schemas of plugins are handed to Hydra lazily by a config source of our own, so that only the chosen plugins are
imported; a sweeper of our own looks into the store before a job is composed, and sums up when all jobs are done.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
import uuid
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.errors import CompactHydraException, HydraException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from benchmark import registry
from benchmark.errors import ConfigError, PluginError
from benchmark.overrides import NO_WORD, sentence

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn

    from benchmark.publish import CellResult

__all__ = ["complete", "inner_kinds", "main", "register", "structured", "task"]

SCHEMA = "run_schema"
SWEEPER = "hydra_plugins.benchmark.MatrixSweeper"
STATIC = "BENCHMARK_STATIC_SCHEMAS"
"""Set while a shell completes a line: schemas are then read from source files instead of imported."""

FULL_ERROR = "HYDRA_FULL_ERROR"
"""Hydra's own switch: with "1" its errors come with the whole traceback."""


def structured(cls: type[Any]) -> DictConfig:
    """A writable OmegaConf node that checks its keys and values against a frozen dataclass.

    Fields that are not part of the constructor are no configuration; a field made by `benchmark.api.inner` becomes a
    config group of its own, chosen by an entry of the defaults list.
    """
    node: DictConfig = OmegaConf.structured(cls)
    _writable(node)
    kinds = inner_kinds(cls)
    with open_dict(node):
        for field in dataclasses.fields(cls):
            if not field.init:
                node.pop(field.name)
        if kinds:
            chosen = {f.name: f.metadata["plugin"] for f in dataclasses.fields(cls) if f.name in kinds}
            node["defaults"] = ["_self_", *({f"/{kinds[name]}@{name}": plugin} for name, plugin in chosen.items())]
    return node


def inner_kinds(cls: type[Any]) -> dict[str, str]:
    """The plugin kind of each field made by `benchmark.api.inner`: its annotation is one of the abstract classes."""
    hints = {f.name: f.type for f in dataclasses.fields(cls) if "plugin" in f.metadata}
    names = {name: hint if isinstance(hint, str) else hint.__name__ for name, hint in hints.items()}
    return {name: hint.rpartition(".")[2].lower() for name, hint in names.items()}


def _writable(node: DictConfig) -> None:
    """A frozen dataclass gives a read-only node; the schema must take overrides, and freezes when it is resolved."""
    OmegaConf.set_readonly(node, None)
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig):
            OmegaConf.set_readonly(child, None)
            if not child._is_missing() and not child._is_none():
                _writable(child)


class PluginSource(ConfigSource):
    """Gives Hydra the plugins' schemas, by group and name, and the schema of the run."""

    @staticmethod
    def scheme() -> str:
        """benchmark://"""
        return "benchmark"

    def available(self) -> bool:
        """Always."""
        return True

    def load_config(self, config_path: str) -> ConfigResult:
        """The schema of `kind/name`, packaged as `kind` or, for kinds of which a run takes a list, `kind.name`."""
        path = config_path.removesuffix(".yaml").strip("/")
        if path == SCHEMA:
            return self._result(path, _run_schema(), "_global_")
        kind, _, name = path.partition("/")
        package = f"{kind}.{name}" if kind in registry.LISTS else None
        if os.environ.get(STATIC):
            from benchmark.catalogue import describe

            node = OmegaConf.create(dict(describe(registry.find(kind, name)).fields))
        else:
            try:
                node = structured(registry.load(kind, name))
            except PluginError as error:
                raise CompactHydraException(str(error)) from error
            except OmegaConfBaseException as error:
                raise CompactHydraException(
                    f"plugin '{kind}.{name}' from {registry.find(kind, name).owner} has a field that is no setting "
                    f"({str(error).splitlines()[0]}); expected int, float, str, bool, an Enum, an optional or a list "
                    "of those, or benchmark.api.inner"
                ) from error
        return self._result(path, node, package)

    def _result(self, path: str, node: DictConfig, package: str | None) -> ConfigResult:
        header: dict[str, str | None] = {"package": package}
        return ConfigResult(provider=self.provider, path=f"benchmark://{path}", config=node, header=header)

    def is_group(self, config_path: str) -> bool:
        """Whether it is a kind of plugin."""
        return config_path.strip("/") in ("", *registry.KINDS)

    def is_config(self, config_path: str) -> bool:
        """Whether a plugin of that name is declared."""
        path = config_path.removesuffix(".yaml").strip("/")
        kind, _, name = path.partition("/")
        return path == SCHEMA or (kind in registry.KINDS and name in registry.names(kind))

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """The kinds, or the names of one kind."""
        path = config_path.strip("/")
        if path == "":
            return [] if results_filter is ObjectType.CONFIG else list(registry.KINDS)
        if path not in registry.KINDS or results_filter is ObjectType.GROUP:
            return []
        return registry.names(path)


class PluginSearchPath(SearchPathPlugin):
    """Appends the plugins' schemas to what Hydra searches; files in conf/ and in --config-dir come first."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append benchmark://."""
        search_path.append(provider="benchmark", path="benchmark://")


def _run_schema() -> DictConfig:
    from benchmark.config import RunSchema

    node: DictConfig = OmegaConf.structured(RunSchema)
    _writable(node)
    if os.environ.get(STATIC):  # without types, since the plugins' classes are not imported
        node = OmegaConf.create({str(k): v for k, v in _known(OmegaConf.to_container(node, enum_to_str=True)).items()})
    return node


def _known(values: Any) -> Any:
    """Nested values without those that are missing."""
    return {k: _known(v) for k, v in values.items() if v != MISSING} if isinstance(values, dict) else values


def _fraction(numerator: object, denominator: object) -> str:
    """${frac:8,255} is the exact 8/255."""
    return str(Fraction(str(numerator)) / Fraction(str(denominator)))


class MatrixSweeper(Sweeper):
    """Hydra's grid of overrides, but recorded cells are skipped before they are composed, and all failures reported.

    params: the matrix of a suite, as in Hydra's basic sweeper; the command line adds to it and overrides it.
    """

    def __init__(self, params: DictConfig | None) -> None:
        self.params = {str(key): value for key, value in (params or {}).items()}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `sweep`."""
        self.composed, self.loader = config, hydra_context.config_loader
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[CellResult]:
        """Run what is missing of the matrix, then sum up."""
        from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
        from hydra.core.override_parser.overrides_parser import OverridesParser

        from benchmark.sweep import Matrix

        lines = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        parsed = OverridesParser.create(config_loader=self.loader).parse_overrides(lines)
        (jobs,) = BasicSweeper.split_arguments(parsed, None)
        matrix = Matrix(self.composed, self.loader)
        todo = matrix.missing(jobs)
        refused: dict[str, str] = {}
        try:
            returned = self._launch(todo)
        except Exception:
            refused = self._not_composable(todo)
            if not refused:
                raise
            todo = [job for job in todo if " ".join(job) not in refused]
            returned = self._launch(todo)
        return matrix.finish(todo, returned, refused)

    def _launch(self, jobs: list[list[str]]) -> list[JobReturn]:
        assert self.launcher is not None
        return list(self.launcher.launch(jobs, initial_job_idx=0)) if jobs else []

    def _not_composable(self, jobs: list[list[str]]) -> dict[str, str]:
        """The jobs that Hydra cannot compose, each with the reason; a broken plugin must not stop the others."""
        reasons = {}
        for job in jobs:
            try:
                self.loader.load_sweep_config(self.composed, job)
            except Exception as error:
                reasons[" ".join(job)] = sentence(error)
        return reasons


_results: list[CellResult] = []


def task(cfg: DictConfig) -> dict[str, Any]:
    """One job: run one cell. Never raises for a cell that fails; returns a plain summary of it."""
    from hydra.core.hydra_config import HydraConfig

    from benchmark.sweep import run_job

    result = run_job(cfg, HydraConfig.get())
    _results.append(result)
    return dataclasses.asdict(result)


def register() -> None:
    """Make the plugins' schemas, the sweeper and the resolvers known to Hydra; calling twice is harmless."""
    plugins = Plugins.instance()
    for cls in (PluginSource, PluginSearchPath, MatrixSweeper):
        plugins.register(cls)
    plugins.class_name_to_class[SWEEPER] = MatrixSweeper  # Hydra 1.3 takes plugins of this package name only
    ConfigStore.instance().store(
        group="hydra/sweeper",
        name="matrix",
        node={"_target_": SWEEPER, "params": None},
        provider="benchmark",
    )
    OmegaConf.register_new_resolver("frac", _fraction, replace=True)


def main(argv: list[str]) -> int:
    """Run Hydra's application with these arguments.

    Returns:
        1 if a cell failed; 2 if the one cell of a single run was refused; 0 otherwise.
    """
    import hydra

    register()
    os.environ["BENCHMARK_SWEEP"] = time.strftime("%Y%m%d-%H%M%S-") + uuid.uuid4().hex[:4]
    sys.argv = ["benchmark run", *argv]
    application: Callable[[], None] = hydra.main(
        version_base="1.3", config_path="pkg://benchmark.conf", config_name="run"
    )(task)
    from benchmark import sweep

    sweep.last_results.clear()
    _results.clear()
    _composed(application)
    code = 1 if any(r.status == "failed" for r in sweep.last_results or _results) else 0
    if not sweep.last_results:  # a sweep has told its observers already, and may hold cells whose parts do not fit
        for result in _results:
            if result.error:
                sys.stderr.write(f"benchmark: {result.status}: {result.name}: {result.error}\n")
            if result.status == "refused":
                code = code or 2
    return code


def _composed(application: Callable[[], None]) -> None:
    """Call Hydra's application; what cannot be composed is one sentence, unless HYDRA_FULL_ERROR asks for all of it.

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
    """Shell completion: `benchmark -sc query=bash` with the line in COMP_LINE, as Hydra's scripts call it."""
    os.environ[STATIC] = "1"
    line = os.environ.get("COMP_LINE", "")
    os.environ["COMP_LINE"] = line.replace("benchmark run", "benchmark", 1)
    return main(argv)
