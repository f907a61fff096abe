"""Detector scores of each example of a cell, clean and attacked, read on demand for plots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from benchmark.records.record import Record

from .cell import Cell
from .evidence import OUTCOMES, Bools
from .packed import ARRAYS, WRONG, bits_of

__all__ = ["Suspicion", "read_suspicion"]

SCORES = ("clean_suspicion", "adv_suspicion")


@dataclass(frozen=True, eq=False)
class Suspicion:
    """Detector scores relative to the threshold: an input is refused where its score is positive.

    clean, attacked: (N,) float32. clean_wrong, attacked_wrong: (N,) bool, misclassified by the classifier alone.
    tried: (N,) bool, attacked with a valid candidate; the attacked score of the others is that of their clean input.
    """

    clean: NDArray[np.float32]
    attacked: NDArray[np.float32]
    clean_wrong: Bools
    attacked_wrong: Bools
    tried: Bools

    @property
    def deceptive(self) -> NDArray[np.float32]:
        """Scores of the candidates that the classifier alone misclassifies, (M,) float32."""
        return self.attacked[self.tried & self.attacked_wrong]


def read_suspicion(cell: Cell) -> Suspicion | None:
    """Scores of a cell; None if its system has no detector, or the file does not have the expected content."""
    if cell.record.counts is None:
        return None
    try:
        found = _stored(cell) if (cell.folder / OUTCOMES).is_file() else _packed(cell.record, cell)
    except (OSError, SafetensorError):
        return None
    if found is None or any(array.shape != (cell.record.counts.total,) for array in found):
        return None
    clean, attacked, clean_wrong, attacked_wrong, tried = found
    if any(scores.dtype != np.float32 or not np.isfinite(scores).all() for scores in (clean, attacked)):
        return None
    return Suspicion(clean, attacked, clean_wrong.astype(bool), attacked_wrong.astype(bool), tried.astype(bool))


def _stored(cell: Cell) -> list[NDArray[Any]] | None:
    with safe_open(cell.folder / OUTCOMES, framework="numpy") as file:
        if not {*SCORES, "clean_predicted", "adv_predicted"} <= set(file.keys()):
            return None
        y, clean, attacked = (file.get_tensor(name) for name in ("y", "clean_predicted", "adv_predicted"))
        tried = file.get_tensor("attacked") & file.get_tensor("valid")
        return [*(file.get_tensor(name) for name in SCORES), clean != y, attacked != y, tried]


def _packed(record: Record, cell: Cell) -> list[NDArray[Any]] | None:
    assert record.counts is not None
    total = record.counts.total
    with safe_open(cell.folder / ARRAYS, framework="numpy") as file:
        if not {*SCORES, *WRONG} <= set(file.keys()):
            return None
        bits = {name: bits_of(file.get_tensor(name), total, name) for name in (*WRONG, "attacked", "valid")}
        scores = [file.get_tensor(name) for name in SCORES]
    return [*scores, *(bits[name] for name in WRONG), bits["attacked"] & bits["valid"]]
