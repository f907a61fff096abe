"""Conditions under which records are ranked together."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from benchmark.tasks.task import CLASSIFICATION

__all__ = ["ANY_CHANGE", "AttackColumn", "Conditions", "Protocol"]

ANY_CHANGE = "any"
"""Norm of a board of attacks that no norm bounds."""


@dataclass(frozen=True)
class Conditions:
    """Conditions that comparable records share, apart from the radius.

    Access, query budget and EOT draws are not included: they describe attacks (columns), and the worst case is over all
    of them. suite: its name with its version, None outside suites. official: the rules of the suite were kept.
    total: number of examples. norm: ANY_CHANGE for attacks that no norm bounds. task: of the data.
    """

    suite: str | None
    official: bool
    dataset: str
    dataset_revision: str
    examples_sha256: str
    total: int
    norm: str
    goal: str
    aware: bool
    region: str
    levels: int | None = None
    task: str = CLASSIFICATION

    @property
    def content(self) -> dict[str, Any]:
        """Fields that distinguish conditions; later fields are left out at their original value."""
        usual = {"levels": None, "task": CLASSIFICATION}
        return {name: value for name, value in asdict(self).items() if name not in usual or value != usual[name]}


@dataclass(frozen=True)
class Protocol:
    """Conditions at one radius, which records must share to be ranked together.

    key: content address, usable in a file name. eps: 0 if the norm is ANY_CHANGE.
    """

    key: str
    conditions: Conditions
    eps: float
    eps_exact: str

    @property
    def document(self) -> dict[str, Any]:
        """Protocol as plain data, for downloads."""
        levels = {"levels": self.conditions.levels}
        return {**self.conditions.content, **levels, "key": self.key, "eps": self.eps, "eps_exact": self.eps_exact}


@dataclass(frozen=True)
class AttackColumn:
    """An attack with its settings, as a column of a board.

    key: content address of name, distribution, parameters, access, queries, eot and surrogate. label: the name, with
    the settings that differ from other columns of that name. versions: of the distribution, sorted. access: granted by
    the threat. used: access that the attack used, see :func:`.ranking.grouping.used_access`; "" if unknown.
    """

    key: str
    name: str
    label: str
    params: dict[str, Any]
    distribution: str
    versions: tuple[str, ...]
    access: str
    queries: int | None
    eot: int
    surrogate: str
    minimal: bool
    randomized: bool
    used: str = ""
