"""History of a result: the attacks recorded each day, and the examples that each removed from the worst case.

Dates come from the records, whose clocks nobody checks; records without one come last.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import fsum

import numpy as np

from benchmark.records.record import Record
from benchmark.threat.radius import tolerance

from ..board import AttackColumn, Board, Problem, Rate, Row, Step, Withdrawn
from ..words.display import NOTHING, interval, number, percent
from ..words.downloads import DownloadTable
from .grouping import recipe_key
from .statistics import wilson
from .worst_case import AttackedSystem, Trial

__all__ = ["Event", "day", "events", "history", "history_table", "withdrawn_by_row"]

DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
MOST = 6
"""Largest number of attacks named in a sentence."""


def day(record: Record) -> str:
    """Date of a record, as YYYY-MM-DD by its own clock; "" if it has none."""
    found = DAY.match(str(record.provenance.get("created", "")))
    return found[0] if found else ""


def history(
    systems: Sequence[AttackedSystem], eps: Fraction, norm: str, known: Mapping[str, AttackColumn]
) -> tuple[Step, ...]:
    """Effect of each day's records on the worst case of a row at one radius.

    As for the worst case itself, a candidate recorded under another radius counts if it lies within this one. The last
    step has the number of the row.
    """
    reach = float(eps) + tolerance(norm, float(eps))
    by_day: dict[str, list[tuple[int, Trial]]] = defaultdict(list)
    for at, system in enumerate(systems):
        for trial in (*system.trials, *system.unaware):
            by_day[day(trial.cell.record)].append((at, trial))
    lost = [np.zeros(len(system.clean), dtype=bool) for system in systems]
    tried = [np.zeros(len(system.clean), dtype=bool) for system in systems]
    begun: set[int] = set()
    steps: list[Step] = []
    for date in sorted(by_day, key=lambda d: (not d, d)):
        before = [taken.copy() for taken in lost]
        new: dict[str, list[int]] = defaultdict(list)
        entered = {at for at, trial in by_day[date] if _here(trial, systems[at], eps)} - begun
        for at, trial in by_day[date]:
            own = _here(trial, systems[at], eps)
            hit = systems[at].clean & (trial.evidence.broken if trial.eps == eps else trial.distance <= reach)
            if at in begun and (fresh := int(np.count_nonzero(hit & ~before[at]))):
                new[_label(trial, systems[at], known)].append(fresh)
            lost[at] |= hit
            if own:
                tried[at] |= trial.evidence.valid
        begun |= entered
        here = [trial for at, trial in by_day[date] if _here(trial, systems[at], eps)]
        if not begun or not (here or new):
            continue
        total = len(systems[0].clean)
        held = fsum(int(np.count_nonzero(systems[at].clean & tried[at] & ~lost[at])) for at in begun) / len(begun)
        steps.append(
            Step(
                date=date,
                attacks=tuple(sorted({known[trial.column].label for trial in here})),
                entered=len(entered),
                robust=Rate(held, total, held / total, *wilson(held, total)),
                through=tuple(sorted(((name, sum(some) / len(begun)) for name, some in new.items()),
                                     key=lambda one: (-one[1], one[0]))),
            )
        )  # fmt: skip
    return tuple(steps)


def _here(trial: Trial, system: AttackedSystem, eps: Fraction) -> bool:
    """True if a trial is one of the board's own, at its radius."""
    return trial.eps == eps and trial not in system.unaware


def _label(trial: Trial, system: AttackedSystem, known: Mapping[str, AttackColumn]) -> str:
    """Label of the attack, with its missing knowledge."""
    if trial in system.unaware:
        what = "unaware of the defense" if not trial.cell.record.threat.aware else "from another network"
        return f"{trial.cell.record.attack.label} {what}"
    return known[trial.column].label


@dataclass(frozen=True)
class Event:
    """A line of a system's history. what: a sentence. robust: worst case afterwards, None if unknown."""

    date: str
    board: Board | None
    what: str
    robust: Rate | None


def withdrawn_by_row(problems: Iterable[Problem]) -> dict[str, list[Withdrawn]]:
    """Withdrawals among the problems, by the key of the row that the record belonged to."""
    found: dict[str, list[Withdrawn]] = defaultdict(list)
    for problem in problems:
        if isinstance(problem, Withdrawn):
            found[recipe_key(problem.record.system)].append(problem)
    return found


def events(entries: Sequence[tuple[Board, Row]], withdrawn: Iterable[Withdrawn] = ()) -> list[Event]:
    """Events of a system on all its boards, the earliest first, unknown dates last. withdrawn: records of its row."""
    found = [Event(step.date, board, _told(step, at), step.robust)
             for board, entry in entries for at, step in enumerate(entry.history)]  # fmt: skip
    for problem in withdrawn:
        record = problem.record
        became = f"superseded by {problem.by[:8]}" if problem.by else "retracted"
        what = f"{record.attack.label} at {record.threat.norm} {record.threat.eps_exact} ({record.key[:8]})"
        found.append(Event(problem.date, None, f"Record of {what} {became}: {problem.reason}", None))
    return sorted(found, key=lambda event: (not event.date, event.date))


def history_table(entries: Sequence[tuple[Board, Row]], told: Sequence[Event], names: Sequence[str]) -> DownloadTable:
    """Download table with one line per event. names: of the threat of each, "" for an event about a record."""
    return DownloadTable(
        f"History of {entries[0][1].label}: the worst case in percent with 95 % intervals, as records were added.",
        [
            {
                "date": event.date or None,
                "board_key": event.board.protocol.key if event.board else None,
                "what": event.what,
                "robust_accuracy": event.robust.value if event.robust else None,
                "low": event.robust.low if event.robust else None,
                "high": event.robust.high if event.robust else None,
            }
            for event in told
        ],
        ("Date", "Threat", "Event", "Worst case"),
        [
            (
                event.date or NOTHING,
                name or NOTHING,
                event.what,
                f"{percent(of.value, of.low, of.high)} ({interval(of.low, of.high)})" if (of := event.robust) else "",
            )
            for event, name in zip(told, names, strict=True)
        ],
    )


def _told(step: Step, at: int) -> str:
    """Description of a step."""
    parts = []
    if at == 0:
        parts.append(f"First recorded, against {_listed(step.attacks)}")
    elif step.entered:
        parts.append(f"{step.entered} more {'run' if step.entered == 1 else 'runs'}, against {_listed(step.attacks)}")
    elif step.attacks:
        parts.append(f"Recorded {_listed(step.attacks)}")
    else:
        parts.append("Recorded at another radius")
    if step.through:
        shown = ", ".join(f"{name} ({number(count)})" for name, count in step.through[:MOST])
        parts.append(f"the worst case fell: newly broken by {shown}")
    elif at:
        parts.append("no further example was broken")
    return "; ".join(parts)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more
