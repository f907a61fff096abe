"""Installed plugins, listed from metadata alone and imported on demand.

Each plugin is an entry point `kind.name` of the group `benchmark`. Nothing is imported before :func:`load`, so a broken
plugin affects only those who ask for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import importlib.metadata
import re
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark import GROUP, __version__
from benchmark.api import KINDS
from benchmark.errors import PluginError, message_of
from benchmark.lean import import_torchmetrics
from benchmark.registry.checks import check_component, check_version, guarded_import, registered
from benchmark.registry.entry_points import DISTRIBUTION, Declared, scanned
from benchmark.registry.origin import version_of

if TYPE_CHECKING:
    from benchmark.api import Component

__all__ = [
    "blamed",
    "declared",
    "distribution_of",
    "find",
    "load",
    "name_of",
    "names",
    "owner_of",
    "settings",
    "unreadable",
]


@functools.cache
def declared() -> tuple[Declared, ...]:
    """Every entry point of the group, sorted; duplicates are kept, so that they can be reported."""
    return scanned()[0]


def unreadable() -> tuple[str, ...]:
    """Error sentence for every installed distribution whose entry points cannot be read, from any author."""
    return scanned()[1]


NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)
"""Pattern of a plugin's name, which is part of keys, file names and pages."""


def names(kind: str) -> list[str]:
    """Names of a kind, sorted; invalid ones, such as ../../etc, are left out."""
    return sorted({d.name for d in declared() if d.kind == kind and NAME.fullmatch(d.name)})


def find(kind: str, name: str) -> Declared:
    """Entry point of that name.

    Raises:
        PluginError: if there is none, or more than one.
    """
    matches = [d for d in declared() if (d.kind, d.name) == (kind, name)]
    if not matches:
        known = names(kind)
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        hint = f" Did you mean {', '.join(f'{kind}.{c}' for c in close)}?" if close else ""
        raise PluginError(f"no plugin named '{kind}.{name}'; {len(known)} of kind {kind} are installed.{hint}")
    if len({m.distribution for m in matches}) > 1 or len(matches) > 1:
        owners = " and ".join(f"{m.owner} ({m.module})" for m in matches)
        raise PluginError(
            f"plugin '{kind}.{name}' is declared by {owners}; a name must have a single owner: uninstall one of them, "
            "or ask its author to rename it"
        )
    return matches[0]


def load(kind: str, name: str, *, own: bool = False) -> type[Component]:
    """Import the plugin of that name and return its class.

    Args:
        own: if several have the name, take the harness's own, as for a default that the user did not choose.

    Raises:
        PluginError: if it is unknown, declared twice, made for another version, fails to import, or registers wrongly.
    """
    ours = [d for d in declared() if (d.kind, d.name, d.distribution) == (kind, name, DISTRIBUTION)]
    return _load(ours[0] if own and len(ours) == 1 else find(kind, name))


@functools.cache
def _load(plugin: Declared) -> type[Component]:
    where = f"plugin '{plugin.full_name}' from {plugin.owner}"
    if plugin.kind not in KINDS or not NAME.fullmatch(plugin.name):
        raise PluginError(f"{where} {misnamed(plugin)}")
    _check_sole_name(plugin, where)
    check_version(plugin)
    try:
        if plugin.kind == "metric":
            import_torchmetrics()
        with guarded_import(plugin, where):
            module = importlib.metadata.EntryPoint(plugin.full_name, plugin.module, GROUP).load()
    except PluginError:
        raise
    except ModuleNotFoundError as error:
        missing, own = (error.name or "").partition(".")[0], plugin.module.partition(":")[0].partition(".")[0]
        advice = f"The package must contain {own}" if missing == own else f"Try: pip install {missing}"
        raise PluginError(f"{where} failed to import: {error}. {advice}") from error
    except Exception as error:
        raise PluginError(f"{where} failed to import: {type(error).__name__}: {message_of(error)}") from error
    component: type[Component] = registered(module, where)
    check_component(component, plugin, where)
    return component


def _check_sole_name(plugin: Declared, where: str) -> None:
    """Check that the module is declared under one name only, since its results bear the first one.

    If another distribution claims one of the harness's own modules, only that claim is refused.
    """
    others = [
        d.full_name
        for d in declared()
        if d.module == plugin.module and d.full_name != plugin.full_name
        if plugin.distribution != DISTRIBUTION or d.distribution == DISTRIBUTION
    ]
    if others and plugin in declared():
        raise PluginError(
            f"{where} is the module {plugin.module}, which is also {', '.join(sorted(others))}; a module must have a "
            "single name: its author must remove one of them"
        )


def misnamed(plugin: Declared) -> str:
    """Error about an entry point whose name has no known kind, or no name after it."""
    if plugin.kind in KINDS:
        return f"is named {plugin.full_name!r}; expected KIND.NAME, such as {plugin.kind}.acme"
    return f"is of kind {plugin.kind!r}; expected one of {', '.join(KINDS)}"


def name_of(component: Component) -> tuple[str, str]:
    """Kind and name of an instance of a loaded plugin."""
    owner = owner_of(type(component))
    return owner.kind, owner.name


def owner_of(cls: type[Component]) -> Declared:
    """Entry point of a loaded class; a class of the core has none, but declares kind and name itself.

    Raises:
        PluginError: if the class does not belong to an installed plugin.
    """
    own = vars(cls).get("held")
    if own is not None and cls.__module__.startswith(f"{GROUP}."):
        kind, name = own
        return Declared(kind, name, cls.__module__, DISTRIBUTION, __version__)
    for plugin in declared():
        same = plugin.module.partition(":")[0] == cls.__module__ and plugin.kind in KINDS and plugin.name
        with contextlib.suppress(PluginError):  # a second name of the same module is none
            if same and _load(plugin) is cls:
                return plugin
    raise PluginError(
        f"{cls.__module__}.{cls.__name__} is not an installed plugin; declare its entry point and reinstall"
    )


def blamed(error: BaseException) -> str:
    """Plugin in whose code an error arose, innermost: `kind.name from OWNER (FILE, line N)`; "" if in none."""
    modules = {plugin.module.partition(":")[0]: plugin for plugin in declared()}
    found = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        plugin = modules.get(str(frame.f_globals.get("__name__")))
        if plugin is not None:
            found = f"{plugin.full_name} from {plugin.owner} ({Path(frame.f_code.co_filename).name}, line {line})"
    return found


def distribution_of(component: Component) -> dict[str, str]:
    """Name, distribution and version of an instance's plugin, for records and keys.

    The version includes a digest of the plugin's source if its distribution is not a release: :mod:`.origin`.
    """
    owner = owner_of(type(component))
    version = version_of(owner.distribution, owner.version, owner.module.partition(":")[0])
    return {"name": owner.name, "distribution": owner.distribution, "version": version}


def settings(component: Any) -> dict[str, Any]:
    """Configuration of a component as plain data, with name and version of the components inside it."""
    from benchmark.api import Component

    def plain(value: Any) -> Any:
        if isinstance(value, Component):
            return {**distribution_of(value), "params": settings(value)}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {f.name: plain(getattr(value, f.name)) for f in _fields(value)}
        if isinstance(value, dict):
            return {str(k): plain(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        if isinstance(value, (bool, int, float, str)) or value is None:
            return value
        return getattr(value, "name", str(value))

    return {f.name: plain(getattr(component, f.name)) for f in _fields(component)}


def _fields(value: Any) -> tuple[dataclasses.Field[Any], ...]:
    """Configuration fields: without a tracker's state between hooks, and without added fields at their defaults."""
    fields = (f for f in dataclasses.fields(value) if f.init)
    return tuple(f for f in fields if not ("added" in f.metadata and getattr(value, f.name) == f.default))
