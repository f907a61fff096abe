"""What systems and cells are called, for people: in tables, messages and on trackers. Files are named by keys."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["cell_name", "system_name", "threat_name"]

SHOWN = 8
"""So many characters of a key are enough for people."""


def system_name(dataset: str, model: str, parts: Iterable[str]) -> str:
    """dataset/model+part+..., the parts being defenses and then poisons."""
    return "+".join([f"{dataset}/{model}", *parts])


def threat_name(
    norm: str,
    eps: str,
    *,
    aware: bool,
    goal: str,
    region: str,
    queries: int | None,
    levels: int | None,
    surrogate: str,
) -> str:
    """Norm and radius, and what else is not as usual: 'linf 1/10 oblivious least_likely square(3) 500 queries'."""
    unusual = [] if aware else ["oblivious"]
    unusual += [] if goal == "untargeted" else [goal]
    unusual += [] if region == "full" else [region]
    unusual += [] if queries is None else [f"{queries} queries"]
    unusual += [] if levels is None else [f"{levels} levels"]
    unusual += [f"from {', '.join(key[:SHOWN] for key in surrogate.split(','))}"] if surrogate else []
    return " ".join([norm, eps, *unusual])


def cell_name(system: str, attack: str, threat: str, seed: int) -> str:
    """The names of system, attack and threat, and the seed."""
    return f"{system} {attack} {threat} seed {seed}"
