"""Installed suites: their names with versions, and the attacks that each requires."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from omegaconf import OmegaConf

__all__ = ["required_attacks", "suites"]


def required_attacks(suite: str | None) -> frozenset[str] | None:
    """Names of the attacks that a suite requires; None outside suites, and for one that is not installed."""
    return suites().get(suite) if suite else None


@functools.cache
def suites() -> Mapping[str, frozenset[str]]:
    """Attacks of each installed suite, by its name with its version, as in quickstart@1."""
    found: dict[str, frozenset[str]] = {}
    for file in files("benchmark.conf").joinpath("suite").iterdir():
        if file.name.endswith(".yaml"):
            document = _document("suite", file.name.removesuffix(".yaml"))
            of = document.get("suite") or {}
            if of.get("name") and of.get("version") is not None:
                found[f"{of['name']}@{of['version']}"] = frozenset(map(_attack, _choices(document)))
    return found


def _choices(document: Mapping[str, Any]) -> Iterator[str]:
    """Choices of the group `attack`: those of the sweep, or the one that the suite overrides."""
    swept = document.get("hydra", {}).get("sweeper", {}).get("params", {}).get("attack")
    if swept:
        yield from (choice.strip(" \"'\\\n") for choice in str(swept).split(","))
    else:
        yield from (
            str(line["override /attack"]) for line in document.get("defaults", ()) if "override /attack" in line
        )


def _attack(choice: str) -> str:
    """Attack that a choice configures: that of its file, or the plugin of that name."""
    document = _document("attack", choice)
    return next((_attack(str(line)) for line in document.get("defaults", ()) if line != "_self_"), choice)


def _document(group: str, name: str) -> Mapping[str, Any]:
    """A file of the configuration, unresolved; empty if there is none."""
    file = files("benchmark.conf").joinpath(group, f"{name}.yaml")
    if not file.is_file():
        return {}
    document = OmegaConf.to_container(OmegaConf.create(file.read_text(encoding="utf-8")), resolve=False)
    return {str(key): value for key, value in document.items()} if isinstance(document, dict) else {}
