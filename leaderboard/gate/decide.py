"""Decisions on shares of examples: reached, missed, or undecided with this many examples.

A goal is reached if the lower exact bound of the share is at least the goal, and missed if the upper bound is below it.
Otherwise it is undecided, and more examples are needed. All checks of a gate must pass, so each passes at the full
level (an intersection-union test: Berger, Technometrics 24, 1982); a single failure fails the gate, so the level of a
failure is divided by the number of checks (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from scipy import special

from ..ranking.statistics import LEVEL, clopper_pearson, paired_difference

__all__ = ["Decision", "Outcome", "decide_loss", "decide_share"]

Outcome = Literal["pass", "fail", "undecided"]

NAMED_AT_MOST = 10_000_000
"""Largest number of needed examples that is reported."""


@dataclass(frozen=True)
class Decision:
    """A decision with the bounds that it rests on.

    value, low, high: the observed share or loss, and its bounds. needed: number of examples that would decide, if the
    observed share stays the same; None if it is decided, or if no number of examples would decide.
    """

    outcome: Outcome
    value: float
    low: float
    high: float
    needed: int | None = None


def decide_share(right: int, total: int, goal: float, *, checks: int = 1, level: float = LEVEL) -> Decision:
    """Compare a share of examples with its goal, by exact bounds (Clopper and Pearson, 1934).

    Args:
        right: number of correct examples in [0, total]. goal: in [0, 1]. checks: number of checks of the gate.
        level: probability of a wrong decision, one-sided.

    Raises:
        ValueError: if there is no example, or the count exceeds the total.
    """
    outcome, low, high = _of_share(right, total, goal, checks, level)
    needed = None
    if outcome == "undecided" and right / total != goal:
        needed = _examples(lambda n: _of_share(round(right / total * n), n, goal, checks, level)[0], total)
    return Decision(outcome, right / total, low, high, needed)


def _of_share(right: int, total: int, goal: float, checks: int, level: float) -> tuple[Outcome, float, float]:
    low = clopper_pearson(right, total, 1 - 2 * level)[0]
    high = clopper_pearson(right, total, 1 - 2 * level / checks)[1]
    if low >= goal or (goal == 1.0 and right == total):
        return "pass", low, high
    return ("fail" if high < goal else "undecided"), low, high


def decide_loss(
    table: tuple[int, int, int, int], tolerated: float, *, checks: int = 1, level: float = LEVEL
) -> Decision:
    """Compare the present version with a baseline on the same examples.

    It passes if the upper bound of the loss is at most the tolerated loss. Otherwise it fails if the loss is
    significant in the one-sided exact test of McNemar (1947). The bounds are Newcombe's (Statistics in Medicine 17,
    1998, method 10).

    Args:
        table: numbers of examples that (both, only the baseline, only the present version, neither) classify correctly.
        tolerated: largest acceptable loss, as a share of all examples.

    Raises:
        ValueError: if there is no example.
    """
    outcome, low, high = _of_loss(table, tolerated, checks, level)
    total = sum(table)
    loss = (table[1] - table[2]) / total
    needed = None
    if outcome == "undecided":

        def at(examples: int) -> Outcome:
            scaled = tuple(round(count / total * examples) for count in table)
            return _of_loss(scaled, tolerated, checks, level)[0]

        needed = _examples(at, total)
    return Decision(outcome, loss, low, high, needed)


def _of_loss(table: tuple[int, ...], tolerated: float, checks: int, level: float) -> tuple[Outcome, float, float]:
    both, before, now, neither = table
    low, high = paired_difference(both, before, now, neither, 1 - 2 * level)
    if high <= tolerated:
        return "pass", low, high
    by_chance = 1.0 if before == 0 else float(special.bdtrc(before - 1, before + now, 0.5))
    return ("fail" if by_chance < level / checks else "undecided"), low, high


def _examples(outcome_of: Callable[[int], Outcome], total: int) -> int | None:
    """Approximate smallest number of examples that decides; None beyond `NAMED_AT_MOST`."""
    high = total
    while outcome_of(high) == "undecided":
        high *= 2
        if high > NAMED_AT_MOST:
            return None
    low = high // 2
    while high - low > max(1, high // 200):
        middle = (low + high) // 2
        low, high = (middle, high) if outcome_of(middle) == "undecided" else (low, middle)
    return high
