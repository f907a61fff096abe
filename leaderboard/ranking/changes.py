"""Changes between two states of the results, with the reasons in the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..board import Board, Leaderboard, Row, Withdrawn
from ..words.display import NOTHING, interval, percent
from ..words.downloads import DownloadTable, Value
from ..words.wording import radius, rank, suite_title

__all__ = ["Change", "Changes", "Tally", "changes", "changes_table", "tally"]


@dataclass(frozen=True)
class Change:
    """A row that is new, gone, or has another number or rank. why: one phrase per reason."""

    label: str
    before: Row | None
    now: Row | None
    why: tuple[str, ...]


@dataclass(frozen=True)
class Changes:
    """Changed rows of one board. state: "new" or "gone" for a board in only one of the two states, else ""."""

    board: Board
    state: str
    rows: tuple[Change, ...]


@dataclass(frozen=True)
class Tally:
    """Numbers of added and removed records, even if no result changed. withdrawn: explicitly withdrawn records."""

    added: int
    gone: int
    withdrawn: tuple[Withdrawn, ...]


def tally(before: Leaderboard, now: Leaderboard) -> Tally:
    """Count the records that were added to the boards or removed from them."""
    old, new = _keys(before), _keys(now)
    taken = [one for one in now.problems if isinstance(one, Withdrawn) and one.record.key in old]
    return Tally(len(new - old), len(old - new), tuple(taken))


def changes(before: Leaderboard, now: Leaderboard) -> list[Changes]:
    """Every board with a change, in the order of the site; removed boards come last.

    On each, the largest change of robust accuracy comes first, then new and removed systems.
    """
    old = {board.protocol.key: board for board in before.boards}
    reasons = {one.record.key: one.reason for one in now.problems if isinstance(one, Withdrawn)}
    found = []
    for board in now.boards:
        earlier = old.pop(board.protocol.key, None)
        rows = _rows(earlier, board, reasons)
        if rows:
            found.append(Changes(board, "" if earlier else "new", tuple(rows)))
    return found + [Changes(board, "gone", tuple(_rows(board, None, reasons))) for board in old.values()]


def changes_table(found: Sequence[Changes]) -> DownloadTable:
    """Download table with one line per changed row."""
    lines = [(of.board, change) for of in found for change in of.rows]
    return DownloadTable(
        "Changes since the last release: robust accuracy in percent with 95 % intervals.",
        [_line(board, change) for board, change in lines],
        ("System", "Board", "Before", "Now", "Rank before", "Rank now", "Reason"),
        [
            (
                change.label,
                f"{radius(board.protocol)} ({suite_title(board.protocol)})",
                *(_held(row) for row in (change.before, change.now)),
                *(rank(row) if row else NOTHING for row in (change.before, change.now)),
                "; ".join(change.why),
            )
            for board, change in lines
        ],
    )


def _rows(before: Board | None, now: Board | None, reasons: Mapping[str, str]) -> list[Change]:
    old = {row.key: row for row in before.rows} if before else {}
    new = {row.key: row for row in now.rows} if now else {}
    names = {**_attacks(before), **_attacks(now)}
    found = []
    for key in [*new, *(key for key in old if key not in new)]:
        was, is_now = old.get(key), new.get(key)
        if was is None or is_now is None or _state(was) != _state(is_now):
            some = is_now or was
            assert some is not None
            found.append(Change(some.label, was, is_now, _why(was, is_now, names, reasons)))
    return sorted(found, key=_size, reverse=True)


def _size(change: Change) -> float:
    """Magnitude of the change of robust accuracy; negative for new and removed rows."""
    if change.before is None or change.now is None:
        return -1.0
    return abs(change.now.robust.value - change.before.robust.value)


def _state(row: Row) -> tuple[object, ...]:
    return row.robust, row.clean, row.ranks and (row.ranks.low, row.ranks.high)


def _why(before: Row | None, now: Row | None, names: Mapping[str, str], reasons: Mapping[str, str]) -> tuple[str, ...]:
    if before is None:
        return ("new system",)
    if now is None:
        told = sorted({reasons[key] for key in before.keys if key in reasons})
        return (
            f"its records were withdrawn: {', '.join(told)}" if told else "its records are no longer among the results",
        )
    added, removed = set(now.keys) - set(before.keys), set(before.keys) - set(now.keys)
    why = []
    if added:
        why.append(f"new records: {_named(added, names, {})}")
    if removed:
        why.append(f"records withdrawn or replaced: {_named(removed, names, reasons)}")
    if not why and before.robust != now.robust:
        why.append("records at another radius")
    return tuple(why) or ("other systems changed",)


def _named(keys: set[str], names: Mapping[str, str], reasons: Mapping[str, str]) -> str:
    """Attacks of these records, with the reason if one was withdrawn."""
    named = {f"{names.get(key, key[:8])}{f' ({reasons[key]})' if key in reasons else ''}" for key in keys}
    return ", ".join(sorted(named))


def _keys(of: Leaderboard) -> set[str]:
    return {key for board in of.boards for row in board.rows for key in row.keys}


def _attacks(board: Board | None) -> dict[str, str]:
    """Attack of each record of a board."""
    if board is None:
        return {}
    return {
        key: column.label
        for row in board.rows
        for column, score in zip(board.columns, row.scores, strict=True)
        if score is not None
        for key in score.keys
    }


def _held(row: Row | None) -> str:
    if row is None:
        return NOTHING
    of = row.robust
    return f"{percent(of.value, of.low, of.high)} ({interval(of.low, of.high)})"


def _line(board: Board, change: Change) -> dict[str, Value]:
    line: dict[str, Value] = {"board_key": board.protocol.key, "system": change.label}
    for name, row in (("before", change.before), ("now", change.now)):
        line[f"robust_accuracy_{name}"] = row.robust.value if row else None
        line[f"rank_low_{name}"] = row.ranks.low if row and row.ranks else None
        line[f"rank_high_{name}"] = row.ranks.high if row and row.ranks else None
    return {**line, "why": "; ".join(change.why)}
