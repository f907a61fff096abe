"""Checks of a plugin's module: it changes nothing of the process, and registers one class of its kind."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pluggy

from benchmark import GROUP, __version__, api
from benchmark.errors import PluginError, message_of
from benchmark.guard import guarded
from benchmark.registry.entry_points import DISTRIBUTION, Declared

if TYPE_CHECKING:
    from benchmark.api import Component

__all__ = ["SUPPORTS", "check_component", "check_version", "guarded_import", "registered"]

SUPPORTS = "supports: ClassVar[Supports] = Supports(...)"
"""Declaration that attacks and certifiers must have, as source code."""


@contextlib.contextmanager
def guarded_import(plugin: Declared, where: str) -> Iterator[None]:
    """Guard an import: undo its changes to the process.

    Raises:
        PluginError: if there were any.
    """
    try:
        with guarded(where, fault=PluginError):
            yield
    except PluginError:
        sys.modules.pop(plugin.module.partition(":")[0], None)  # or it would pass as harmless the next time
        raise


def check_version(plugin: Declared) -> None:
    """Refuse a plugin whose distribution asks for another version of the harness (PluginError)."""
    from packaging.specifiers import SpecifierSet

    if plugin.requires and not SpecifierSet(plugin.requires).contains(__version__, prereleases=True):
        raise PluginError(
            f"plugin '{plugin.full_name}' from {plugin.owner} needs {DISTRIBUTION}{plugin.requires}, but "
            f"{__version__} is installed; install compatible versions of the two"
        )


def registered(module: Any, where: str) -> Any:
    """Class that the module's `benchmark_component` returns."""
    from benchmark.hooks import hookspecs

    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module)
        manager.check_pending()
        found = manager.hook.benchmark_component()
    except Exception as error:
        reason = message_of(error).replace("\n", " ")
        raise PluginError(
            f"{where} registers wrongly: {reason}; a plugin module ends with @hookimpl def benchmark_component()"
        ) from error
    if len(found) != 1:
        hooks = [name for name, value in vars(module).items() if getattr(value, f"{GROUP}_impl", None)]
        raise PluginError(
            f"{where} registers no component (hooks found: {', '.join(hooks) or 'none'}); a plugin module ends with "
            "@hookimpl def benchmark_component()"
        )
    return found[0]


def check_component(component: Any, plugin: Declared, where: str) -> None:
    """Check that the class is a frozen, concrete dataclass of its kind, for this version of the contracts."""
    expected: type[Component] = getattr(api, plugin.kind.capitalize(), api.Component)
    if not (isinstance(component, type) and issubclass(component, expected)):
        raise PluginError(f"{where} registers {component!r}; expected a subclass of benchmark.api.{expected.__name__}")
    if component.api_version != api.API_VERSION:
        raise PluginError(
            f"{where} was written for version {component.api_version} of the plugin contracts, but this harness has "
            f"version {api.API_VERSION}; install a release of {plugin.distribution} made for it"
        )
    if "__dataclass_fields__" not in vars(component) or not vars(component)["__dataclass_params__"].frozen:
        raise PluginError(f"{where}: {component.__name__} must be decorated with @dataclass(frozen=True)")
    if inspect.isabstract(component):
        missing = ", ".join(sorted(component.__abstractmethods__))
        raise PluginError(f"{where}: {component.__name__} does not define {missing}")
    if "supports" in getattr(expected, "__annotations__", {}) and not hasattr(component, "supports"):
        raise PluginError(f"{where}: {component.__name__} does not declare {SUPPORTS}")
