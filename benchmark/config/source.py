"""Hydra config source for the schemas of plugins."""

from __future__ import annotations

from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.errors import CompactHydraException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from benchmark import registry
from benchmark.config.structured import register_fractions, structured, writable
from benchmark.errors import PluginError

__all__ = ["SWEEPER", "DescribedSource", "PluginSearchPath", "PluginSource", "register_schemas"]

SCHEMA = "run_schema"
SWEEPER = "hydra_plugins.benchmark.MatrixSweeper"


class PluginSource(ConfigSource):
    """Config source with the schemas of all plugins, by group and name, and the schema of a run."""

    @staticmethod
    def scheme() -> str:
        """Scheme of the source's URLs, `benchmark://`."""
        return "benchmark"

    def available(self) -> bool:
        """True: the source is always available."""
        return True

    def load_config(self, config_path: str) -> ConfigResult:
        """Schema of `kind/name`, packaged as `kind` or, for kinds of which a run takes a list, `kind.name`."""
        path = config_path.removesuffix(".yaml").strip("/")
        if path == SCHEMA:
            return self._result(path, self._run_schema(), "_global_")
        kind, _, name = path.partition("/")
        package = f"{kind}.{name}" if kind in registry.LISTS else None
        return self._result(path, self._schema(kind, name), package)

    def _schema(self, kind: str, name: str) -> DictConfig:
        try:
            return structured(registry.load(kind, name, own=True))  # who asks by name: benchmark.config.resolve
        except PluginError as error:
            raise CompactHydraException(str(error)) from error
        except OmegaConfBaseException as error:
            raise CompactHydraException(
                f"plugin '{kind}.{name}' from {registry.find(kind, name).owner} has a field that cannot be a setting "
                f"({str(error).splitlines()[0]}); expected int, float, str, bool, an Enum, an optional or a list "
                "of those, or benchmark.api.inner"
            ) from error

    def _run_schema(self) -> DictConfig:
        from benchmark.config.schema import RunSchema

        node: DictConfig = OmegaConf.structured(RunSchema)
        writable(node)
        return node

    def _result(self, path: str, node: DictConfig, package: str | None) -> ConfigResult:
        header: dict[str, str | None] = {"package": package}
        return ConfigResult(provider=self.provider, path=f"benchmark://{path}", config=node, header=header)

    def is_group(self, config_path: str) -> bool:
        """True for a kind of plugin."""
        return config_path.strip("/") in ("", *registry.KINDS)

    def is_config(self, config_path: str) -> bool:
        """True for the name of a declared plugin."""
        path = config_path.removesuffix(".yaml").strip("/")
        kind, _, name = path.partition("/")
        return path == SCHEMA or (kind in registry.KINDS and name in registry.names(kind))

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Kinds of plugin, or names of one kind."""
        path = config_path.strip("/")
        if path == "":
            return [] if results_filter is ObjectType.CONFIG else list(registry.KINDS)
        if path not in registry.KINDS or results_filter is ObjectType.GROUP:
            return []
        return registry.names(path)


class PluginSearchPath(SearchPathPlugin):
    """Search path with the plugins' schemas appended; files in conf/ and in --config-dir take precedence."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append benchmark://."""
        search_path.append(provider="benchmark", path="benchmark://")


class DescribedSource(PluginSource):
    """Schemas without types, from stored descriptions, so that shell completion imports no plugin."""

    def _schema(self, kind: str, name: str) -> DictConfig:
        from benchmark.registry.catalogue import describe

        return OmegaConf.create(dict(describe(registry.find(kind, name)).fields))

    def _run_schema(self) -> DictConfig:
        known = _known(OmegaConf.to_container(super()._run_schema(), enum_to_str=True))
        return OmegaConf.create({str(key): value for key, value in known.items()})


def _known(values: Any) -> Any:
    """Nested values without missing ones."""
    return {k: _known(v) for k, v in values.items() if v != MISSING} if isinstance(values, dict) else values


def register_schemas(source: type[PluginSource] = PluginSource) -> None:
    """Register the plugins' schemas, the resolver `frac` and the sweeper with Hydra; idempotent."""
    plugins = Plugins.instance()
    plugins.register(source)
    plugins.register(PluginSearchPath)
    node = {"_target_": SWEEPER, "params": None}
    ConfigStore.instance().store(group="hydra/sweeper", name="matrix", node=node, provider="benchmark")
    register_fractions()
