"""`benchmark new KIND NAME`: a complete package with one working plugin, its test and a README."""

from __future__ import annotations

import importlib.resources
import keyword
import re
import string
from pathlib import Path

from benchmark import __version__, registry
from benchmark.errors import ConfigError, PluginError

__all__ = ["write_package"]

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")

_VALUES = frozenset({"true", "false", "yes", "no", "on", "off", "null", "none", "nan", "inf"})
"""Reserved words: the command line reads them as values or as an empty choice."""

_CHOICES = {kind: f"'{kind}=[$name]'" if kind in registry.LISTS else f"{kind}=$name" for kind in registry.KINDS}


def write_package(kind: str, name: str, into: Path = Path()) -> Path:
    """Write the package `benchmark-KIND-NAME` into a folder and return its own folder.

    Raises:
        ConfigError: if the name is not a valid plugin name, or the folder exists already.
        PluginError: if the kind is unknown, or an installed plugin has the name.
    """
    if kind not in registry.KINDS:
        raise PluginError(f"{kind!r} is not a kind of plugin; expected one of {', '.join(registry.KINDS)}")
    if not _NAME.fullmatch(name) or keyword.iskeyword(name) or name in _VALUES:
        raise ConfigError(f"{name!r} cannot name a plugin; expected lower-case words such as acme or two_words")
    if name in registry.names(kind):
        owner = registry.find(kind, name).owner
        raise PluginError(f"{kind}.{name} is already the name of a plugin of {owner}; choose another name")
    folder = into / f"benchmark-{kind}-{name.replace('_', '-')}"
    if folder.exists():
        raise ConfigError(f"{folder} exists already; choose another name, or another folder with --into")
    major, minor = __version__.split(".")[:2]
    words = {
        "kind": kind,
        "name": name,
        "module": f"benchmark_{kind}_{name}",
        "distribution": folder.name,
        "cls": "".join(word.capitalize() for word in name.split("_")),
        "requires": f"adversarial-benchmark>={major}.{minor},<{major}.{int(minor) + 1}",
    }
    words["choice"] = string.Template(_CHOICES[kind]).substitute(words)
    folder.mkdir(parents=True)
    for template, file in (
        ("pyproject.toml", "pyproject.toml"),
        ("README.md", "README.md"),
        (f"{kind}.py", f"{words['module']}.py"),
        ("test.py", f"test_{words['module']}.py"),
    ):
        (folder / file).write_text(_filled(template, words), encoding="utf-8")
    return folder


def _filled(template: str, words: dict[str, str]) -> str:
    """Fill in the placeholders of a template."""
    text = importlib.resources.files("benchmark").joinpath("templates", f"{template}.template").read_text("utf-8")
    return string.Template(text).substitute(words)
