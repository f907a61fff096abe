"""`benchmark plugins`: list the installed plugins, or show one with its settings, without importing it."""

from __future__ import annotations

import dataclasses
import importlib.resources
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark import registry
from benchmark.errors import PluginError
from benchmark.registry.catalogue import Description, catalogue

__all__ = ["check_plugin", "main"]


def main(kind: str | None, name: str | None, *, as_json: bool, own: Path | None = None) -> int:
    """Print all plugins, those of one kind, or one; returns the exit code 0.

    Args:
        own: a folder of configurations, like --config-dir of benchmark run; its named settings are listed too.

    Raises:
        PluginError: if there is no such kind or plugin.
    """
    if kind is not None and "." in kind and not name:
        kind, _, name = kind.partition(".")
    if kind is not None and kind not in registry.KINDS:
        raise PluginError(f"{kind!r} is not a kind of plugin; expected one of {', '.join(registry.KINDS)}, or check")
    if name:
        registry.find(str(kind), name)
    for problem in registry.unreadable():
        sys.stderr.write(f"benchmark: {problem}\n")
    found = [d for d in catalogue(kind) if name in (None, d.declared.name)]
    if as_json:
        sys.stdout.write(json.dumps([_plain(d) for d in found], indent=2) + "\n")
    elif name:
        sys.stdout.write(_page(found[0]) + "\n")
    else:
        sys.stdout.write(_table(found, _variants(kind, own)) + "\n")
    return 0


def check_plugin(full_name: str, *, as_json: bool) -> int:
    """Run the contract suite on one plugin and print the result of each rule; returns 1 if one failed.

    Raises:
        PluginError: if there is no plugin of this name.
    """
    from benchmark.testing import contract

    kind, _, name = full_name.partition(".")
    if kind not in registry.KINDS:
        raise PluginError(f"{full_name!r} is not a plugin's name; expected KIND.NAME, such as attack.pgd")
    results = []
    for result in contract.check(kind, name):
        results.append(result)
        if not as_json:
            sys.stdout.write(f"{result.status}  {result.rule}" + (f": {result.reason}" if result.reason else "") + "\n")
            sys.stdout.flush()
    count = {status: sum(r.status == status for r in results) for status in ("pass", "fail", "skip")}
    if as_json:
        sys.stdout.write(json.dumps([dataclasses.asdict(r) for r in results], indent=2) + "\n")
    else:
        sys.stdout.write(f"{count['pass']} passed, {count['fail']} failed, {count['skip']} skipped\n")
    return 1 if count["fail"] else 0


def _variants(kind: str | None, own: Path | None) -> list[str]:
    """Named settings, which are chosen like plugins: those of the harness and those in the folder `own`."""
    lines = []
    for group in registry.KINDS if kind is None else (kind,):
        shipped = importlib.resources.files("benchmark.conf").joinpath(group)
        names = sorted(p.name.removesuffix(".yaml") for p in shipped.iterdir()) if shipped.is_dir() else []
        if names:
            lines.append(f"named settings: {group}={', '.join(names)}")
        files = sorted((own / group).glob("*.yaml")) if own is not None else []
        if files:
            lines.append(f"named settings in {own}: {group}={', '.join(file.stem for file in files)}")
    return lines


def _page(description: Description) -> str:
    """Description of one plugin: summary, abilities, and each setting as written on the command line."""
    declared = description.declared
    group = declared.kind
    prefix = f"{group}.{declared.name}" if group in registry.LISTS else group
    choice = f"'{group}=[{declared.name}]'" if group in registry.LISTS else f"{group}={declared.name}"
    lines = [f"{declared.full_name}  {declared.owner}  {declared.module}", description.summary]
    lines += [line for line in (description.paper, _abilities(description), description.problem) if line]
    if description.about:
        lines += ["", description.about]
    lines += ["", "settings:" if description.fields else "no settings"]
    lines += [f"  {prefix}.{field}{_default(value)}" for field, value in description.fields.items()]
    if description.offers:
        lines += ["", f"offers ({len(description.offers)}):", *(f"  {line}" for line in description.offers)]
    lines += ["", f"benchmark run {choice}", f"benchmark plugins check {declared.full_name}"]
    return "\n".join(lines)


def _default(value: Any) -> str:
    """=VALUE as typed on the command line; empty where the default is known only after running the module."""
    if value is None:
        return ""
    if isinstance(value, (bool, list, tuple)):
        return f"={json.dumps(value)}"
    return f"={value}"


def _plain(description: Description) -> dict[str, object]:
    """Description as JSON values."""
    declared = description.declared
    return {
        "kind": declared.kind,
        "name": declared.name,
        "distribution": declared.distribution,
        "version": declared.version,
        "module": declared.module,
        "summary": description.summary,
        "about": description.about,
        "paper": description.paper,
        "supports": description.supports,
        "flags": description.flags,
        "fields": json.loads(json.dumps(description.fields, default=str)),
        "offers": description.offers,
        "problem": description.problem,
    }


def _abilities(description: Description) -> str:
    """Declared abilities in a few words."""
    can = description.supports
    if can:
        words = [*can["norms"], str(can["access"])]
        words += [flag for flag in ("targeted", "top5", "minimal", "randomized") if can.get(flag)]
        if not can.get("bounded", True):
            words.append("unbounded")
        return " ".join(words)
    words = [name for name in ("randomized", "detects", "optimizes") if description.flags.get(name)]
    if description.declared.kind == "defense" and not description.flags.get("differentiable", True):
        words.append("not differentiable")
    return ", ".join(words)


def _table(found: Sequence[Description], variants: Sequence[str]) -> str:
    """Table of plugins by kind, a line each, followed by the broken ones with their errors."""
    sound = [d for d in found if not d.problem]
    lines: list[str] = []
    rows = [(d.declared.name, d.declared.owner, _abilities(d), d.paper or d.summary) for d in sound]
    widths = [max((len(row[at]) for row in rows), default=0) for at in range(3)]
    room = shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else 0
    for kind in dict.fromkeys(d.declared.kind for d in sound):
        members = [row for d, row in zip(sound, rows, strict=True) if d.declared.kind == kind]
        lines.append(f"{kind} ({len(members)})")
        for row in members:
            line = "  " + "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
            lines.append((line if not room or len(line) <= room else line[: room - 3] + "...").rstrip())
        lines.append("")
    broken = list(dict.fromkeys(d.problem for d in found if d.problem))
    if broken:
        lines += [f"cannot be used ({len(broken)})", *(f"  {problem}" for problem in broken), ""]
    lines += variants
    lines.append(f"{len(sound)} plugins can be used, {len(broken)} cannot. One of them: benchmark plugins KIND.NAME")
    return "\n".join(lines)
