"""Plugins of other distributions, really imported: in a child process, once per version, with the answer kept.

Reading a file does not show whether it loads. The answers lie in the user's cache folder until a distribution changes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmark import __version__
from benchmark.registry.installed import Declared
from benchmark.registry.sources import source_of

__all__ = ["imported"]

_CHILD = """
import json, sys
from benchmark import __version__, registry
from benchmark.errors import PluginError
answers = {}
for full in json.load(sys.stdin):
    kind, _, name = full.partition(".")
    try:
        registry.load(kind, name)
        answers[full] = ""
    except PluginError as error:
        answers[full] = str(error)
sys.stdout.write("\\n" + json.dumps(answers))
"""


def _cache_folder() -> Path:
    """Where this platform keeps a user's caches; XDG_CACHE_HOME comes first."""
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
    """What is installed: a change of any distribution makes earlier answers void."""
    names: list[str] = [sys.version, sys.prefix]
    for folder in sys.path:
        try:
            entries = [entry.name for entry in Path(folder or ".").iterdir()]
        except OSError:
            continue
        names += sorted(name for name in entries if name.endswith((".dist-info", ".egg-info", ".egg-link")))
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def _cache_key(plugin: Declared) -> str:
    """A name for a plugin in the state in which it is installed now."""
    path = source_of(plugin.module.partition(":")[0])
    state = (path.stat().st_mtime_ns, path.stat().st_size) if path is not None else ()
    parts = (plugin.full_name, plugin.distribution, plugin.version, str(path), state, __version__, _environment())
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def imported(plugins: Sequence[Declared]) -> dict[str, str]:
    """By full name: why a plugin does not load, or ""; unknown ones are imported in one child process."""
    file = _cache_folder() / "plugins.json"
    try:
        known: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    keys = {plugin.full_name: _cache_key(plugin) for plugin in plugins}
    unknown = [name for name, key in keys.items() if key not in known]
    if unknown:
        from benchmark.records.record import write_atomic

        answers = _import_in_child(unknown)
        known = {key: value for key, value in known.items() if key in keys.values()}
        known |= {keys[name]: answer for name, answer in answers.items()}
        with contextlib.suppress(OSError):  # a folder that cannot be written only costs time
            write_atomic(file, json.dumps(known, indent=1, sort_keys=True) + "\n")
    return {name: known.get(key, "") for name, key in keys.items()}


def _import_in_child(names: Sequence[str]) -> dict[str, str]:
    """Load plugins in a process of their own, so that one that crashes or hangs takes nothing with it."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD],
            input=json.dumps(names),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode == 0:
            answers: dict[str, str] = json.loads(done.stdout.rpartition("\n")[2])
            return answers
        reason = f"ended the process with code {done.returncode}"
    except subprocess.TimeoutExpired:
        reason = "took longer than 120 seconds"
    if len(names) == 1:
        return {names[0]: f"plugin '{names[0]}' {reason} while it was imported; uninstall it, or tell its author"}
    return {name: answer for one in names for name, answer in _import_in_child([one]).items()}
