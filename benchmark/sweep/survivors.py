"""`until=broken`: the attacks of a sweep from cheap to strong, each on the survivors of the ones before.

An attack decides on each example alone, so its effect on an example that is already broken changes no worst case. The
order follows from declared settings, not from measured times: keys of cells depend on it, and a sweep that is resumed
later, or elsewhere, must arrive at the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

__all__ = ["Chain", "chains"]


@dataclass
class Chain:
    """Jobs of one system and threat, from cheap to strong. after: keys of the cells completed so far."""

    jobs: list[list[str]]
    after: list[str] = field(default_factory=list)

    def next(self) -> list[str]:
        """Take the next job, to run on the survivors of the last one."""
        keys = ",".join(f"'{key}'" for key in self.after)  # in quotes, since 12e4... would be a number
        return [*self.jobs.pop(0), *([f"survivors_of=[{keys}]"] if keys else [])]


def chains(jobs: Sequence[Sequence[str]], passes: Callable[[Sequence[str]], tuple[float, float]]) -> list[Chain]:
    """Jobs grouped by all choices but the attack, each group ordered by the passes that its attacks declare."""
    groups: dict[tuple[str, ...], list[list[str]]] = {}
    for job in jobs:
        groups.setdefault(tuple(sorted(word for word in job if not _of_attack(word))), []).append(list(job))
    return [Chain(sorted(group, key=passes)) for group in groups.values()]


def _of_attack(word: str) -> bool:
    return word.lstrip("+~").startswith(("attack=", "attack."))
