"""Plugins named in a list inside another plugin: their configuration nodes, and the plugins made from them."""

from __future__ import annotations

import dataclasses
import importlib.resources
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from benchmark import registry
from benchmark.config.structured import inner_kinds, inner_lists, structured
from benchmark.errors import ConfigError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["is_variant", "member", "named_node", "own_folders", "plugin_of", "with_members"]

Folders = Sequence[Path]
"""Folders of the user's configurations, as named by --config-dir; their variants come before those of conf/."""


def own_folders() -> tuple[Path, ...]:
    """Folders of the running Hydra job that --config-dir names; none outside a job."""
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return ()
    sources = HydraConfig.get().runtime.config_sources
    return tuple(Path(source.path) for source in sources if source.provider == "command-line")


def with_members(node: Any, place: str = "", own: Folders = ()) -> Any:
    """Replace every plugin named in a list by the node of its settings.

    Args:
        node: what Hydra composed, changed in place. place: its key. own: see :data:`Folders`.

    Raises:
        ConfigError: if an entry is neither a name nor a name with settings. PluginError: if there is no such plugin.
    """
    if not isinstance(node, DictConfig) or node._is_missing() or node._is_none():
        return node
    cls = OmegaConf.get_type(node)
    lists = inner_lists(cls) if isinstance(cls, type) and hasattr(cls, "__dataclass_fields__") else {}
    for key in list(node):
        if OmegaConf.is_missing(node, key):
            continue
        where = f"{place}.{key}" if place else str(key)
        if key in lists:
            given = node[key]
            if not isinstance(given, ListConfig):
                raise ConfigError(f"{where} is {given!r}; expected a list of names, such as {where}=[fgsm,pgd]")
            node[key] = [member(lists[key], entry, f"{where}[{at}]", own) for at, entry in enumerate(given)]
        else:
            with_members(node[key], where, own)
    return node


def member(kind: str, entry: Any, where: str, own: Folders = ()) -> DictConfig:
    """Settings of one list entry: `name`, `{name: {setting: value}}`, or a finished node."""
    if isinstance(entry, DictConfig) and isinstance(OmegaConf.get_type(entry), type) and _is_schema(entry):
        return with_members(entry, where, own)  # type: ignore[no-any-return]
    settings: Any = {}
    if isinstance(entry, DictConfig) and len(entry) == 1:
        ((name, settings),) = entry.items()
    else:
        name = entry
    if not isinstance(name, str) or not isinstance(settings, (dict, DictConfig)):
        given = OmegaConf.to_container(entry) if OmegaConf.is_config(entry) else entry
        raise ConfigError(
            f"{where} is {given!r}; expected the name of a plugin ({kind}), or a name with settings, such as "
            "{pgd: {steps: 10}}"
        )
    node = _merged(named_node(kind, name, own), settings, where)
    return with_members(node, where, own)  # type: ignore[no-any-return]


def _is_schema(entry: DictConfig) -> bool:
    return hasattr(OmegaConf.get_type(entry), "__dataclass_fields__")


def _merged(node: DictConfig, settings: Any, where: str) -> DictConfig:
    from omegaconf.errors import OmegaConfBaseException

    try:
        merged = OmegaConf.merge(node, settings)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{where}: {str(error).splitlines()[0]}") from error
    assert isinstance(merged, DictConfig)
    return merged


def is_variant(kind: str, name: str, own: Folders = ()) -> bool:
    """True for settings with a name of their own in conf/ or in a folder `own`, such as attack pgd_10."""
    return _variant(kind, name, own) is not None


def _variant(kind: str, name: str, own: Folders) -> Traversable | None:
    """The file of a variant; None without one."""
    places: list[Traversable] = [*own, importlib.resources.files("benchmark.conf")]
    files = [place.joinpath(kind, f"{name}.yaml") for place in places]
    return next((file for file in files if file.is_file()), None)


def plugin_of(kind: str, choice: str, own: Folders = ()) -> str:
    """Plugin that a choice configures: the one of that name, or the one that a variant's file starts from."""
    seen: set[str] = set()
    while choice not in registry.names(kind) and choice not in seen and (variant := _variant(kind, choice, own)):
        seen.add(choice)
        document: Any = OmegaConf.create(variant.read_text(encoding="utf-8"))
        choice = next((e for e in document.get("defaults", []) if isinstance(e, str) and e != "_self_"), choice)
    return choice


def named_node(kind: str, name: str, own: Folders = ()) -> DictConfig:
    """Default settings of a plugin or of a variant, including those of the plugins inside it.

    Raises:
        ConfigError: if the file of a variant does not name what it changes. PluginError: if there is no such plugin.
    """
    variant = None if name in registry.names(kind) else _variant(kind, name, own)
    if variant is not None:
        settings: Any = OmegaConf.create(variant.read_text(encoding="utf-8"))
        bases = [entry for entry in settings.pop("defaults", []) if isinstance(entry, str) and entry != "_self_"]
        if not bases or bases[0] == name:
            raise ConfigError(f"{variant} names no {kind} under defaults; expected a list such as [pgd, _self_]")
        return _merged(named_node(kind, bases[0], own), settings, str(variant))
    cls = registry.load(kind, name, own=True)
    node = structured(cls)
    with open_dict(node):
        node.pop("defaults", None)
        for field, inner in inner_kinds(cls).items():
            plugin = next(f.metadata["plugin"] for f in dataclasses.fields(cls) if f.name == field)
            del node[field]
            node[field] = named_node(inner, plugin, own)
    return node
