"""Columns of tables of attacks: on one system, on all systems, and of an attack over a board."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from benchmark.records.record import GIVEN

from ..board import AttackColumn, AttackStanding, Board, Measured, Metric, Row, Score
from ..ranking.grouping import base_label
from ..words.display import NOTHING, percent, seconds
from ..words.downloads import Value
from ..words.wording import radius
from .column import METRICS, Column, amount_column, interval_of, metric_columns, on_page, share_of, used

__all__ = ["Tried", "attack_columns", "by_strength", "score_columns", "why_empty"]


@dataclass(frozen=True)
class Tried:
    """Result of one attack on one system."""

    board: Board
    row: Row
    column: AttackColumn
    score: Score


SYSTEM_PAGE = ("attack", "access", "robust", "given", "top5", "broken", "alone", "invalid", "distance", METRICS,
               "forwards", "backwards", "seconds", "records")  # fmt: skip

SYSTEM_PAPER = ("attack", "threat", "robust", "top5", "alone", "distance", METRICS, "forwards", "backwards", "seconds")

ATTACK_PAGE = ("system", "robust", "given", "alone", "distance", METRICS, "records")

ATTACK_PAPER = ("system", "threat", "robust", "alone", "distance", METRICS)


@functools.lru_cache(16)
def score_columns(metrics: tuple[Metric, ...]) -> tuple[Column[Tried], ...]:
    """One line per attack and system, in the order of the CSV file. The page gives the meaning of `threat`."""
    return (
        Column("threat", "Threat", lambda t: t.board.protocol.eps, lambda t: radius(t.board.protocol), lambda t: {}),
        Column("system", "System", lambda t: t.row.label, lambda t: t.row.label,
               lambda t: {"system": t.row.label, "system_key": t.row.key},
               css="pin", kind="text", first="asc", cell="tried_system"),
        Column("attack", "Attack", lambda t: t.column.label, lambda t: t.column.label,
               lambda t: {"attack": t.column.label}, css="pin", kind="text", first="asc", cell="tried_attack"),
        Column("access", "Access used", lambda t: used(t.column), lambda t: used(t.column),
               lambda t: {"access": t.column.access, "access_used": used(t.column)}, css="", kind="text", cell="text"),
        Column("robust", "Robust", lambda t: t.score.robust.value, lambda t: share_of(t.score.robust), _score,
               lambda t: interval_of(t.score.robust), unit="share", cell="tried_robust"),
        amount_column("given", "Survivors", lambda t: t.score.given, "given",
                "Examples that cheaper attacks had not broken; the robust accuracy is then joint with theirs"),
        Column("top5", "Top-5", lambda t: None if t.score.top5 is None else t.score.top5 / t.score.robust.total, _top5,
               lambda t: {"robust_top5_correct": t.score.top5}, label="Top-5 accuracy after a top-1 attack",
               explanation="top-5 accuracy after a top-1 attack, unless the goal is top-5", unit="share"),
        amount_column("broken", "Broken", lambda t: t.score.broken, "broken"),
        amount_column("alone", "Unique", lambda t: t.score.alone, "broken_by_it_alone", "Broken by no other attack"),
        amount_column("invalid", "Excluded", lambda t: t.score.invalid, "excluded_candidates", "Outside the threat"),
        amount_column("distance", "Median distance", lambda t: t.score.median_distance, "median_distance"),
        amount_column("forwards", "Forwards", lambda t: t.score.forwards, "forwards"),
        amount_column("backwards", "Backwards", lambda t: t.score.backwards, "backwards"),
        Column("seconds", "Time", lambda t: t.score.seconds, lambda t: seconds(t.score.seconds),
               lambda t: {"seconds": t.score.seconds}),
        Column("records", "Records", lambda t: None, lambda t: "", lambda t: {"records": " ".join(t.score.keys)},
               css="", kind="", cell="records"),
        *metric_columns(metrics, _under, ""),
    )  # fmt: skip


def tried_columns(board: Board) -> list[Column[Tried]]:
    """Columns of the attacks on the page of a system; no top-5 column with at most five classes."""
    hidden = {name for name in ("top5", "given") if name not in board.given}
    return on_page(score_columns(board.metrics), [name for name in SYSTEM_PAGE if name not in hidden])


def by_strength(board: Board, row: Row) -> list[tuple[AttackColumn, Tried | None]]:
    """Attacks of a board on one system: the lowest robust accuracy first, those that were not run last."""
    pairs = [
        (column, None if score is None else Tried(board, row, column, score))
        for column, score in zip(board.columns, row.scores, strict=True)
    ]
    return sorted(pairs, key=lambda pair: 2.0 if pair[1] is None else pair[1].score.robust.value)


def why_empty(board: Board, row: Row, column: AttackColumn) -> str:
    """Reason why a row has no result of an attack, in at most three words."""
    systems = {run.system_key for run in row.runs}
    score = row.scores[board.columns.index(column)]
    if score is not None and score.given is not None:
        return f"{score.given:g} survivor{'' if score.given == 1 else 's'}"
    if systems & set(column.surrogate.split(",")):
        return "is the surrogate"
    for cell in board.unfinished:
        if cell.attack == column.name and cell.system == base_label(row.system):
            return cell.status
    return "not given" if column.name == GIVEN else "not run"


def attacked_columns(board: Board) -> list[Column[Tried]]:
    """Columns of the systems on the page of an attack."""
    hidden = () if "given" in board.given else ("given",)
    return on_page(score_columns(board.metrics), [name for name in ATTACK_PAGE if name not in hidden])


def _score(tried: Tried) -> dict[str, Value]:
    of = tried.score.robust
    return {
        "total": of.total,
        "robust_correct": of.count,
        "robust_accuracy": of.value,
        "robust_low": of.low,
        "robust_high": of.high,
    }


def _top5(tried: Tried) -> str:
    of = tried.score
    if of.top5 is None:
        return NOTHING
    return percent(of.top5 / of.robust.total, of.robust.low, of.robust.high)


Standing = tuple[AttackColumn, AttackStanding]

ATTACKS_PAGE = ("attack", "access", "success", "alone", "optimality", "forwards", "backwards", "systems")

ATTACKS_PAPER = ("attack", "access", "success", "alone", "optimality", "forwards", "backwards")


def attack_columns() -> list[Column[Standing]]:
    """One line per attack of a board, in the order of the CSV file."""
    return [
        Column("attack", "Attack", lambda s: s[0].label, lambda s: s[0].label, lambda s: {"attack": s[0].label},
               css="pin", kind="text", first="asc", cell="standing_attack"),
        Column("access", "Access used", lambda s: used(s[0]), lambda s: used(s[0]),
               lambda s: {"access": s[0].access, "access_used": used(s[0]), "queries": s[0].queries},
               css="", kind="text", first="asc", cell="standing_access"),
        Column("systems", "Systems", lambda s: s[1].rows, lambda s: str(s[1].rows), lambda s: {"systems": s[1].rows}),
        Column("success", "Success", lambda s: s[1].success.value, lambda s: share_of(s[1].success), _success,
               lambda s: interval_of(s[1].success)),
        amount_column("alone", "Unique", lambda s: s[1].alone, "broken_by_it_alone", "Broken by no other attack"),
        Column("optimality", "Optimality", lambda s: s[1].optimality.value if s[1].optimality else None,
               lambda s: f"{s[1].optimality.value:.3f}" if s[1].optimality else NOTHING, _optimality,
               cell="optimality"),
        amount_column("forwards", "Forwards", lambda s: s[1].forwards, "forwards_per_example", label="Forward passes"),
        amount_column("backwards", "Backwards", lambda s: s[1].backwards, "backwards_per_example",
                      label="Backward passes"),
        Column("seconds", "Time", lambda s: s[1].seconds, lambda s: seconds(s[1].seconds),
               lambda s: {"seconds": s[1].seconds}),
    ]  # fmt: skip


def _success(standing: Standing) -> dict[str, Value]:
    of = standing[1].success
    return {"success": of.value, "success_low": of.low, "success_high": of.high}


def _optimality(standing: Standing) -> dict[str, Value]:
    of = standing[1].optimality
    return {
        "optimality": of.value if of else None,
        "optimality_low": of.low if of else None,
        "optimality_high": of.high if of else None,
        "optimality_pool": of.pool if of else None,
    }


def _under(metric: Metric) -> Callable[[Tried], Measured | None]:
    return lambda tried: tried.score.metrics.get(metric)
