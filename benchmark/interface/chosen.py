"""Plugins chosen by name, by name with settings, or as objects, with the same defaults as on the command line."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import MISSING

from benchmark import api, registry
from benchmark.errors import ConfigError

__all__ = ["plugin", "plugins"]


def plugins(kind: str, given: object) -> tuple[Any, ...]:
    """Plugins of a kind, from one choice or a list of choices."""
    several = given if isinstance(given, Iterable) and not isinstance(given, (str, Mapping)) else [given]
    return tuple(plugin(kind, one) for one in several)


def plugin(kind: str, given: object) -> Any:
    """Plugin given by name ("pgd_10"), by name with settings ({"pgd": {"steps": 10}}), or as an object.

    Raises:
        PluginError: if there is none of that name, or the object is not a plugin.
        ConfigError: if it is another kind of plugin, or a setting is wrong.
    """
    expected = getattr(api, kind.capitalize())
    if isinstance(given, expected):
        registry.name_of(given)  # or it says that it is no installed plugin
        return _filled(given)
    if isinstance(given, (str, Mapping)):
        return _named(kind, given)
    raise ConfigError(
        f"{given!r} is not a valid {kind}; expected a name such as {registry.names(kind)[0]!r}, a name with settings "
        "such as "
        f"{{{registry.names(kind)[0]!r}: {{...}}}}, or a benchmark.api.{expected.__name__}"
    )


def _named(kind: str, given: Any) -> Any:
    from omegaconf import OmegaConf

    from benchmark.config.members import member
    from benchmark.config.structured import register_fractions

    register_fractions()
    return OmegaConf.to_object(
        member(kind, OmegaConf.create(dict(given)) if isinstance(given, Mapping) else given, kind)
    )


def _filled(given: Any) -> Any:
    """Copy with unset inner plugins set to their defaults."""
    changes: dict[str, Any] = {}
    from benchmark.config.structured import inner_kinds, inner_lists

    for names, defaults in ((inner_kinds(type(given)), "plugin"), (inner_lists(type(given)), "plugins")):
        for own in dataclasses.fields(given):
            if own.name not in names:
                continue
            value, kind = getattr(given, own.name), names[own.name]
            if value == MISSING:
                meant = own.metadata[defaults]
                changes[own.name] = plugin(kind, meant) if defaults == "plugin" else plugins(kind, meant)
            else:
                changes[own.name] = _filled(value) if defaults == "plugin" else tuple(_filled(one) for one in value)
    return dataclasses.replace(given, **changes) if changes else given
