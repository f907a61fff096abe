"""Check of submitted cells whose attacks were run on the survivors of other cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import reduce

import numpy as np

from benchmark.records.earlier import misfit

from ..cells.cell import Cell
from ..cells.evidence import read_answers, read_evidence

__all__ = ["unfaithful_survivors"]


def unfaithful_survivors(cell: Cell, there: Mapping[str, Cell]) -> Iterator[str]:
    """Contradictions between the examples that an attack skipped and those that the named cells broke.

    Args:
        there: cells of the submission and published ones, by key.
    """
    record = cell.record
    if not record.survivors_of:
        return
    for key in record.survivors_of:
        if key not in there:
            yield (
                f"{cell.place} was run on the survivors of the cell {key}, which is neither in the submission nor "
                "published"
            )
            return
        if why := misfit(record, there[key].record):
            yield f"{cell.place}: {why}"
            return
    broken = reduce(np.logical_or, [read_answers(there[key]).broken for key in record.survivors_of])
    own = read_evidence(cell)
    if not np.array_equal(own.spared, own.clean & broken):
        yield f"{cell.place} was run on other examples than the survivors of the cells that it names"
