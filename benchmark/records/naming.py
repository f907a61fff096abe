"""Names of systems, threats and cells for people: in tables, messages and on trackers. Files are named by keys."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["cell_name", "system_name"]


def system_name(dataset: str, model: str, parts: Iterable[str]) -> str:
    """dataset/model+part+..., the parts being defenses and then poisons."""
    return "+".join([f"{dataset}/{model}", *parts])


def cell_name(system: str, attack: str, threat: str, seed: int) -> str:
    """The names of system, attack and threat, and the seed."""
    return f"{system} {attack} {threat} seed {seed}"
