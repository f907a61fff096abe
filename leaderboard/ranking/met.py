"""Attacks that a row met, and those that it must have met to have a rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from benchmark.records.record import GIVEN

from ..board import Alarm, AttackColumn, Run, Score
from .alarms import NO_ATTACK

__all__ = ["attacked", "fewer_attacks", "not_attacked", "spared", "unproved"]


def attacked(columns: Mapping[str, AttackColumn], runs: Sequence[Run]) -> bool:
    """True if each run of a row met an attack other than noise that others could meet as well."""
    return all(any(columns[key].name not in (*NO_ATTACK, GIVEN) for key in run.columns) for run in runs)


def unproved(
    columns: Mapping[str, AttackColumn], scores: Mapping[str, Score], claimed: Set[str], row: str
) -> list[Alarm]:
    """A row whose attacks nobody but its author has checked; it is unranked.

    Args:
        claimed: keys of cells without a proved witness that nobody else has run.
    """
    keys = {key for name, score in scores.items() if columns[name].name not in NO_ATTACK for key in score.keys}
    if not keys or keys - claimed:
        return []
    sentence = (
        "nobody but its author has checked any of its attacks: without a proved witness or a repeated run it has no "
        "rank"
    )
    return [Alarm("unproved", "warning", sentence, tuple(sorted(keys)), row)]


def not_attacked(attacked: Sequence[bool]) -> list[Alarm]:
    """A board with random noise as the only attack; it ranks nobody.

    Args:
        attacked: per row.
    """
    if any(attacked):
        return []
    sentence = "no system on this board was attacked, except with random noise; without an attack no system has a rank"
    return [Alarm("not_attacked", "warning", sentence, ())]


def spared(
    columns: Mapping[str, AttackColumn],
    rows: Sequence[Sequence[Run]],
    required: Set[str] | None,
    checked: Sequence[bool],
) -> list[set[str]]:
    """Per row, the attacks required for a rank that at least one of its runs did not meet; with any, it has no rank.

    A suite requires its attacks, so that no number of other rows decides what a row must meet; required are those that
    at least one row of the board met, since the others do not exist under its threat. Outside suites, those that at
    least half of the attacked rows met are required; noise is not an attack there, and rows under noise alone do not
    count; nor do rows that nobody but their author has checked, anywhere. Candidates added against one system are not
    required of others, nor are attacks from a surrogate required of the surrogate itself.

    Args:
        rows: the runs of each. required: names of the attacks that the suite requires, None outside suites.
        checked: of each row, whether anybody but its author has checked any of its attacks.
    """
    counted = [runs for runs, sound in zip(rows, checked, strict=True) if sound]
    met = [[run.columns for run in runs] for runs in counted]
    real = [[run.columns for run in runs] for runs in counted if attacked(columns, runs)]
    asked = {
        key: set(column.surrogate.split(","))
        for key, column in columns.items()
        if column.name != GIVEN
        and (
            column.name not in NO_ATTACK and _half(key, real)
            if required is None
            else column.name in required and any(key in s for m in met for s in m)
        )
    }
    return [
        {
            key
            for key, surrogates in asked.items()
            if not all(key in run.columns for run in runs) and not surrogates & {run.system_key for run in runs}
        }
        for runs in rows
    ]


def _half(key: str, met: Sequence[Sequence[Set[str]]]) -> bool:
    """True if at least half of the rows met an attack with every run."""
    return 2 * sum(all(key in columns for columns in runs) for runs in met) >= max(1, len(met))


def fewer_attacks(
    columns: Mapping[str, AttackColumn], scores: Mapping[str, Score], without: Set[str], row: str, required: bool
) -> list[Alarm]:
    """A row that was not attacked by all attacks of its board: its worst case is over fewer of them.

    Args:
        without: those named by :func:`spared`. required: the suite requires them.
    """
    absent = {key for key, column in columns.items() if key not in scores and column.name != GIVEN}
    missing = {key: column.label for key, column in columns.items() if key in absent | without}
    if not missing:
        return []
    severity, others, so = (
        (
            "warning",
            "its suite requires" if required else "at least half of the rows were",
            "without them it has no rank, as the worst case over fewer attacks looks better than it is",
        )
        if without
        else ("info", "some other rows were", "its robust accuracy may look better than it is")
    )
    named = [label for key, label in missing.items() if key in without or not without]
    shown = ", ".join(named[:5]) + (f" and {len(named) - 5} more" if len(named) > 5 else "")
    return [Alarm("fewer_attacks", severity, f"not attacked by {shown}, as {others}: {so}", (), row)]
