"""Transfer of adversarial examples between systems: a matrix per board, from the counts of `benchmark transfer`.

A pair is shown as long as every cell that it was counted from is on the board.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmark.records.arrivals import FOLDER, Arrivals, Pair, read_arrivals

from ..board import Board, Problem, Rate
from ..cells.cell import Cell
from .statistics import wilson

__all__ = ["Exchange", "Member", "exchanges", "furthest", "read_transfers"]


@dataclass(frozen=True)
class Member:
    """A trained system of a board. label: unique on the board, with the seed if its row has several."""

    label: str
    row: str
    system: str


@dataclass(frozen=True)
class Exchange:
    """Transfer matrix of a board.

    members: in the order of the board; rows are sources, columns targets. shares: fraction of the tried examples that
    fooled the target; None if nothing was measured or could be tried, and on the diagonal.
    early: pairs that were counted before the latest attacks on their source.
    """

    members: tuple[Member, ...]
    shares: tuple[tuple[Rate | None, ...], ...]
    early: int


def read_transfers(cells: Iterable[Cell]) -> tuple[list[Arrivals], list[Problem]]:
    """Transfer counts of the stores of the cells, ordered by key, and the unreadable files.

    The folder of the counts is beside that of the cells, as in a store, or beside the cells themselves.
    """
    found: dict[str, Arrivals] = {}
    problems = []
    around = {cell.folder.parent for cell in cells}
    for folder in sorted({above / FOLDER for parent in around for above in (parent, parent.parent)}):
        for path in sorted(folder.glob("*.json")):
            arrivals = read_arrivals(path)
            if arrivals is None:
                place = f"{FOLDER}/{path.name}"
                problems.append(
                    Problem(place, f"{place} is not a transfer count; recompute it with benchmark transfer")
                )
            else:
                found.setdefault(arrivals.key, arrivals)
    return [found[key] for key in sorted(found)], problems


def exchange(board: Board, transfers: Iterable[Arrivals]) -> Exchange | None:
    """Matrix of a board, or None if no pair of its systems was counted."""
    members, cells = [], {}
    for row in board.rows:
        for run in row.runs:
            label = f"{row.label}, seed {run.seed}" if len(row.runs) > 1 else row.label
            members.append(Member(label, row.key, run.system_key))
            cells[run.system_key] = set(run.keys)
    counted = {
        (pair.source, arrivals.target): pair
        for arrivals in transfers
        if arrivals.target in cells
        for pair in arrivals.pairs
        if pair.cells.keys() <= cells.get(pair.source, set())
    }
    if not counted:
        return None
    latest = _made_on_them(board)
    early = sum(pair.cells.keys() < cells[pair.source] & latest for pair in counted.values())
    return Exchange(
        tuple(members),
        tuple(tuple(_share(counted.get((one.system, other.system))) for other in members) for one in members),
        early,
    )


def furthest(of: Exchange) -> tuple[Member, int, int] | None:
    """Source with the highest transfer rate, with its numbers of successes and tries; None without any try."""
    sums = []
    for member, line in zip(of.members, of.shares, strict=True):
        measured = [share for share in line if share is not None]
        sums.append((member, int(sum(s.count for s in measured)), sum(s.total for s in measured)))
    tried = [one for one in sums if one[2]]
    return max(tried, key=lambda one: one[1] / one[2]) if tried else None


def _made_on_them(board: Board) -> set[str]:
    """Cells of the board whose examples were made on the system that they break."""
    return {
        key
        for row in board.rows
        for column, score in zip(board.columns, row.scores, strict=True)
        if score is not None and column.access != "transfer"
        for key in score.keys
    }


def _share(pair: Pair | None) -> Rate | None:
    if pair is None or not pair.tried:
        return None
    return Rate(pair.transferred, pair.tried, pair.transferred / pair.tried, *wilson(pair.transferred, pair.tried))


def exchanges(boards: Iterable[Board], transfers: Sequence[Arrivals]) -> Mapping[str, Exchange]:
    """Matrices of all boards that have one, by the key of the board."""
    found = {board.protocol.key: exchange(board, transfers) for board in boards}
    return {key: of for key, of in found.items() if of is not None}
