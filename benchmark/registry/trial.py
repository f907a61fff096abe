"""Trial imports: plugins are loaded in a child process, which reports their declarations.

A plugin that crashes or hangs affects only the child: it is reported, and a new child continues with the others.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from benchmark import registry
from benchmark.errors import PluginError
from benchmark.registry.entry_points import Declared

__all__ = ["answers_of_child"]

PATIENCE = 120
"""Timeout of a child process that imports plugins, in seconds."""

_YEAR = re.compile(r"\b(19|20)\d\d\b|arXiv", re.IGNORECASE)
_MARK = "\x1eanswer "


def answers_of_child(plugins: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Import these plugins in a child process.

    Args:
        plugins: the fields of each :class:`benchmark.registry.Declared`.

    Returns:
        For each, the fields of its description, without `declared`.
    """
    answers: list[dict[str, Any]] = []
    while len(answers) < len(plugins):
        rest = plugins[len(answers) :]
        reason = _ask(rest, answers)
        if reason:
            guilty = plugins[len(answers)]
            name = f"{guilty['kind']}.{guilty['name']}"
            problem = f"plugin '{name}' {reason} while it was imported; uninstall it, or report this to its author"
            answers.append({"problem": problem})
    return answers


def _ask(plugins: Sequence[dict[str, Any]], answers: list[dict[str, Any]]) -> str:
    """Append the answers of one child as far as it gets; returns the reason why it stopped early, or ""."""
    command = [sys.executable, "-m", "benchmark.registry.trial"]
    reason, out = "", ""
    try:
        done = subprocess.run(
            command, input=json.dumps(plugins), capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        out = done.stdout
        reason = f"ended the process with code {done.returncode}"
    except subprocess.TimeoutExpired as error:
        out = error.stdout.decode() if isinstance(error.stdout, bytes) else (error.stdout or "")
        reason = f"took longer than {PATIENCE} seconds"
    made = [json.loads(line[len(_MARK) :]) for line in out.split("\n") if line.startswith(_MARK)]
    answers += made
    return "" if len(made) == len(plugins) else reason


def description_of(plugin: Declared) -> dict[str, Any]:
    """Fields of a description, from loading the plugin in this process."""
    try:
        registry.find(plugin.kind, plugin.name)
        cls = registry.load(plugin.kind, plugin.name)
    except PluginError as error:
        return {"problem": str(error)}
    summary, paper = _words(sys.modules[cls.__module__].__doc__ or "")
    return {
        "summary": summary,
        "paper": paper,
        "class_name": cls.__name__,
        "about": inspect.getdoc(cls) or "",
        "fields": {f.name: _default(f) for f in dataclasses.fields(cls) if f.init},
        "supports": _supports(cls),
        "flags": {name: value for name, value in inspect.getmembers(cls) if isinstance(value, bool) and name[0] != "_"},
        "offers": list(cls.offers()),
        "problem": "",
    }


def _words(docstring: str) -> tuple[str, str]:
    """Summary and paper: the first sentence of the docstring's first paragraph, and the rest if it has a year."""
    paragraph = " ".join(docstring.strip().partition("\n\n")[0].split())
    summary, _, rest = paragraph.partition(". ")
    return summary.rstrip("."), rest if _YEAR.search(rest) else ""


def _default(field: dataclasses.Field[Any]) -> Any:
    """Default of a field as a JSON value; None if it has no plain one."""
    if "plugin" in field.metadata:
        return None
    if "plugins" in field.metadata:
        return list(field.metadata["plugins"])
    if field.default_factory is not dataclasses.MISSING:
        return _plain(field.default_factory())
    return None if field.default is dataclasses.MISSING else _plain(field.default)


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(str(_plain(item)) for item in value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value if isinstance(value, (bool, int, float, str)) or value is None else str(value)


def _supports(cls: Any) -> dict[str, Any]:
    """Declared abilities of an attack or a certifier, as plain values."""
    from benchmark.api import Norm, Supports

    can = getattr(cls, "supports", None)
    if not isinstance(can, Supports):
        return {}
    flags = {f.name: getattr(can, f.name) for f in dataclasses.fields(can) if f.name not in ("norms", "access")}
    return {"norms": [norm.value for norm in Norm if norm in can.norms], "access": can.access.value, **flags}


def main() -> None:
    """Answer for each plugin named on standard input, one line each, as soon as it is imported."""
    for plugin in json.load(sys.stdin):
        answer = json.dumps(description_of(Declared(**plugin)))
        sys.stdout.write(f"\n{_MARK}{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
