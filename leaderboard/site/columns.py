"""The columns of the tables, each defined once: pages, downloads and trackers read them from here.

A new column is one entry of a table below and its name in the list of the page. It is drawn as a number with its
interval; one that needs more, such as a link, names a macro of `columns.html`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from benchmark.records.record import GIVEN

from ..board import AttackColumn, AttackStanding, Board, Measured, Metric, Rate, Row, Score
from ..ranking.grouping import base_label
from ..ranking.measured import least_favourable
from ..words.display import NOTHING, interval, number, percent, seconds
from ..words.downloads import Value
from ..words.wording import radius, rank, words

__all__ = [
    "Column",
    "Of",
    "Tried",
    "attack_columns",
    "board_columns",
    "by_strength",
    "exact_line",
    "on_page",
    "score_columns",
    "used",
    "why_empty",
]

Of = TypeVar("Of")
METRICS = "metrics"
ATTACKS = "attacks alone"
METRIC_COLUMNS = 8
"""Up to how many metrics of plugins a page shows; the downloads have all of them."""
OF_DETECTORS = re.compile(
    r"detection_\w+|false_positive_rate|(clean|attacked)_risk_\w+|clean_accuracy_with_rejection|clean_refused"
    r"|robust_accuracy_(with_rejection|answered)|robust_by_refusal"
)
"""Metrics that stand in the table of the detectors, and in no other."""


@dataclass(frozen=True)
class Column(Generic[Of]):
    """A column of a table with a line per `Of`.

    name: for the script and the address of a sorted table. title: its head. label: its full name, "" for the title.
    value: the exact value that it is sorted by. text: as it is shown, rounded. span: its interval, None for none.
    exact: what CSV, JSON and trackers get, by name. explanation: shown over the head. css: of the head.
    kind, first, unit: how the script sorts and compares it; "" where it does not. group: the place on the page of
    columns whose number varies. hidden: only in the downloads. cell: the macro that draws it.
    """

    name: str
    title: str
    value: Callable[[Of], Value]
    text: Callable[[Of], str]
    exact: Callable[[Of], Mapping[str, Value]]
    span: Callable[[Of], str] | None = None
    label: str = ""
    explanation: str = ""
    css: Literal["", "num", "pin"] = "num"
    kind: Literal["", "number", "text"] = "number"
    first: Literal["", "asc"] = ""
    unit: Literal["", "share"] = ""
    group: str = ""
    hidden: bool = False
    cell: str = "number"


def on_page(columns: Sequence[Column[Of]], names: Sequence[str]) -> list[Column[Of]]:
    """The columns of those names or groups, in the order of the names."""
    return [c for name in names for c in columns if name in (c.name, c.group) and not c.hidden]


def exact_line(columns: Sequence[Column[Of]], one: Of) -> dict[str, Value]:
    """Counts and unrounded numbers of one line, by name."""
    return {name: value for column in columns for name, value in column.exact(one).items()}


# --- systems of a board ---

BOARD_PAGE = ("rank", "system", "robust", "certified", "strip", "claimed", "clean", "oblivious", "transfer", ATTACKS,
              METRICS, "attacks")  # fmt: skip
BOARD_PAPER = ("system", "rank", "robust", "certified", "claimed", "clean", "oblivious", "transfer", ATTACKS, METRICS)
BOARD_ATTACKS = 8
"""Attacks with a column on a board, the strongest ones; the matrix and the downloads have all of them."""


def board_columns(board: Board) -> list[Column[Row]]:
    """One line per system: rank, accuracies, and each attack's robust accuracy; in the order of the CSV file."""
    return [
        *own_columns(board),
        *(_attack(at, column) for at, column in enumerate(board.columns)),
        *_metrics(board.metrics, _worst, "worst over its attacks"),
    ]  # fmt: skip


def _metrics(
    metrics: Sequence[Metric], found: Callable[[Metric], Callable[[Of], Measured | None]], which: str
) -> list[Column[Of]]:
    """The columns of the metrics that plugins bring, those of a page first come first shown."""
    shown = [metric for metric in metrics if not OF_DETECTORS.fullmatch(metric.name)][:METRIC_COLUMNS]
    return [_metric(at, metric, found(metric), which, hidden=metric not in shown) for at, metric in enumerate(metrics)]


def own_columns(board: Board) -> list[Column[Row]]:
    """The columns that every board has."""
    certified, oblivious, transfer = (
        any(getattr(row, name) for row in board.rows) for name in ("certified", "oblivious", "transfer")
    )
    claimed = any(row.claimed is not None for row in board.rows)
    return [
        Column(
            "system", "System", lambda row: row.label, lambda row: row.label,
            lambda row: {"system": row.label, "system_key": row.key},
            css="pin", kind="text", first="asc", cell="system",
        ),
        Column("rank", "Rank", lambda row: row.place, rank, _ranks, css="", first="asc", cell="rank"),
        _rate("robust", "Robust, at most" if certified else "Robust", lambda row: row.robust, _robust,
              label="Robust accuracy", cell="robust"),
        Column("strip", "", lambda row: None, lambda row: "", lambda row: {}, css="", kind="", cell="strip"),
        _rate("clean", "Clean", lambda row: row.clean, _clean, label="Clean accuracy", cell="clean"),
        _rate("certified", "Certified, at least", lambda row: row.certified,
              lambda row: {"certified_accuracy": row.certified.value if row.certified else None},
              label="Certified accuracy", hidden=not certified),
        _rate("oblivious", "Oblivious", lambda row: row.oblivious,
              lambda row: {"oblivious_accuracy": _value(row.oblivious)} if oblivious else {},
              label="Robust accuracy against attackers who do not know the defense", hidden=not oblivious),
        _rate("transfer", "Transfer", lambda row: row.transfer,
              lambda row: {"transfer_accuracy": _value(row.transfer)} if transfer else {},
              label="Robust accuracy against examples made on other systems", hidden=not transfer),
        Column("claimed", "Claimed", lambda row: row.claimed, lambda row: percent(row.claimed),
               lambda row: {"claimed_accuracy": row.claimed} if claimed else {}, label="Robust accuracy as claimed",
               explanation="reported by the authors under attacks of their own, not checked", unit="share",
               hidden=not claimed),
        _count("attacks", "Attacks", lambda row: sum(score is not None for score in row.scores)),
        _count("runs", "Runs", lambda row: len(row.runs)),
        _count("unjudged", "Unjudged", lambda row: row.unjudged),
        Column("findings", "Findings", _findings, _findings, lambda row: {"findings": _findings(row)}, kind="text"),
    ]  # fmt: skip


def _ranks(row: Row) -> dict[str, Value]:
    of = row.ranks
    return {
        "place": row.place,
        "rank_low": of.low if of else None,
        "rank_high": of.high if of else None,
        "bootstrap_rank_low": of.drawn_low if of else None,
        "bootstrap_rank_high": of.drawn_high if of else None,
        "share_of_resamples_first": of.best if of else None,
    }


def _robust(row: Row) -> dict[str, Value]:
    return {
        "total": row.robust.total,
        "robust_correct": row.robust.count,
        "robust_accuracy": row.robust.value,
        "robust_low": row.robust.low,
        "robust_high": row.robust.high,
        "robust_of_lowest_run": row.spread.low,
        "robust_of_highest_run": row.spread.high,
        "robust_deviation_of_runs": row.spread.deviation,
    }


def _clean(row: Row) -> dict[str, Value]:
    of = row.clean
    return {"clean_correct": of.count, "clean_accuracy": of.value, "clean_low": of.low, "clean_high": of.high}


def _findings(row: Row) -> str:
    return " ".join(sorted({alarm.name for alarm in row.alarms}))


def _attack(at: int, of: AttackColumn) -> Column[Row]:
    """Robust accuracy under one attack alone."""

    def held(row: Row) -> Rate | None:
        score = row.scores[at]
        return score.robust if score and score.given is None else None

    return Column(
        f"a{at + 1}", of.label, lambda row: _value(held(row)), lambda row: _share(held(row)),
        lambda row: {f"robust_accuracy_under {of.label}": _value(held(row))},
        label=f"Robust accuracy under {of.label}", explanation=f"uses: {used(of)}", unit="share", group=ATTACKS,
        hidden=at >= BOARD_ATTACKS, cell="score",
    )  # fmt: skip


def used(column: AttackColumn) -> str:
    """Access that the attack made use of; that of the threat where no pass was counted."""
    return column.used or column.access


# --- an attack on a system ---


@dataclass(frozen=True)
class Tried:
    """The result of one attack on one system."""

    board: Board
    row: Row
    column: AttackColumn
    score: Score


SYSTEM_PAGE = ("attack", "access", "robust", "given", "top5", "broken", "alone", "invalid", "distance", METRICS,
               "forwards", "backwards", "seconds", "records")  # fmt: skip
SYSTEM_PAPER = ("attack", "threat", "robust", "top5", "alone", "distance", METRICS, "forwards", "backwards", "seconds")
ATTACK_PAGE = ("system", "robust", "given", "alone", "distance", METRICS, "records")
ATTACK_PAPER = ("system", "threat", "robust", "alone", "distance", METRICS)


def score_columns(metrics: Sequence[Metric]) -> list[Column[Tried]]:
    """One line per attack and system, in the order of the CSV file. `threat` is told apart by the page, not here."""
    return [
        Column("threat", "Threat", lambda t: t.board.protocol.eps, lambda t: radius(t.board.protocol), lambda t: {}),
        Column("system", "System", lambda t: t.row.label, lambda t: t.row.label,
               lambda t: {"system": t.row.label, "system_key": t.row.key},
               css="pin", kind="text", first="asc", cell="tried_system"),
        Column("attack", "Attack", lambda t: t.column.label, lambda t: t.column.label,
               lambda t: {"attack": t.column.label}, css="pin", kind="text", first="asc", cell="tried_attack"),
        Column("access", "Access used", lambda t: used(t.column), lambda t: used(t.column),
               lambda t: {"access": t.column.access, "access_used": used(t.column)}, css="", kind="text", cell="text"),
        Column("robust", "Robust", lambda t: t.score.robust.value, lambda t: _share(t.score.robust), _score,
               lambda t: _interval(t.score.robust), unit="share", cell="tried_robust"),
        _amount("given", "Saw", lambda t: t.score.given, "given",
                "Examples that cheaper attacks had left; robust is then what all of them leave"),
        Column("top5", "Top-5", lambda t: None if t.score.top5 is None else t.score.top5 / t.score.robust.total, _top5,
               lambda t: {"robust_top5_correct": t.score.top5}, label="Top-5 accuracy after a top-1 attack",
               explanation="top-5 accuracy after a top-1 attack, unless the goal is top-5", unit="share"),
        _amount("broken", "Broken", lambda t: t.score.broken, "broken"),
        _amount("alone", "Unique", lambda t: t.score.alone, "broken_by_it_alone", "Broken by this attack alone"),
        _amount("invalid", "Excluded", lambda t: t.score.invalid, "excluded_candidates", "Outside the threat"),
        _amount("distance", "Median distance", lambda t: t.score.median_distance, "median_distance"),
        _amount("forwards", "Forwards", lambda t: t.score.forwards, "forwards"),
        _amount("backwards", "Backwards", lambda t: t.score.backwards, "backwards"),
        Column("seconds", "Time", lambda t: t.score.seconds, lambda t: seconds(t.score.seconds),
               lambda t: {"seconds": t.score.seconds}),
        Column("records", "Records", lambda t: None, lambda t: "", lambda t: {"records": " ".join(t.score.keys)},
               css="", kind="", cell="records"),
        *_metrics(metrics, _under, ""),
    ]  # fmt: skip


def tried_columns(board: Board) -> list[Column[Tried]]:
    """The columns of the attacks on the page of a system; no top-5 column where five guesses are always right."""
    hidden = {name for name in ("top5", "given") if not _any_has(board, name)}
    return on_page(score_columns(board.metrics), [name for name in SYSTEM_PAGE if name not in hidden])


def _any_has(board: Board, name: str) -> bool:
    """Tell whether any attack on any row has that figure."""
    return any(score is not None and getattr(score, name) is not None for row in board.rows for score in row.scores)


def by_strength(board: Board, row: Row) -> list[tuple[AttackColumn, Tried | None]]:
    """The attacks of a board on one system: the lowest robust accuracy first, those that were not run last."""
    pairs = [
        (column, None if score is None else Tried(board, row, column, score))
        for column, score in zip(board.columns, row.scores, strict=True)
    ]
    return sorted(pairs, key=lambda pair: 2.0 if pair[1] is None else pair[1].score.robust.value)


def why_empty(board: Board, row: Row, column: AttackColumn) -> str:
    """The reason that a row has no result of an attack: in a word or three."""
    systems = {run.system_key for run in row.runs}
    score = row.scores[board.columns.index(column)]
    if score is not None and score.given is not None:
        return f"saw {score.given:g} left"
    if systems & set(column.surrogate.split(",")):
        return "is the surrogate"
    for cell in board.unfinished:
        if cell.attack == column.name and cell.system == base_label(row.system):
            return cell.status
    return "not given" if column.name == GIVEN else "not run"


def attacked_columns(board: Board) -> list[Column[Tried]]:
    """The columns of the systems on the page of an attack."""
    hidden = () if _any_has(board, "given") else ("given",)
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


# --- attacks of a board ---

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
        Column("success", "Success", lambda s: s[1].success.value, lambda s: _share(s[1].success), _success,
               lambda s: _interval(s[1].success)),
        _amount("alone", "Unique", lambda s: s[1].alone, "broken_by_it_alone", "Broken by this attack alone"),
        Column("optimality", "Optimality", lambda s: s[1].optimality.value if s[1].optimality else None,
               lambda s: f"{s[1].optimality.value:.3f}" if s[1].optimality else NOTHING, _optimality,
               cell="optimality"),
        _amount("forwards", "Forwards", lambda s: s[1].forwards, "forwards_per_example", label="Forward passes"),
        _amount("backwards", "Backwards", lambda s: s[1].backwards, "backwards_per_example", label="Backward passes"),
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


# --- kinds of columns ---


def _rate(
    name: str,
    title: str,
    rate: Callable[[Row], Rate | None],
    exact: Callable[[Row], Mapping[str, Value]],
    *,
    label: str,
    hidden: bool = False,
    cell: str = "number",
) -> Column[Row]:
    """A share of the examples with its interval."""
    return Column(
        name, title, lambda row: _value(rate(row)), lambda row: _share(rate(row)), exact,
        lambda row: _interval(rate(row)), label=label, unit="share", hidden=hidden, cell=cell,
    )  # fmt: skip


def _count(name: str, title: str, count: Callable[[Row], float]) -> Column[Row]:
    return Column(name, title, count, lambda row: number(count(row)), lambda row: {name: count(row)})


def _amount(
    name: str, title: str, amount: Callable[[Of], float | None], exact: str, explanation: str = "", label: str = ""
) -> Column[Of]:
    """A number without an interval."""
    first: Literal["", "asc"] = "asc" if name in ("forwards", "backwards") else ""
    return Column(
        name, title, amount, lambda one: number(amount(one)), lambda one: {exact: amount(one)},
        label=label, explanation=explanation, first=first,
    )  # fmt: skip


def _metric(at: int, metric: Metric, found: Callable[[Of], Measured | None], which: str, *, hidden: bool) -> Column[Of]:
    """A metric that a plugin brings; a share is shown in percent, as all shares are."""
    share = metric.unit == "fraction"
    direction = {True: "higher is better", False: "lower is better", None: ""}[metric.higher_is_better]
    told = ", ".join(part for part in (metric.unit, direction, which) if part)
    key = f"metric {metric.name}{f' [{metric.unit}]' if metric.unit else ''}"

    def part(one: Of, name: str) -> float | None:
        of = found(one)
        return None if of is None else getattr(of, name)

    def span(one: Of) -> str:
        low, high = part(one, "low"), part(one, "high")
        if low is None or high is None:
            return ""
        return interval(low, high) if share else f"{number(low)}\N{EN DASH}{number(high)}"

    def text(one: Of) -> str:
        value = part(one, "value")
        return percent(value, part(one, "low"), part(one, "high")) if share else number(value)

    unit = "%" if share else metric.unit
    return Column(
        f"m{at + 1}", f"{words(metric.name)}{f', {unit}' if unit else ''}", lambda one: part(one, "value"), text,
        lambda one: {key: part(one, "value"), f"{key} low": part(one, "low"), f"{key} high": part(one, "high")},
        span, explanation=told, unit="share" if share else "", group=METRICS, hidden=hidden,
    )  # fmt: skip


def _worst(metric: Metric) -> Callable[[Row], Measured | None]:
    return lambda row: least_favourable(row.scores, metric)


def _under(metric: Metric) -> Callable[[Tried], Measured | None]:
    return lambda tried: tried.score.metrics.get(metric)


def _value(rate: Rate | None) -> float | None:
    return rate.value if rate else None


def _share(rate: Rate | None) -> str:
    return percent(rate.value, rate.low, rate.high) if rate else percent(None)


def _interval(rate: Rate | None) -> str:
    return interval(rate.low, rate.high) if rate else ""
