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
import inspect
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from benchmark import GROUP, __version__
from benchmark.errors import PluginError
from benchmark.guard import guarded
from benchmark.registry.origin import version_of

if TYPE_CHECKING:
    from benchmark.api import Component

__all__ = [
    "KINDS",
    "LISTS",
    "Declared",
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

KINDS = ("dataset", "model", "attack", "defense", "poison", "certifier", "metric", "tracker")
"""Kinds of plugin; each is also a config group."""

LISTS = frozenset({"defense", "poison", "certifier", "metric", "tracker"})
"""Kinds of which a run takes an ordered list."""

SUPPORTS = "supports: ClassVar[Supports] = Supports(...)"
"""Declaration that attacks and certifiers must have, as source code."""

DISTRIBUTION = "adversarial-benchmark"


@dataclass(frozen=True)
class Declared:
    """One entry point. requires: its distribution's version specifier for the harness, or ""."""

    kind: str
    name: str
    module: str
    distribution: str
    version: str
    requires: str = ""

    @property
    def full_name(self) -> str:
        """Full name, kind.name."""
        return f"{self.kind}.{self.name}"

    @property
    def named(self) -> str:
        """Full name and owner, for messages."""
        return f"{self.full_name} from {self.owner}"

    @property
    def owner(self) -> str:
        """Distribution and version, for messages."""
        return f"{self.distribution} {self.version}"


def _requirement(distribution: importlib.metadata.Distribution) -> str:
    """Version specifier of a distribution's requirement on the harness."""
    from packaging.requirements import InvalidRequirement, Requirement

    for text in distribution.requires or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.name.replace("_", "-").lower() == DISTRIBUTION:
            return str(requirement.specifier)
    return ""


@functools.cache
def declared() -> tuple[Declared, ...]:
    """Every entry point of the group, sorted; duplicates are kept, so that they can be reported."""
    return _scanned()[0]


def unreadable() -> tuple[str, ...]:
    """Error sentence for every installed distribution whose entry points cannot be read, from any author."""
    return _scanned()[1]


@functools.cache
def _scanned() -> tuple[tuple[Declared, ...], tuple[str, ...]]:
    found: set[Declared] = set()
    problems = []
    for distribution in importlib.metadata.distributions():
        try:
            found |= _points_of(distribution)
        except Exception as error:  # its file is not ours to mend, and nobody asked for it
            place = getattr(distribution, "_path", "an installed distribution")
            problems.append(
                f"the entry points in {place} cannot be read ({type(error).__name__}: {error}); its plugins are left "
                "out: reinstall it"
            )
    return tuple(sorted(found, key=lambda d: (d.kind, d.name, d.distribution, d.version))), tuple(sorted(problems))


def _points_of(distribution: importlib.metadata.Distribution) -> set[Declared]:
    """Entry points of the group that a distribution declares."""
    points = [p for p in distribution.entry_points if p.group == GROUP]
    if not points:
        return set()
    metadata = distribution.metadata  # parsed each time that it is asked for
    name, version = str(metadata["Name"]), str(metadata["Version"])
    requires = "" if name == DISTRIBUTION else _requirement(distribution)
    parts = ((point.name.partition("."), point.value) for point in points)
    return {Declared(kind, short, value, name, version, requires) for (kind, _, short), value in parts}


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
        with _guarded_import(plugin, where):
            module = importlib.metadata.EntryPoint(plugin.full_name, plugin.module, GROUP).load()
    except PluginError:
        raise
    except ModuleNotFoundError as error:
        missing, own = (error.name or "").partition(".")[0], plugin.module.partition(":")[0].partition(".")[0]
        advice = f"The package must contain {own}" if missing == own else f"Try: pip install {missing}"
        raise PluginError(f"{where} failed to import: {error}. {advice}") from error
    except Exception as error:
        raise PluginError(f"{where} failed to import: {type(error).__name__}: {error}") from error
    component: type[Component] = _registered(module, where)
    _check_component(component, plugin, where)
    return component


@contextlib.contextmanager
def _guarded_import(plugin: Declared, where: str) -> Iterator[None]:
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


def check_version(plugin: Declared) -> None:
    from packaging.specifiers import SpecifierSet

    if plugin.requires and not SpecifierSet(plugin.requires).contains(__version__, prereleases=True):
        raise PluginError(
            f"plugin '{plugin.full_name}' from {plugin.owner} needs {DISTRIBUTION}{plugin.requires}, but "
            f"{__version__} is installed; install compatible versions of the two"
        )


def _registered(module: Any, where: str) -> Any:
    """Class that the module's `benchmark_component` returns."""
    from benchmark.hooks import hookspecs

    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module)
        manager.check_pending()
        found = manager.hook.benchmark_component()
    except Exception as error:
        reason = str(error).replace("\n", " ")
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


def _check_component(component: Any, plugin: Declared, where: str) -> None:
    """Check that the class is a frozen, concrete dataclass of its kind, for this version of the contracts."""
    from benchmark import api

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
