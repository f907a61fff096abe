"""Download tables of the site: counts and unrounded numbers, and the displayed values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from ..board import AttackColumn, Board, CurveSet, Rate, Row
from ..ranking.pairs import neighbours
from ..ranking.transfer import Exchange
from ..words.display import count, interval, number, percent
from ..words.downloads import DownloadTable, Value
from ..words.wording import radius, rank, suite_title, words
from .column import Column, Of, exact_line, on_page
from .columns import BOARD_PAPER, board_columns, own_columns
from .tried_columns import ATTACK_PAPER, ATTACKS_PAPER, SYSTEM_PAPER, Tried, attack_columns, score_columns

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


def board_table(board: Board) -> DownloadTable:
    """One line per system: rank, accuracies, intervals, and each attack's robust accuracy."""
    return _of_columns(
        f"Robust accuracy at {_place(board)}, worst case over {len(board.columns)} attacks on "
        f"{_examples(board)} examples, in percent with 95 % Wilson intervals; ranks come from "
        "paired tests.",
        board_columns(board),
        board.rows,
        BOARD_PAPER,
        _about(board),
    )


def matrix_table(board: Board) -> DownloadTable:
    """One line per system and attack in the data; one line per system in the displayed table."""
    columns = score_columns(board.metrics)
    return DownloadTable(
        f"Robust accuracy under each attack alone at {_place(board)}, in percent of {_examples(board)} examples.",
        [exact_line(columns, tried) for row in board.rows for tried in _tried(board, row)],
        ("System", "Worst case", *(column.label for column in board.columns)),
        [
            (row.label, _share(row.robust), *(_share(score.robust if score else None) for score in row.scores))
            for row in board.rows
        ],
        _about(board),
    )


def attacks_table(board: Board) -> DownloadTable:
    """One line per attack of a board."""
    return _of_columns(
        f"Success of each attack at {_place(board)}, in percent of the examples correct without an attack.",
        attack_columns(),
        [(board.columns[standing.column], standing) for standing in board.attacks],
        ATTACKS_PAPER,
    )


def neighbours_table(board: Board) -> DownloadTable:
    """One line per system and its successor in the order, on the same examples."""
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
        ("System", "Next", "Robust for the first only", "Robust for the next only", "Corrected p"),
        [(row.label, after.label, str(won), str(lost), f"{p:.2g}") for row, after, won, lost, p in found],
    )


def pairs_table(board: Board, rows: Sequence[Row]) -> DownloadTable:
    """One line per pair of the first rows of a board, the better-ranked system first."""
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
        ("System", "Other", "Robust for the first only", "Robust for the other only", "Corrected p"),
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
        [{**_where(board), **exact_line(own_columns(board), row)} for board, row in entries],
        ("System", "Board", "Rank", "Robust", "95 %", "Clean", "95 %"),
        [(row.label, _place(board), rank(row), *_both(row.robust), *_both(row.clean)) for board, row in entries],
    )


def system_table(entries: Sequence[tuple[Board, Row]]) -> DownloadTable:
    """One line per board and attack of one system."""
    return _of_scores(
        f"Robust accuracy of {entries[0][1].label} under each attack, in percent with 95 % intervals.",
        [tried for board, row in entries for tried in _tried(board, row)],
        SYSTEM_PAPER,
    )


def attack_table(name: str, uses: Sequence[tuple[Board, int, AttackColumn]]) -> DownloadTable:
    """One line per board and system that one attack was run on."""
    return _of_scores(
        f"Robust accuracy under {words(name)}, in percent with 95 % intervals.",
        [
            Tried(board, row, column, score)
            for board, at, column in uses
            for row in board.rows
            if (score := row.scores[at]) is not None
        ],
        ATTACK_PAPER,
    )


def curves_table(of: CurveSet) -> DownloadTable:
    """One line per step of each curve in the data; one line per curve in the displayed table."""
    return DownloadTable(
        f"Mean robust accuracy up to eps {number(of.eps0)}: the area under each curve, in percent with 95 % intervals.",
        [
            {"system": one.label, "system_key": one.row, "eps": eps, "robust_accuracy": share, "low": low, "high": high}
            for one in of.curves
            for eps, share, low, high in one.points
        ],
        ("System", "Area", "95 %", "Median radius"),
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
    """One line per ordered pair in the data; one line per source in the displayed table."""
    head = [f"{at}: {member.label}" for at, member in enumerate(of.members, start=1)]
    return DownloadTable(
        f"Transfer at {_place(board)}: percentage of the row's adversarial examples that fool the column's system, "
        "which classifies the clean input correctly.",
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
        ("Source", *(str(at) for at in range(1, len(head) + 1))),
        [
            (name, *("itself" if i == j else _share(share) for j, share in enumerate(of.shares[i])))
            for i, name in enumerate(head)
        ],
        {"protocol": board.protocol.document},
    )


def _overview_line(row: Row, heads: Sequence[str], placed: Sequence[Row | None]) -> dict[str, Value]:
    line: dict[str, Value] = {"system": row.label, "system_key": row.key, "clean_accuracy": row.clean.value}
    for head, on in zip(heads, placed, strict=True):
        line[f"robust_accuracy {head}"] = on.robust.value if on else None
    return line


def _of_columns(
    caption: str,
    columns: Sequence[Column[Of]],
    lines: Sequence[Of],
    paper: Sequence[str],
    about: Mapping[str, object] | None = None,
) -> DownloadTable:
    """Table of lines with their exact values in every column, and the displayed columns named by `paper`."""
    shown = on_page(columns, paper)
    return DownloadTable(
        caption,
        [exact_line(columns, line) for line in lines],
        tuple(head for column in shown for head in ((column.title, "95 %") if column.span else (column.title,))),
        [
            tuple(
                text
                for column in shown
                for text in ((column.text(line), column.span(line)) if column.span else (column.text(line),))
            )
            for line in lines
        ],
        about or {},
    )


def _of_scores(caption: str, lines: Sequence[Tried], paper: Sequence[str]) -> DownloadTable:
    """Results of attacks on systems of several boards."""
    measured = {metric for tried in lines for metric in tried.score.metrics}
    metrics = tuple(sorted(measured, key=lambda metric: metric.order))
    table = _of_columns(caption, score_columns(metrics), lines, paper)
    return replace(table, rows=[{**_where(line.board), **row} for line, row in zip(lines, table.rows, strict=True)])


def _tried(board: Board, row: Row) -> list[Tried]:
    """Attacks that were run on a row."""
    pairs = zip(board.columns, row.scores, strict=True)
    return [Tried(board, row, column, score) for column, score in pairs if score is not None]


def _about(board: Board) -> dict[str, object]:
    """Header of the JSON file: the protocol, and the plugins' metrics."""
    metrics = {"metrics": [asdict(metric) for metric in board.metrics]} if board.metrics else {}
    return {"protocol": board.protocol.document, **metrics}


def _where(board: Board) -> dict[str, Value]:
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
