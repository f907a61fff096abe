"""The plugins' schemas as a source of Hydra's configuration."""

from __future__ import annotations

import os
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.errors import CompactHydraException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from benchmark import registry
from benchmark.config.structured import structured, writable
from benchmark.errors import PluginError

if TYPE_CHECKING:
    pass


SCHEMA = "run_schema"


STATIC = "BENCHMARK_STATIC_SCHEMAS"
"""Set while a shell completes a line: schemas are then read from source files instead of imported."""


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
            from benchmark.registry.catalogue import describe

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
    from benchmark.config.schema import RunSchema

    node: DictConfig = OmegaConf.structured(RunSchema)
    writable(node)
    if os.environ.get(STATIC):  # without types, since the plugins' classes are not imported
        node = OmegaConf.create({str(k): v for k, v in _known(OmegaConf.to_container(node, enum_to_str=True)).items()})
    return node


def _known(values: Any) -> Any:
    """Nested values without those that are missing."""
    return {k: _known(v) for k, v in values.items() if v != MISSING} if isinstance(values, dict) else values


def fraction(numerator: object, denominator: object) -> str:
    """${frac:8,255} is the exact 8/255."""
    return str(Fraction(str(numerator)) / Fraction(str(denominator)))
