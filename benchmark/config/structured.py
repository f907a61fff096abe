"""Hydra schemas of frozen dataclasses."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from benchmark.api import Component

__all__ = ["inner_kinds", "inner_lists", "register_fractions", "structured"]


def structured(cls: type[Any]) -> DictConfig:
    """Writable OmegaConf node that checks its keys and values against a frozen dataclass.

    Fields outside the constructor are not configuration; a field made by `benchmark.api.inner` becomes a config group
    of its own, chosen by an entry of the defaults list.
    """
    node: DictConfig = OmegaConf.structured(cls)
    writable(node)
    if issubclass(cls, Component):
        open_ended(node)
    kinds = inner_kinds(cls)
    lists = inner_lists(cls)
    with open_dict(node):
        for field in dataclasses.fields(cls):
            if not field.init:
                node.pop(field.name)
        for name in lists:
            del node[name]
            node[name] = next(list(f.metadata["plugins"]) for f in dataclasses.fields(cls) if f.name == name)
        if kinds:
            chosen = {f.name: f.metadata["plugin"] for f in dataclasses.fields(cls) if f.name in kinds}
            node["defaults"] = ["_self_", *({f"/{kinds[name]}@{name}": plugin} for name, plugin in chosen.items())]
    return node


def open_ended(node: DictConfig) -> None:
    """Accept any key in a dictionary field, which holds settings of another package that the plugin checks."""
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig) and OmegaConf.get_type(child) is dict:
            OmegaConf.set_struct(child, False)


def inner_kinds(cls: type[Any]) -> dict[str, str]:
    """Plugin kind of each field made by `benchmark.api.inner`, whose annotation is one of the abstract classes."""
    hints = {f.name: f.type for f in dataclasses.fields(cls) if "plugin" in f.metadata}
    names = {name: hint if isinstance(hint, str) else hint.__name__ for name, hint in hints.items()}
    return {name: hint.rpartition(".")[2].lower() for name, hint in names.items()}


def inner_lists(cls: type[Any]) -> dict[str, str]:
    """Plugin kind of each field made by `benchmark.api.inner_list`, such as attack for `tuple[Attack, ...]`."""
    hints = {f.name: str(f.type) for f in dataclasses.fields(cls) if "plugins" in f.metadata}
    return {name: hint.partition("[")[2].partition(",")[0].rpartition(".")[2].lower() for name, hint in hints.items()}


def writable(node: DictConfig) -> None:
    """Make the read-only node of a frozen dataclass writable, for overrides; resolving freezes it again."""
    OmegaConf.set_readonly(node, None)
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig):
            OmegaConf.set_readonly(child, None)
            if not child._is_missing() and not child._is_none():
                writable(child)


def fraction(numerator: object, denominator: object) -> str:
    """Resolver: ${frac:8,255} is the exact fraction 8/255."""
    return str(Fraction(str(numerator)) / Fraction(str(denominator)))


def register_fractions() -> None:
    """Register the resolver `frac` with OmegaConf; idempotent."""
    OmegaConf.register_new_resolver("frac", fraction, replace=True)
