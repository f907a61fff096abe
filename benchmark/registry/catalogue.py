"""Descriptions of the installed plugins, made without importing them in this process.

Only an import shows if a plugin loads and what it declares. Plugins are therefore imported in a child process, once per
state of their distribution, and the results are kept in the user's cache folder. The errors of plugins that do not load
are those of :mod:`benchmark.registry.installed`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib.machinery
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark import __version__, registry
from benchmark.registry.entry_points import Declared
from benchmark.registry.trial import answers_of_child

__all__ = ["Description", "catalogue", "describe"]

FORMAT = 2
"""Version of the cached descriptions; raise it with any change of `trial.description_of`."""


@dataclass(frozen=True)
class Description:
    """A plugin's declarations.

    summary, paper: from the first paragraph of the module's docstring; paper is "" if it names none.
    about: docstring of the class, which explains its settings.
    fields: configuration, name -> default (None if it has no plain default).
    supports: of attacks and certifiers: norms and access by name, and the flags; empty for other kinds.
    flags: other boolean declarations of the class, such as a defense's `randomized`.
    offers: choices by name, one line each, such as the attacks of a toolkit.
    problem: reason why it cannot be loaded, or "".
    """

    declared: Declared
    summary: str = ""
    paper: str = ""
    class_name: str = ""
    about: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    supports: dict[str, Any] = field(default_factory=dict)
    flags: dict[str, bool] = field(default_factory=dict)
    offers: list[str] = field(default_factory=list)
    problem: str = ""


def describe(plugin: Declared) -> Description:
    """Description of one declared plugin."""
    return _described([plugin])[0]


def catalogue(kind: str | None = None) -> list[Description]:
    """Descriptions of every declared plugin, of one kind or all, sorted by kind and name."""
    wanted = [plugin for plugin in registry.declared() if kind is None or plugin.kind == kind]
    order = {name: at for at, name in enumerate(registry.KINDS)}
    wanted.sort(key=lambda d: (order.get(d.kind, len(order)), d.name, d.distribution))
    return _described(wanted)


def _described(plugins: Sequence[Declared]) -> list[Description]:
    """Descriptions of these plugins, from the cache or from a child process that imports them."""
    file = _cache_folder() / "plugins.json"
    try:
        known: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    keys = [_cache_key(plugin) for plugin in plugins]
    unknown = {key: plugin for key, plugin in zip(keys, plugins, strict=True) if key not in known}
    if unknown:
        from benchmark.records.durable import write_atomic

        answers = answers_of_child([dataclasses.asdict(plugin) for plugin in unknown.values()])
        known |= dict(zip(unknown, answers, strict=True))
        current = {_cache_key(plugin) for plugin in registry.declared()} | set(keys)
        with contextlib.suppress(OSError):  # a folder that cannot be written only costs time
            kept = {key: value for key, value in known.items() if key in current}
            write_atomic(file, json.dumps(kept, indent=1) + "\n")
    return [Description(plugin, **known[key]) for key, plugin in zip(keys, plugins, strict=True)]


def _cache_folder() -> Path:
    """The platform's folder for user caches; XDG_CACHE_HOME takes precedence."""
    chosen = os.environ.get("XDG_CACHE_HOME")
    if chosen:
        return Path(chosen) / "adversarial-benchmark"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "adversarial-benchmark"
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "adversarial-benchmark"
    return Path.home() / ".cache" / "adversarial-benchmark"


@functools.cache
def _environment() -> str:
    """Digest of all installed distributions; any change invalidates the cache."""
    names: list[str] = [sys.version, sys.prefix, __version__]
    for folder in sys.path:
        try:
            entries = [entry.name for entry in Path(folder or ".").iterdir()]
        except OSError:
            continue
        names += sorted(name for name in entries if name.endswith((".dist-info", ".egg-info", ".egg-link")))
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


@functools.cache
def _state_of(package: str) -> str:
    """State of the source files of a top-level package, found without importing it."""
    spec = None
    for finder in sys.meta_path:
        with contextlib.suppress(Exception):
            spec = finder.find_spec(package, None) if hasattr(finder, "find_spec") else None
        if spec is not None:
            break
    return _digest_of(spec) if spec is not None else ""


def _digest_of(spec: importlib.machinery.ModuleSpec) -> str:
    folders = [Path(place) for place in spec.submodule_search_locations or ()]
    files = [path for folder in folders for path in sorted(folder.rglob("*.py"))] or [Path(spec.origin or "")]
    states = [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files if path.is_file()]
    return hashlib.sha256(repr(states).encode()).hexdigest()


def _cache_key(plugin: Declared) -> str:
    """Cache key of a plugin in its installed state."""
    package = plugin.module.partition(":")[0].partition(".")[0]
    rivals = [rival.owner for rival in registry.declared() if rival.full_name == plugin.full_name]
    parts = (FORMAT, dataclasses.astuple(plugin), rivals, _state_of(package), _environment())
    return hashlib.sha256(repr(parts).encode()).hexdigest()
