"""Robust accuracy under the union of norms: correct under every attack of every threat that a system was tested in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..board import ANY_CHANGE, Board, Protocol, Rate, Row, Run
from .statistics import wilson

__all__ = ["Union", "unions"]


@dataclass(frozen=True)
class Union:
    """Robust accuracy of a system under several norms at once. protocols: one per norm, at its largest radius."""

    protocols: tuple[Protocol, ...]
    robust: Rate


def unions(entries: Sequence[tuple[Board, Row]]) -> list[Union]:
    """Unions of norms of one system, one per example list and kind of threat with boards of several norms.

    An example counts if no attack of any of the boards breaks it (Tramer & Boneh, NeurIPS 2019, arXiv:1904.13000,
    section 2: the maximum over the perturbation types). For a norm with several radii the largest is used. Means over
    the runs that are on all of these boards.
    """
    grouped: dict[tuple[object, ...], dict[str, tuple[Board, Row]]] = defaultdict(dict)
    for board, row in entries:
        of = board.protocol.conditions
        if of.norm == ANY_CHANGE:
            continue
        kind = (of.dataset, of.dataset_revision, of.examples_sha256, of.total, of.goal, of.aware, of.region, of.levels)
        there = grouped[kind].get(of.norm)
        if there is None or _stronger(board, row, *there):
            grouped[kind][of.norm] = (board, row)
    found = []
    for norms in grouped.values():
        rate = _all_held([row.runs for _, row in norms.values()]) if len(norms) > 1 else None
        if rate is not None:
            found.append(Union(tuple(board.protocol for board, _ in norms.values()), rate))
    return found


def _stronger(board: Board, row: Row, other: Board, than: Row) -> bool:
    """True if the first is the harder threat: a larger radius, or a lower accuracy at the same radius."""
    return (board.protocol.eps, -row.robust.value) > (other.protocol.eps, -than.robust.value)


def _all_held(rows: Sequence[Sequence[Run]]) -> Rate | None:
    """Mean over the runs that are in all rows; None if no run is."""
    by_key = [{run.system_key: run for run in runs} for runs in rows]
    common = sorted(set.intersection(*(set(runs) for runs in by_key)))
    if not common:
        return None
    total = by_key[0][common[0]].robust.total
    held = [
        int(np.count_nonzero(np.unpackbits(np.bitwise_and.reduce([_bits(runs[key]) for runs in by_key]))))
        for key in common
    ]
    count = sum(held) / len(held)
    return Rate(count, total, count / total, *wilson(count, total))


def _bits(run: Run) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.frombuffer(run.held, np.uint8)
