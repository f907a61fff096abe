"""Plugins named in a list inside another plugin: their configuration nodes, and the plugins made from them."""

from __future__ import annotations

import dataclasses
import importlib.resources
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from benchmark import registry
from benchmark.config.structured import inner_kinds, inner_lists, structured
from benchmark.errors import ConfigError

__all__ = ["is_variant", "member", "named_node", "with_members"]


def with_members(node: Any, place: str = "") -> Any:
    """Replace every plugin named in a list by the node of its settings.

    Args:
        node: what Hydra composed, changed in place. place: its key.

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
            node[key] = [member(lists[key], entry, f"{where}[{at}]") for at, entry in enumerate(given)]
        else:
            with_members(node[key], where)
    return node


def member(kind: str, entry: Any, where: str) -> DictConfig:
    """Settings of one list entry: `name`, `{name: {setting: value}}`, or a finished node."""
    if isinstance(entry, DictConfig) and isinstance(OmegaConf.get_type(entry), type) and _is_schema(entry):
        return with_members(entry, where)  # type: ignore[no-any-return]
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
    return with_members(_merged(named_node(kind, name), settings, where), where)  # type: ignore[no-any-return]


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


def is_variant(kind: str, name: str) -> bool:
    """True for settings with a name of their own in conf/, such as attack pgd_10."""
    return importlib.resources.files("benchmark.conf").joinpath(kind, f"{name}.yaml").is_file()


def named_node(kind: str, name: str) -> DictConfig:
    """Default settings of a plugin or of a variant in conf/, including those of the plugins inside it."""
    own: Any = {}
    if name not in registry.names(kind):
        variant = importlib.resources.files("benchmark.conf").joinpath(kind, f"{name}.yaml")
        if is_variant(kind, name):
            own = OmegaConf.create(variant.read_text(encoding="utf-8"))
            name = next(entry for entry in own.pop("defaults") if entry != "_self_")
    cls = registry.load(kind, name, own=True)
    node = structured(cls)
    with open_dict(node):
        node.pop("defaults", None)
        for field, inner in inner_kinds(cls).items():
            plugin = next(f.metadata["plugin"] for f in dataclasses.fields(cls) if f.name == field)
            del node[field]
            node[field] = named_node(inner, plugin)
    merged = OmegaConf.merge(node, own)
    assert isinstance(merged, DictConfig)
    return merged
