"""Aggregation of records to boards. Reads outcomes system by system, so that memory does not grow with the cells."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from fractions import Fraction

from benchmark.errors import RecordError
from benchmark.records.document import content_key
from benchmark.records.earlier import misfit
from benchmark.records.record import Record

from ..board import (
    ANY_CHANGE,
    Board,
    Conditions,
    CurveSet,
    Leaderboard,
    Problem,
    Unfinished,
)
from ..cells.cell import Cell
from .alarms import TRANSFER
from .counterparts import with_counterparts
from .grouping import (
    base_label,
    column_key,
    columns,
    conditions_key,
    conditions_of,
    exact_eps,
    labels,
    order_of,
    protocol,
    recipe_key,
    system_names,
)
from .ranking import Draft, ranked
from .row import recipe_of
from .standing import Closeness

__all__ = ["aggregate"]


def aggregate(cells: Sequence[Cell], problems: Sequence[Problem] = (), claimed: Set[str] = frozenset()) -> Leaderboard:
    """Boards and curves of all records, independent of the order of `cells`.

    Args:
        problems: of unreadable records; those with unusable outcomes are added.
        claimed: keys of cells that rest on the submitter's word alone.
    """
    bad = list(problems)
    found: dict[Conditions, list[tuple[Fraction, Cell]]] = defaultdict(list)
    systems = system_names(cell.record for cell in cells)
    unfinished: list[Cell] = []
    told = {cell.record.key: cell.record for cell in cells}
    for cell in sorted(cells, key=lambda c: c.record.key):
        try:
            eps = exact_eps(cell)
        except RecordError as error:
            bad.append(Problem(cell.place, str(error)))
            continue
        if orphaned := _orphaned(cell, told):
            bad.append(Problem(cell.place, orphaned))
        elif cell.record.status == "complete":
            found[conditions_of(cell.record)].append((eps if cell.record.attack.bounded else Fraction(0), cell))
        else:
            unfinished.append(cell)
    boards: list[Board] = []
    curve_sets: list[CurveSet] = []
    for conditions in sorted(found, key=order_of):
        elsewhere = _elsewhere(conditions, found)
        made, curves = _boards(conditions, found[conditions], elsewhere, bad, systems, claimed)
        boards += made
        curve_sets += curves
    placed, homeless = _with_unfinished(with_counterparts(boards), unfinished)
    return Leaderboard(
        boards=tuple(placed),
        curves=tuple(curve_sets),
        problems=tuple(sorted(bad, key=lambda p: (p.path, p.sentence))),
        unfinished=homeless,
    )


def _elsewhere(
    conditions: Conditions, found: Mapping[Conditions, Sequence[tuple[Fraction, Cell]]]
) -> list[tuple[Fraction, Cell]]:
    """Cells of attackers who know less, under conditions that otherwise match those of a board of aware attackers.

    An attacker who knows a defense may ignore it, and submit examples that fooled another network. Such cells may be
    from another suite, provided that its rules were kept.
    """
    if not conditions.aware:
        return []
    same = replace(conditions, suite=None)
    return [
        (eps, cell)
        for other, pairs in found.items()
        if other != conditions and (other.official or other.suite == conditions.suite)
        if replace(other, suite=None, aware=True, official=conditions.official) == same
        for eps, cell in pairs
        if not other.aware or cell.record.threat.access == TRANSFER
    ]


def _orphaned(cell: Cell, told: Mapping[str, Record]) -> str:
    """Reason why a cell on survivors cannot count: an earlier cell is missing or does not match; else ""."""
    for key in cell.record.survivors_of if cell.record.status == "complete" else ():
        why = (
            misfit(cell.record, told[key])
            if key in told
            else f"the cell {key}, on whose survivors it was run, is not here"
        )
        if why:
            return f"{cell.place} is left out: {why}"
    return ""


def _boards(
    conditions: Conditions, cells: Sequence[tuple[Fraction, Cell]], elsewhere: Sequence[tuple[Fraction, Cell]],
    bad: list[Problem], systems: Mapping[str, str], claimed: Set[str],
) -> tuple[list[Board], list[CurveSet]]:  # fmt: skip
    """Boards under the same conditions by radius, and their curves.

    Args:
        elsewhere: see :func:`_elsewhere`.
    """
    ignoring: dict[str, list[tuple[Fraction, str, Cell]]] = defaultdict(list)
    for eps, cell in elsewhere:
        ignoring[cell.record.system.key].append((eps, column_key(cell.record), cell))
    by_recipe: dict[str, list[tuple[Fraction, str, Cell]]] = defaultdict(list)
    by_column: dict[str, list[Record]] = defaultdict(list)
    recipes: dict[int, str] = {}
    for eps, cell in cells:
        column, system = column_key(cell.record), cell.record.system
        if id(system) not in recipes:  # records of one system share it, see `SharedParts`
            recipes[id(system)] = recipe_key(system)
        by_recipe[recipes[id(system)]].append((eps, column, cell))
        by_column[column].append(cell.record)
    known = columns(by_column, systems)
    names = labels({key: some[0][2].record.system for key, some in by_recipe.items()})
    eps0 = float(max(eps for eps, _ in cells))
    drafts: dict[Fraction, list[Draft]] = defaultdict(list)
    close: dict[Fraction, dict[str, Closeness]] = defaultdict(lambda: defaultdict(Closeness))
    curves = []
    for key in sorted(by_recipe):
        recipe = recipe_of(key, names[key], by_recipe[key], known, (conditions.norm, eps0), ignoring, bad)
        if recipe is None:
            continue
        for eps, draft in recipe.drafts.items():
            drafts[eps].append(draft)
            for column, found in recipe.close.items():
                if column in draft.scores and draft.scores[column].given is None:
                    close[eps][column].add(found)
        curves += [recipe.curve] if recipe.curve is not None else []
    pool = content_key(sorted(known))[:16]
    boards = [
        ranked(protocol(conditions, eps), known, drafts[eps], close[eps], pool, claimed) for eps in sorted(drafts)
    ]
    if not curves:
        return boards, []
    return boards, [
        CurveSet(
            key=conditions_key(conditions),
            conditions=conditions,
            eps0=eps0,
            boards=tuple(board.protocol.key for board in boards),
            curves=tuple(sorted(curves, key=lambda c: (-c.area, c.row))),
        )
    ]


def _with_unfinished(boards: Sequence[Board], cells: Sequence[Cell]) -> tuple[list[Board], tuple[Unfinished, ...]]:
    """Boards with their cells without a result, and such cells that belong to no board.

    A cell without a result does not know its examples, so it is shown on every board that it could belong to.
    """
    found: dict[str, list[Unfinished]] = defaultdict(list)
    homeless = []
    for cell in cells:
        record, threat = cell.record, cell.record.threat
        under = (threat.norm, exact_eps(cell)) if record.attack.bounded else (ANY_CHANGE, Fraction(0))
        shown = Unfinished(
            key=record.key,
            status=record.status,
            system=base_label(record.system),
            attack=record.attack.label,
            seed=record.seed,
            error=record.error or "",
        )
        meant = (record.suite, record.official, record.system.dataset, *under, threat.goal, threat.aware,
                 threat.region, threat.levels)  # fmt: skip
        fitting = [board.protocol.key for board in boards if _meant(board) == meant]
        for key in fitting:
            found[key].append(shown)
        if not fitting:
            homeless.append(shown)
    return [replace(b, unfinished=tuple(found[b.protocol.key])) for b in boards], tuple(homeless)


def _meant(board: Board) -> tuple[object, ...]:
    of = board.protocol.conditions
    eps = Fraction(board.protocol.eps_exact)
    return (of.suite, of.official, of.dataset, of.norm, eps, of.goal, of.aware, of.region, of.levels)
