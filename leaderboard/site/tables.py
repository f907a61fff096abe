"""The tables of the site for download: counts and unrounded numbers, and beside them what the page shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..board import AttackColumn, Board, CurveSet, Rate, Row, Score
from ..ranking.pairs import neighbours
from ..ranking.transfer import Exchange
from ..words.display import count, interval, number, percent, seconds
from ..words.downloads import DownloadTable, Value
from ..words.wording import radius, rank, suite_title, words

__all__ = [
    "attack_table",
    "attacks_table",
    "board_table",
    "curves_table",
    "matrix_table",
    "neighbours_table",
    "overview_table",
    "pairs_table",
    "system_table",
    "systems_table",
    "transfer_table",
]

Values = dict[str, Value]


def board_table(board: Board) -> DownloadTable:
    """One line per system: rank, accuracies, intervals, and each attack's robust accuracy."""
    return DownloadTable(
        f"Robust accuracy at {_place(board)}, worst case over {len(board.columns)} attacks on "
        f"{_examples(board)} examples, in percent with 95 % Wilson intervals; ranks are what paired tests "
        "leave of the order.",
        [_board_line(board, row) for row in board.rows],
        ("System", "Rank", "Robust", "95 %", "Clean", "95 %", *(column.label for column in board.columns)),
        [
            (
                row.label,
                rank(row),
                *_both(row.robust),
                *_both(row.clean),
                *(_share(score.robust) if score else _share(None) for score in row.scores),
            )
            for row in board.rows
        ],
        {"protocol": board.protocol.document},
    )


def matrix_table(board: Board) -> DownloadTable:
    """One line per system and attack for machines; one line per system for people."""
    return DownloadTable(
        f"Robust accuracy under each attack alone at {_place(board)}, in percent of {_examples(board)} examples.",
        [
            _score_line(row, column, score)
            for row in board.rows
            for column, score in zip(board.columns, row.scores, strict=True)
            if score is not None
        ],
        ("System", "Worst case", *(column.label for column in board.columns)),
        [
            (row.label, _share(row.robust), *(_share(score.robust if score else None) for score in row.scores))
            for row in board.rows
        ],
        {"protocol": board.protocol.document},
    )


def attacks_table(board: Board) -> DownloadTable:
    """One line per attack of a board."""
    named = [(board.columns[standing.column], standing) for standing in board.attacks]
    return DownloadTable(
        f"Success of each attack at {_place(board)}, in percent of the examples that were right without an attack.",
        [
            {
                "attack": column.label,
                "access": column.access,
                "queries": column.queries,
                "systems": s.rows,
                "success": s.success.value,
                "success_low": s.success.low,
                "success_high": s.success.high,
                "broken_by_it_alone": s.alone,
                "optimality": s.optimality.value if s.optimality else None,
                "optimality_low": s.optimality.low if s.optimality else None,
                "optimality_high": s.optimality.high if s.optimality else None,
                "optimality_pool": s.optimality.pool if s.optimality else None,
                "forwards_per_example": s.forwards,
                "backwards_per_example": s.backwards,
                "seconds": s.seconds,
            }
            for column, s in named
        ],
        ("Attack", "Access", "Success", "95 %", "Alone", "Optimality", "Forwards", "Backwards"),
        [
            (
                column.label,
                column.access,
                *_both(s.success),
                number(s.alone),
                f"{s.optimality.value:.3f}" if s.optimality else _share(None),
                number(s.forwards),
                number(s.backwards),
            )
            for column, s in named
        ],
    )


def neighbours_table(board: Board) -> DownloadTable:
    """One line per system and the next one in the order, on the same examples."""
    found = neighbours(board)
    return DownloadTable(
        f"Neighbours at {_place(board)} on the same {_examples(board)} examples: exact McNemar tests, "
        "corrected by Holm's method for all pairs.",
        [
            {
                "system": row.label,
                "next": after.label,
                "only_first_holds": won,
                "only_next_holds": lost,
                "adjusted_p": p,
            }
            for row, after, won, lost, p in found
        ],
        ("System", "Next", "Only the first", "Only the next", "Corrected p"),
        [(row.label, after.label, str(won), str(lost), f"{p:.2g}") for row, after, won, lost, p in found],
    )


def pairs_table(board: Board, rows: Sequence[Row]) -> DownloadTable:
    """One line per pair of the first rows of a board, the better placed system first."""
    of = board.pairs
    found = [
        (row, other, int(of.wins[i, j]), int(of.wins[j, i]), float(of.p[i, j]), float(of.adjusted[i, j]))
        for i, row in enumerate(rows)
        for j, other in enumerate(rows[i + 1 :], start=i + 1)
    ]
    return DownloadTable(
        f"Every pair at {_place(board)} on the same {_examples(board)} examples: exact McNemar tests, "
        "corrected by Holm's method for all pairs.",
        [
            {
                "system": row.label,
                "other": other.label,
                "only_first_holds": won,
                "only_other_holds": lost,
                "p": p,
                "adjusted_p": adjusted,
            }
            for row, other, won, lost, p, adjusted in found
        ],
        ("System", "Other", "Only the first", "Only the other", "Corrected p"),
        [(row.label, other.label, str(won), str(lost), f"{p:.2g}") for row, other, won, lost, _, p in found],
    )


def overview_table(
    title: str, boards: Sequence[Board], rows: Sequence[tuple[Row, Sequence[Row | None]]]
) -> DownloadTable:
    """One line per system with its worst case on every board of a suite."""
    heads = [radius(board.protocol) for board in boards]
    return DownloadTable(
        f"{title}: robust accuracy in percent, worst case over all attacks of each board.",
        [_overview_line(row, heads, on_all) for row, on_all in rows],
        ("System", "Clean", *heads),
        [(row.label, _share(row.clean), *(_share(on.robust if on else None) for on in on_all)) for row, on_all in rows],
    )


def systems_table(systems: Mapping[str, Sequence[tuple[Board, Row]]]) -> DownloadTable:
    """One line per system and board."""
    entries = [(board, row) for entries in systems.values() for board, row in entries]
    return DownloadTable(
        "Every system on every board: ranks and accuracies, in percent with 95 % intervals.",
        [{**_where(board), **_row_line(row)} for board, row in entries],
        ("System", "Board", "Rank", "Robust", "95 %", "Clean", "95 %"),
        [(row.label, _place(board), rank(row), *_both(row.robust), *_both(row.clean)) for board, row in entries],
    )


def system_table(entries: Sequence[tuple[Board, Row]]) -> DownloadTable:
    """One line per board and attack of one system."""
    tried = [
        (board, row, column, score)
        for board, row in entries
        for column, score in zip(board.columns, row.scores, strict=True)
        if score is not None
    ]
    return DownloadTable(
        f"What each attack did to {entries[0][1].label}, in percent with 95 % intervals.",
        [{**_where(board), **_score_line(row, column, score)} for board, row, column, score in tried],
        ("Attack", "Threat", "Robust", "95 %", "Top 5", "Alone", "Median distance", "Forwards", "Backwards", "Time"),
        [
            (
                column.label,
                radius(board.protocol),
                *_both(score.robust),
                percent(score.top5 / score.robust.total, score.robust.low, score.robust.high),
                number(score.alone),
                number(score.median_distance),
                number(score.forwards),
                number(score.backwards),
                seconds(score.seconds),
            )
            for board, _, column, score in tried
        ],
    )


def attack_table(name: str, uses: Sequence[tuple[Board, int, AttackColumn]]) -> DownloadTable:
    """One line per board and system that one attack was run on."""
    tried = [
        (board, row, column, score)
        for board, at, column in uses
        for row in board.rows
        if (score := row.scores[at]) is not None
    ]
    return DownloadTable(
        f"What {words(name)} left standing, in percent with 95 % intervals.",
        [{**_where(board), **_score_line(row, column, score)} for board, row, column, score in tried],
        ("System", "Threat", "Robust", "95 %", "Alone", "Median distance"),
        [
            (
                row.label,
                radius(board.protocol),
                *_both(score.robust),
                number(score.alone),
                number(score.median_distance),
            )
            for board, row, _, score in tried
        ],
    )


def curves_table(of: CurveSet) -> DownloadTable:
    """One line per step of each curve for machines; one line per curve for people."""
    return DownloadTable(
        f"Mean share of examples that hold up to eps {number(of.eps0)}: the area under each curve, in percent with "
        "95 % intervals.",
        [
            {"system": one.label, "system_key": one.row, "eps": eps, "robust_accuracy": share, "low": low, "high": high}
            for one in of.curves
            for eps, share, low, high in one.points
        ],
        ("System", "Area", "95 %", "Half hold up to"),
        [
            (
                one.label,
                percent(one.area, one.area_low, one.area_high),
                interval(one.area_low, one.area_high),
                number(one.half),
            )
            for one in of.curves
        ],
        {"eps0": of.eps0, "norm": of.conditions.norm},
    )


def transfer_table(board: Board, of: Exchange) -> DownloadTable:
    """One line per ordered pair for machines; one line per source for people."""
    head = [f"{at}: {member.label}" for at, member in enumerate(of.members, start=1)]
    return DownloadTable(
        f"Transfer at {_place(board)}: percent of the examples made on the system of the row, and right on the clean "
        "input of the system of the column, that fool it.",
        [
            {
                "source": source.label,
                "source_key": source.system,
                "target": target.label,
                "target_key": target.system,
                "tried": share.total,
                "transferred": int(share.count),
                "share": share.value,
                "share_low": share.low,
                "share_high": share.high,
            }
            for source, line in zip(of.members, of.shares, strict=True)
            for target, share in zip(of.members, line, strict=True)
            if share is not None
        ],
        ("Made on", *(str(at) for at in range(1, len(head) + 1))),
        [
            (name, *("itself" if i == j else _share(share) for j, share in enumerate(of.shares[i])))
            for i, name in enumerate(head)
        ],
        {"protocol": board.protocol.document},
    )


def _board_line(board: Board, row: Row) -> Values:
    line: Values = _row_line(row)
    for column, score in zip(board.columns, row.scores, strict=True):
        line[f"robust_accuracy_under {column.label}"] = score.robust.value if score else None
    return line


def _overview_line(row: Row, heads: Sequence[str], placed: Sequence[Row | None]) -> Values:
    line: Values = {"system": row.label, "system_key": row.key, "clean_accuracy": row.clean.value}
    for head, on in zip(heads, placed, strict=True):
        line[f"robust_accuracy {head}"] = on.robust.value if on else None
    return line


def _row_line(row: Row) -> Values:
    return {
        "system": row.label,
        "system_key": row.key,
        "place": row.place,
        "rank_low": row.ranks.low if row.ranks else None,
        "rank_high": row.ranks.high if row.ranks else None,
        "bootstrap_rank_low": row.ranks.drawn_low if row.ranks else None,
        "bootstrap_rank_high": row.ranks.drawn_high if row.ranks else None,
        "share_of_resamples_first": row.ranks.best if row.ranks else None,
        "total": row.robust.total,
        "robust_correct": row.robust.count,
        "robust_accuracy": row.robust.value,
        "robust_low": row.robust.low,
        "robust_high": row.robust.high,
        "robust_of_lowest_run": row.spread.low,
        "robust_of_highest_run": row.spread.high,
        "robust_deviation_of_runs": row.spread.deviation,
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


def _score_line(row: Row, column: AttackColumn, score: Score) -> Values:
    return {
        "system": row.label,
        "system_key": row.key,
        "attack": column.label,
        "access": column.access,
        "total": score.robust.total,
        "robust_correct": score.robust.count,
        "robust_accuracy": score.robust.value,
        "robust_low": score.robust.low,
        "robust_high": score.robust.high,
        "robust_top5_correct": score.top5,
        "broken": score.broken,
        "broken_by_it_alone": score.alone,
        "excluded_candidates": score.invalid,
        "median_distance": score.median_distance,
        "forwards": score.forwards,
        "backwards": score.backwards,
        "seconds": score.seconds,
        "records": " ".join(score.keys),
    }


def _where(board: Board) -> Values:
    of, exact = board.protocol.conditions, board.protocol.eps_exact
    return {"suite": of.suite, "dataset": of.dataset, "norm": of.norm, "eps": exact, "board_key": board.protocol.key}


def _place(board: Board) -> str:
    return f"{radius(board.protocol)} ({suite_title(board.protocol)})"


def _examples(board: Board) -> str:
    return count(board.protocol.conditions.total)


def _share(rate: Rate | None) -> str:
    return percent(rate.value, rate.low, rate.high) if rate else percent(None)


def _both(rate: Rate) -> tuple[str, str]:
    return _share(rate), interval(rate.low, rate.high)
