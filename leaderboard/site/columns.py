"""Columns of the tables, each defined once for pages, downloads and trackers.

A new column is one entry of a table below and its name in the list of the page. It is drawn as a number with its
interval; one that needs more, such as a link, names a macro of `columns.html`.
"""

from __future__ import annotations

from collections.abc import Callable

from ..board import AttackColumn, Board, Measured, Metric, Rate, Row
from ..ranking.measured import least_favourable
from ..words.display import NOTHING, number, percent
from ..words.downloads import Value
from ..words.wording import rank
from .column import ATTACKS, METRICS, Column, count_column, metric_columns, rate_column, share_of, used, value_of

__all__ = ["board_columns"]

# --- systems of a board ---


BOARD_PAGE = ("rank", "system", "robust", "certified", "strip", "claimed", "reattacked", "clean", "oblivious",
              "transfer", ATTACKS, METRICS, "attacks", "replayed")  # fmt: skip

BOARD_PAPER = ("system", "rank", "robust", "certified", "claimed", "reattacked", "clean", "oblivious", "transfer",
               ATTACKS, METRICS)  # fmt: skip

ADAPTIVE = "adaptive"
"""Attack by which rows are attacked again, so that its result stands beside what the authors claim."""

BOARD_ATTACKS = 8
"""Largest number of attacks with a column on a board, the strongest ones; matrix and downloads have all of them."""


def board_columns(board: Board, *, claims: bool = False) -> list[Column[Row]]:
    """One line per system: rank, accuracies, and each attack's robust accuracy; in the order of the CSV file.

    Args:
        claims: show the column of claims even if no system of the board has one.
    """
    return [
        *own_columns(board, claims=claims),
        *(_attack(at, column) for at, column in enumerate(board.columns)),
        *metric_columns(board.metrics, _worst, "worst over its attacks"),
    ]  # fmt: skip


def own_columns(board: Board, *, claims: bool = False) -> list[Column[Row]]:
    """Columns of every board. claims: see `board_columns`."""
    certified, oblivious, transfer, claimed, replayed = (
        name in board.given for name in ("certified", "oblivious", "transfer", "claimed", "replayed")
    )
    adaptive = next((at for at, column in enumerate(board.columns) if column.name == ADAPTIVE), None)

    def reattacked(row: Row) -> Rate | None:
        score = None if adaptive is None else row.scores[adaptive]
        return score.robust if score and score.given is None else None

    return [
        Column(
            "system", "System", lambda row: row.label, lambda row: row.label,
            lambda row: {"system": row.label, "system_key": row.key},
            css="pin", kind="text", first="asc", cell="system",
        ),
        Column("rank", "Rank", lambda row: row.place, rank, _ranks, css="", first="asc", cell="rank"),
        rate_column("robust", "Robust, at most" if certified else "Robust", lambda row: row.robust, _robust,
              label="Robust accuracy", cell="robust"),
        Column("strip", "", lambda row: None, lambda row: "", lambda row: {}, css="", kind="", cell="strip"),
        rate_column("clean", "Clean", lambda row: row.clean, _clean, label="Clean accuracy", cell="clean"),
        rate_column("certified", "Certified, at least", lambda row: row.certified,
              lambda row: {"certified_accuracy": row.certified.value if row.certified else None},
              label="Certified accuracy", hidden=not certified),
        rate_column("oblivious", "Oblivious", lambda row: row.oblivious,
              lambda row: {"oblivious_accuracy": value_of(row.oblivious)} if oblivious else {},
              label="Robust accuracy against attackers who do not know the defense", hidden=not oblivious),
        rate_column("transfer", "Transfer", lambda row: row.transfer,
              lambda row: {"transfer_accuracy": value_of(row.transfer)} if transfer else {},
              label="Robust accuracy against examples made on other systems", hidden=not transfer),
        Column("claimed", "Claimed", lambda row: row.claimed, lambda row: percent(row.claimed),
               lambda row: {"claimed_accuracy": row.claimed} if claimed else {}, label="Robust accuracy as claimed",
               explanation="reported by the authors under attacks of their own, not verified", unit="share",
               hidden=not (claimed or claims)),
        rate_column("reattacked", "Re-attacked", reattacked,
              lambda row: {"reattacked_accuracy": value_of(reattacked(row))} if claimed else {},
              label="Robust accuracy under the adaptive search",
              hidden=not (claimed or claims) or not any(map(reattacked, board.rows))),
        Column("replayed", "Replayed", _replayed_share, _replayed_text,
               lambda row: {"replayed_confirmed": row.replayed[0] if row.replayed else None,
                            "replayed_witnesses": row.replayed[1] if row.replayed else None} if replayed else {},
               label="Witnesses that ONNX Runtime confirms",
               explanation="adversarial examples that the exported system misclassifies under ONNX Runtime too, of all",
               unit="share", hidden=not replayed),
        count_column("attacks", "Attacks", lambda row: sum(score is not None for score in row.scores)),
        count_column("runs", "Runs", lambda row: len(row.runs)),
        count_column("unjudged", "Unjudged", lambda row: row.unjudged),
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


def _replayed_share(row: Row) -> float | None:
    return row.replayed[0] / row.replayed[1] if row.replayed and row.replayed[1] else None


def _replayed_text(row: Row) -> str:
    return f"{number(row.replayed[0])} of {number(row.replayed[1])}" if row.replayed else NOTHING


def _findings(row: Row) -> str:
    return " ".join(sorted({alarm.name for alarm in row.alarms}))


def _attack(at: int, of: AttackColumn) -> Column[Row]:
    """Robust accuracy under one attack alone."""

    def held(row: Row) -> Rate | None:
        score = row.scores[at]
        return score.robust if score and score.given is None else None

    return Column(
        f"a{at + 1}", of.label, lambda row: value_of(held(row)), lambda row: share_of(held(row)),
        lambda row: {f"robust_accuracy_under {of.label}": value_of(held(row))},
        label=f"Robust accuracy under {of.label}", explanation=f"uses: {used(of)}", unit="share", group=ATTACKS,
        hidden=at >= BOARD_ATTACKS, cell="score",
    )  # fmt: skip


def _worst(metric: Metric) -> Callable[[Row], Measured | None]:
    return lambda row: least_favourable(row.scores, metric)
