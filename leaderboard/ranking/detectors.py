"""Detectors of a board: their fitting attacks, and curves over all thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.records.record import Record

from ..board import AttackColumn, Board, Measured, Row, Score
from ..cells.suspicion import Suspicion

__all__ = ["Detected", "Point", "detected", "risk_points", "roc_points"]

Point = tuple[float, float, float, float]


@dataclass(frozen=True)
class Detected:
    """One attack on a system with detectors.

    fitted_on: per detector, the attacks whose examples it was fitted on; empty for clean examples alone.
    seen: the attack is among them.
    """

    row: Row
    column: AttackColumn
    score: Score
    fitted_on: Mapping[str, tuple[str, ...]]
    seen: bool

    def measured(self, name: str) -> Measured | None:
        """Measurement of that name, None if it was not taken."""
        return next((value for metric, value in self.score.metrics.items() if metric.name == name), None)


def detected(board: Board, records: Mapping[str, Record]) -> list[Detected]:
    """Every attack on every system with detectors, in the order of the board; attacks seen in fitting come last."""
    found = []
    for row in board.rows:
        of_row = []
        for column, score in zip(board.columns, row.scores, strict=True):
            if score is None or score.keys[0] not in records:
                continue
            fitted_on = {name: tuple(of) for name, of in sorted(records[score.keys[0]].fitted_on.items())}
            if fitted_on:
                seen = any(column.name in attacks for attacks in fitted_on.values())
                of_row.append(Detected(row, column, score, fitted_on, seen))
        found += sorted(of_row, key=lambda one: (one.seen, one.score.robust.value))
    return found


def roc_points(of: Suspicion) -> list[Point]:
    """Receiver operating characteristic: (false positive rate, true positive rate), a step curve from (0, ...).

    Positives are candidates that the classifier alone misclassifies, negatives are clean inputs. Each rate is that of
    the smallest threshold with at most that many false positives. As points of a curve, without a band.
    """
    clean, deceptive = np.sort(of.clean), np.sort(of.deceptive)
    if not len(clean) or not len(deceptive):
        return []
    bars = np.unique(clean)[::-1]
    false, true = (1.0 - np.searchsorted(scores, bars, side="right") / len(scores) for scores in (clean, deceptive))
    points = [(float(x), float(y), float(y), float(y)) for x, y in zip(false, true, strict=True)]
    return [*points, (1.0, 1.0, 1.0, 1.0)]


def risk_points(suspicion: NDArray[np.float32], wrong: NDArray[np.bool_]) -> list[Point]:
    """Risk-coverage curve: (share of answered inputs, share of wrong answers among them), the least suspicious first.

    El-Yaniv & Wiener, JMLR 11, 2010, section 2. Among equally suspicious inputs the risk is that of a random order.
    """
    if not len(suspicion):
        return []
    order = np.argsort(suspicion, kind="stable")
    _, group, sizes = np.unique(suspicion[order], return_inverse=True, return_counts=True)
    errors = np.bincount(group, weights=wrong[order], minlength=len(sizes))
    risk = np.cumsum((errors / sizes)[group]) / np.arange(1, len(order) + 1)
    coverage = np.arange(1, len(order) + 1) / len(order)
    return [(float(x), float(y), float(y), float(y)) for x, y in zip(coverage, risk, strict=True)]
