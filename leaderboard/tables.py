"""The tables of the site as rows for download: counts and unrounded numbers."""

from __future__ import annotations

from .board import Board, CurveSet
from .downloads import Value

__all__ = ["board_rows", "curve_rows", "matrix_rows"]


def board_rows(board: Board) -> list[dict[str, Value]]:
    """One line per system: rank, accuracies, intervals, and each attack's robust accuracy."""
    lines = []
    for row in board.rows:
        line: dict[str, Value] = {
            "system": row.label,
            "system_key": row.key,
            "place": row.place,
            "rank_low": row.rank_low,
            "rank_high": row.rank_high,
            "bootstrap_rank_low": row.bootstrap_low,
            "bootstrap_rank_high": row.bootstrap_high,
            "share_of_resamples_first": row.best,
            "total": row.robust.total,
            "robust_correct": row.robust.count,
            "robust_accuracy": row.robust.value,
            "robust_low": row.robust.low,
            "robust_high": row.robust.high,
            "clean_correct": row.clean.count,
            "clean_accuracy": row.clean.value,
            "clean_low": row.clean.low,
            "clean_high": row.clean.high,
            "certified_accuracy": row.certified.value if row.certified else None,
            "attacks": sum(score is not None for score in row.scores),
            "runs": len(row.runs),
            "unjudged": row.unjudged,
            "findings": " ".join(sorted({alarm.name for alarm in row.alarms})),
        }
        for column, score in zip(board.columns, row.scores, strict=True):
            line[f"robust_accuracy_under {column.label}"] = score.robust.value if score else None
        lines.append(line)
    return lines


def matrix_rows(board: Board) -> list[dict[str, Value]]:
    """One line per system and attack, with the keys of the cells."""
    return [
        {
            "system": row.label,
            "system_key": row.key,
            "attack": column.label,
            "access": column.access,
            "total": score.robust.total,
            "robust_correct": score.robust.count,
            "robust_accuracy": score.robust.value,
            "robust_low": score.robust.low,
            "robust_high": score.robust.high,
            "broken": score.broken,
            "broken_by_it_alone": score.alone,
            "excluded_candidates": score.invalid,
            "median_distance": score.median_distance,
            "forwards": score.forwards,
            "backwards": score.backwards,
            "seconds": score.seconds,
            "records": " ".join(score.keys),
        }
        for row in board.rows
        for column, score in zip(board.columns, row.scores, strict=True)
        if score is not None
    ]


def curve_rows(of: CurveSet) -> list[dict[str, Value]]:
    """One line per step of each curve."""
    return [
        {"system": one.label, "system_key": one.row, "eps": eps, "robust_accuracy": share, "low": low, "high": high}
        for one in of.curves
        for eps, share, low, high in one.points
    ]
