"""Comparison of attacks over the rows of a board. Influences are summed row by row, so that no row keeps its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..board import AttackColumn, AttackStanding, Optimality, Rate, Score
from .statistics import bounded_interval, optimality, wilson
from .worst_case import AttackedSystem

__all__ = ["Close", "Closeness", "closeness", "standings"]


@dataclass(frozen=True, eq=False)
class Close:
    """Optimality of an attack on one trained system, and the influence (N,) of each example on it."""

    value: float
    influence: NDArray[np.float64]


class Closeness:
    """Optimality of each attack over the rows at one radius. rows: number of systems."""

    def __init__(self) -> None:
        self.rows = 0
        self.value = 0.0
        self.influence: NDArray[np.float64] | None = None

    def add(self, found: Iterable[Close]) -> None:
        """Add the systems of one row."""
        for one in found:
            self.rows += 1
            self.value += one.value
            if self.influence is None:
                self.influence = np.zeros(len(one.influence))
            self.influence += one.influence

    def mean(self, pool: str) -> Optimality | None:
        """Mean over the rows, with its interval over the examples; None without rows."""
        if self.influence is None:
            return None
        value, influence = self.value / self.rows, self.influence / self.rows
        return Optimality(value, *bounded_interval(value + influence - influence.mean()), self.rows, pool)


def closeness(
    systems: Sequence[AttackedSystem], known: Mapping[str, AttackColumn], eps0: float
) -> dict[str, list[Close]]:
    """Optimality by column, for minimal attacks: one entry per system.

    The reference is the smallest distance found by any attack on the example.
    """
    found: dict[str, list[Close]] = {}
    for system in systems:
        ran = {trial.column for trial in system.trials if not trial.cell.record.survivors_of}
        for key, column in known.items():
            if key in ran and column.minimal:
                distance = system.distance_of(key)
                result = optimality(distance, np.minimum(distance, system.distance), eps0)
                if result is not None:
                    found.setdefault(key, []).append(Close(*result))
    return found


def standings(
    columns: Sequence[AttackColumn],
    scores: Sequence[Mapping[str, Score]],
    clean: Sequence[float],
    close: Mapping[str, Closeness],
    pool: str,
) -> tuple[AttackStanding, ...]:
    """Attacks of a board, the most successful first; for attacks given all examples, over the rows where they were.

    Args:
        scores, clean: per row: results of the attacks, number of correct examples. close: by column.
    """
    found = [_standing(at, column.key, scores, clean, close, pool) for at, column in enumerate(columns)
             if any(column.key in row and row[column.key].given is None for row in scores)]  # fmt: skip
    return tuple(sorted(found, key=lambda s: (-s.success.value, s.column)))


def _standing(
    at: int,
    key: str,
    scores: Sequence[Mapping[str, Score]],
    clean: Sequence[float],
    close: Mapping[str, Closeness],
    pool: str,
) -> AttackStanding:
    rows = [row for row, have in enumerate(scores) if key in have and have[key].given is None]
    mine = [scores[row][key] for row in rows]
    attacked = sum(clean[row] for row in rows)
    cells = sum(len(score.keys) for score in mine)
    return AttackStanding(
        column=at,
        rows=len(rows),
        success=_success(sum(score.broken for score in mine), attacked, len(rows)),
        alone=sum(score.alone for score in mine),
        forwards=sum(score.forwards for score in mine) / attacked if attacked else 0.0,
        backwards=sum(score.backwards for score in mine) / attacked if attacked else 0.0,
        seconds=sum(score.seconds for score in mine) / len(mine) if cells else 0.0,
        optimality=close[key].mean(pool) if key in close else None,
    )


def _success(broken: float, attacked: float, rows: int) -> Rate:
    """Share of all attacked examples, with the interval for the examples of one system."""
    total = round(attacked / rows)
    if total == 0:
        return Rate(0.0, 0, 0.0, 0.0, 1.0)
    share = min(1.0, broken / attacked)
    return Rate(share * total, total, share, *wilson(share * total, total))
