"""Packages of others that a plugin is a bridge to: whether they are installed, and what they accept."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
import inspect
import warnings
from collections.abc import Callable, Collection, Iterable
from typing import Any

from benchmark.api import ConfigError, MissingPackage

__all__ = ["check_args", "check_method", "imported", "installed", "installed_version", "parameters_of"]


def installed(package: str) -> bool:
    """Tell whether a package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


def imported(name: str) -> Any:
    """A module of a toolkit, without the warnings that importing old code gives."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


def installed_version(plugin: str, place: str, package: str, distribution: str, install: str, version: str) -> str:
    """Version of the installed toolkit.

    Args:
        plugin: its full name, such as attack.art. place: prefix of its settings in errors. package: name of the toolkit
            as it is imported. distribution: as it is installed. install: the line that installs it. version: the
            expected one, or "" for any.

    Raises:
        MissingPackage: if it is not installed. ConfigError: if it has another version.
    """
    if not installed(package):
        raise MissingPackage(f"{plugin} needs {distribution}, which is not installed: {install}")
    found = importlib.metadata.version(distribution)
    if version and version != found:
        raise ConfigError(
            f"{place}.version is {version}, and {distribution} {found} is installed; install that version, or leave it "
            "out"
        )
    return found


def check_method(plugin: str, place: str, package: str, method: str, offered: Collection[str]) -> None:
    """Refuse a method that is not offered, with names like it (ConfigError)."""
    if method in offered:
        return
    close = difflib.get_close_matches(method, offered, n=3, cutoff=0.4)
    hint = f"; did you mean {', '.join(close)}?" if close else ""
    raise ConfigError(
        f"{place}.method is {method!r}; expected one of the {len(offered)} methods of {package} that "
        f"`benchmark plugins {plugin}` lists{hint}"
    )


def parameters_of(signature: Callable[..., Any], owned: Collection[str]) -> tuple[str, ...]:
    """Parameters of a class or function by name, without those in `owned`, which the bridge sets."""
    taken = inspect.signature(signature).parameters.values()
    return tuple(one.name for one in taken if one.kind is not one.VAR_KEYWORD and one.name not in owned)


def check_args(
    place: str, method: str, given: Iterable[str], taken: Collection[str], owned: Collection[str], source: str
) -> None:
    """Refuse parameters that a method does not have, or that the bridge sets (ConfigError).

    Args:
        place: prefix of the settings in errors. method: in words, such as "art's DeepFool". given, taken: names of
            parameters. owned: those that the bridge sets. source: sentence on where it takes them from.
    """
    for name in given:
        if name in owned:
            raise ConfigError(f"{place}.args.{name} is set by the bridge, {source}")
        if name not in taken:
            raise ConfigError(f"{place}.args.{name} is no parameter of {method}; it has {', '.join(taken) or 'none'}")
