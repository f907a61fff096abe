"""Exact paired test of two sets of cells on the same examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import RecordError
from benchmark.records.record import Record
from benchmark.records.statistics import clopper_pearson, mcnemar
from benchmark.records.summary import Interval, outcomes_of, proportion

__all__ = ["Comparison", "Kept", "compared", "kept_of"]

_Bools = NDArray[np.bool_]
_Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Kept:
    """Examples robust to one attack, or to several in the worst case.

    name, threat: display names. examples: sha256 of ids and labels. ids: (N,) int64. robust: (N,) bool.
    """

    name: str
    examples: str
    ids: _Ints
    robust: _Bools
    threat: str

    @property
    def accuracy(self) -> Interval:
        """Robust accuracy with its interval."""
        found = proportion(int(self.robust.sum()), len(self.robust))
        assert found is not None
        return found


def robust_rows(outcomes: dict[str, Any]) -> _Bools:
    """True where correct on the clean input, attacked by a valid candidate, and not broken, (N,) bool."""
    rows: _Bools = outcomes["clean_correct"] & outcomes["valid"] & ~outcomes["broken"]
    return rows


def kept_of(name: str, cells: Sequence[tuple[Record, Path]]) -> Kept:
    """Examples that stay correct in every cell: the worst case over the attacks of `cells`.

    Raises:
        RecordError: if there is no complete cell, or their examples differ.
    """
    complete = [(record, folder) for record, folder in cells if record.status == "complete"]
    if not complete:
        raise RecordError(f"{name} has no complete cell; there is nothing to compare")
    if len({record.examples_sha256 for record, _ in complete}) > 1:
        raise RecordError(
            f"the cells of {name} have different examples; choose cells with the same dataset and number of examples"
        )
    read = [outcomes_of(folder) for _, folder in complete]
    robust = np.logical_and.reduce([robust_rows(outcomes) for outcomes in read])
    threats = sorted({record.threat.name for record, _ in complete})
    return Kept(name, complete[0][0].examples_sha256, read[0]["ids"], robust, ", ".join(threats))


@dataclass(frozen=True, eq=False)
class Comparison:
    """Difference between two systems, attacks or results on the same examples.

    only_first, only_second: ids of examples robust in only one of the two. p_value: exact two-sided McNemar test of
    their numbers, whose null hypothesis is that a disagreement goes either way with probability 1/2. difference: robust
    accuracy of the first minus that of the second, with a 95 % interval given the number of disagreements
    (Clopper-Pearson of their proportion); without any, the largest share of disagreements that the examples allow.
    """

    first: Kept
    second: Kept
    only_first: _Ints
    only_second: _Ints
    p_value: float
    difference: Interval

    def __str__(self) -> str:
        said = self.difference
        verdict = "they differ at the 5 % level" if self.p_value <= 0.05 else "no difference is shown at the 5 % level"
        lines = [
            f"{self.first.name}: robust {self.first.accuracy}, {self.first.threat}",
            f"{self.second.name}: robust {self.second.accuracy}, {self.second.threat}",
            f"difference {100 * said.value:+.1f} points ({100 * said.low:+.1f} to {100 * said.high:+.1f}) on "
            f"{len(self.first.ids)} examples; {len(self.only_first)} robust only in the first, "
            f"{len(self.only_second)} only in the second",
            f"exact McNemar p = {self.p_value:.3g}: {verdict}",
        ]
        if self.first.threat != self.second.threat:
            lines.append(
                "the two were attacked under different threats: the difference is not due to the systems alone"
            )
        return "\n".join(lines)


def compared(first: Kept, second: Kept) -> Comparison:
    """Compare two sets of cells example by example.

    Raises:
        RecordError: if their examples differ.
    """
    if first.examples != second.examples or not np.array_equal(first.ids, second.ids):
        raise RecordError(
            f"{first.name} and {second.name} have different examples ({len(first.ids)} and {len(second.ids)}); a "
            "paired test needs the same ones: evaluate both on the same data with the same number of examples"
        )
    only_first, only_second = first.robust & ~second.robust, second.robust & ~first.robust
    b, c, total = int(only_first.sum()), int(only_second.sum()), len(first.ids)
    low, high = clopper_pearson(b, b + c) if b + c else (0.0, 1.0)
    apart = (b + c) / total if b + c else clopper_pearson(0, total)[1]
    difference = Interval((b - c) / total, (2 * low - 1) * apart, (2 * high - 1) * apart)
    return Comparison(first, second, first.ids[only_first], first.ids[only_second], float(mcnemar(b, c)), difference)
