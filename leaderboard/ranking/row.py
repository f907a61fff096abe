"""One row of a board: the runs of a recipe, and their results under each attack."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import reduce
from math import fsum

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import RecordError
from benchmark.records.described import SystemInfo

from ..board import (
    Alarm,
    AttackColumn,
    Curve,
    Problem,
    Rate,
    Row,
    Run,
    Score,
    Spread,
)
from ..cells.cell import Cell
from ..cells.evidence import read_evidence
from . import alarms
from .curves import curve
from .history import history
from .measured import metrics_of
from .ranking import Draft
from .standing import Close, closeness
from .statistics import spread, wilson
from .worst_case import AttackedSystem, Hit, Trial, WorstCase, worst_case_at

__all__ = ["recipe_of"]


@dataclass(frozen=True, eq=False)
class Recipe:
    """Systems of one row under the same conditions, with its drafts by radius. close: by column."""

    drafts: dict[Fraction, Draft]
    close: dict[str, list[Close]]
    curve: Curve | None


def recipe_of(
    key: str,
    label: str,
    cells: Sequence[tuple[Fraction, str, Cell]],
    known: Mapping[str, AttackColumn],
    reach: tuple[str, float],
    ignoring: Mapping[str, Sequence[tuple[Fraction, str, Cell]]],
    bad: list[Problem],
) -> Recipe | None:
    """One row under the same conditions, at every radius; its outcomes are dropped at the end.

    Args:
        reach: the norm, and the largest radius of its curves. ignoring: cells of oblivious attackers, by system.
    """
    norm, eps0 = reach
    by_system: dict[str, list[Trial]] = defaultdict(list)
    for trial in _trials(cells, bad):
        by_system[trial.cell.record.system.key].append(trial)
    systems = [
        AttackedSystem.of(name, trials, list(_trials(ignoring.get(name, ()), []))) for name, trials in by_system.items()
    ]
    if not systems:
        return None
    systems.sort(key=lambda s: (min(t.cell.record.seed for t in s.trials), s.key))
    info = systems[0].trials[0].cell.record.system
    noted = [
        *alarms.of_records((t.cell.record for s in systems for t in s.trials), key),
        *(alarm for s in systems for alarm in _disagreement(s, key)),
    ]
    drafts: dict[Fraction, Draft] = {}
    for eps in sorted({t.eps for s in systems for t in s.trials}):
        worst = [(s, v) for s in systems if (v := worst_case_at(s, eps, norm)) is not None]
        draft = _draft((key, label, info), worst, known, noted, (eps, norm))
        if drafts:
            last = max(drafts)
            rising = alarms.rises_with_eps(known, (str(last), drafts[last].scores), (str(eps), draft.scores), key)
            draft = draft.noting(*rising)
        drafts[eps] = draft
    return Recipe(
        drafts=drafts,
        close=closeness(systems, known, eps0),
        curve=curve(key, label, systems, {k: c.name for k, c in known.items()}, eps0),
    )


def _trials(cells: Iterable[tuple[Fraction, str, Cell]], bad: list[Problem]) -> Iterator[Trial]:
    """Cells with their outcomes; those with unusable ones are added to `bad`."""
    for eps, column, cell in cells:
        try:
            yield Trial.of(column, eps, cell, read_evidence(cell))
        except RecordError as error:
            bad.append(Problem(cell.place, str(error)))


def _disagreement(system: AttackedSystem, row: str) -> list[Alarm]:
    ever = reduce(np.logical_or, [t.evidence.clean for t in system.trials])
    differing = int(np.count_nonzero(ever & ~system.clean))
    return alarms.clean_disagrees(differing, [t.cell.record.key for t in system.trials], row)


def _draft(
    named: tuple[str, str, SystemInfo],
    worst: Sequence[tuple[AttackedSystem, WorstCase]],
    known: Mapping[str, AttackColumn],
    noted: Sequence[Alarm],
    at: tuple[Fraction, str],
) -> Draft:
    """A row before ranking: means over its runs.

    Args:
        named: key, label and description of the row. at: radius and norm.
    """
    key, label, info = named
    total = len(worst[0][0].clean)
    held = worst[0][1].held if len(worst) == 1 else np.mean([v.held for _, v in worst], axis=0)
    runs = tuple(_run(system, of) for system, of in worst)
    scores = {
        column: _score([v.hits[column] for _, v in worst if column in v.hits], total)
        for column in known
        if any(column in v.hits for _, v in worst)
    }
    whole = {column: score for column, score in scores.items() if score.given is None}
    proved = [v.certified for _, v in worst if v.certified is not None]
    keys = tuple(sorted({k for _, v in worst for k in v.keys}))
    row = Row(
        key=key,
        label=label,
        system=info,
        place=0,
        ranks=None,
        robust=rate(_mean([int(np.count_nonzero(v.held)) for _, v in worst]), total),
        clean=rate(_mean([int(np.count_nonzero(s.clean)) for s, _ in worst]), total),
        certified=rate(_mean([int(np.count_nonzero(p)) for p in proved]), total) if len(proved) == len(worst) else None,
        spread=Spread(*spread([run.robust.value for run in runs])),
        clean_spread=Spread(*spread([run.clean.value for run in runs])),
        unjudged=_mean([v.unjudged for _, v in worst]),
        carried=_mean([v.carried for _, v in worst]),
        scores=(),
        runs=runs,
        alarms=(*_here(noted, {*keys}), *_raised([v for _, v in worst], keys, known, whole, key)),
        keys=keys,
        history=history([system for system, _ in worst], *at, known),
    )
    return Draft(row, held, scores)


def _raised(
    worst: Sequence[WorstCase],
    keys: tuple[str, ...],
    known: Mapping[str, AttackColumn],
    scores: Mapping[str, Score],
    row: str,
) -> Iterator[Alarm]:
    """The alarms that a row raises by itself."""
    yield from alarms.certified_yet_broken(sum(v.crossed for v in worst), keys, row)
    yield from alarms.ignoring_beats_knowing(sum(v.ignored for v in worst), keys, row)
    yield from alarms.noise_beats_attack(known, scores, row)
    yield from alarms.others_beat_white_box(known, scores, row)
    yield from alarms.out_of_order(known, scores, row)


def _here(noted: Iterable[Alarm], keys: set[str]) -> list[Alarm]:
    """Alarms raised by cells of one board, with those cells only."""
    found = [replace(alarm, keys=tuple(k for k in alarm.keys if k in keys)) for alarm in noted]
    return [alarm for alarm in found if alarm.keys]


def _run(system: AttackedSystem, of: WorstCase) -> Run:
    records = [t.cell.record for t in system.trials]
    total = len(system.clean)
    return Run(
        system_key=system.key,
        seed=min(record.seed for record in records),
        clean=rate(int(np.count_nonzero(system.clean)), total),
        robust=rate(int(np.count_nonzero(of.held)), total),
        held=_packed(of.held),
        clean_bits=_packed(system.clean),
        weights_sha256=min(record.weights_sha256 for record in records),
        keys=of.keys,
        columns=frozenset(of.hits),
    )


def _score(hits: Sequence[Hit], total: int) -> Score:
    medians = [hit.median_distance for hit in hits]
    finite = [m for m in medians if m is not None]
    return Score(
        robust=rate(_mean([hit.robust for hit in hits]), total),
        broken=_mean([hit.broken for hit in hits]),
        alone=_mean([hit.alone for hit in hits]),
        invalid=_mean([hit.invalid for hit in hits]),
        median_distance=_mean(finite) if len(finite) == len(medians) else None,
        forwards=_mean([hit.forwards for hit in hits]),
        backwards=_mean([hit.backwards for hit in hits]),
        seconds=_mean([hit.seconds for hit in hits]),
        keys=tuple(sorted(key for hit in hits for key in hit.keys)),
        top5=None if _few_classes(hits) else _mean([hit.top5 for hit in hits]),
        metrics=metrics_of(metric for hit in hits for metric in hit.metrics),
        given=_mean(given) if (given := [hit.given for hit in hits if hit.given is not None]) else None,
    )


def _few_classes(hits: Sequence[Hit]) -> bool:
    """True if there are at most five classes: the records then have the top-5 metric without a value."""
    return any(metric.name == "robust_top5_accuracy" and metric.value is None for hit in hits for metric in hit.metrics)


def _mean(values: Sequence[float]) -> float:
    """Mean; whole numbers are summed before they are divided, so that it is exact."""
    return fsum(values) / len(values)


def rate(count: float, total: int) -> Rate:
    """Share with its interval. Runs of one row share their examples, so they do not add to `total`."""
    return Rate(count, total, count / total, *wilson(count, total))


def _packed(bits: NDArray[np.bool_]) -> bytes:
    return np.packbits(bits).tobytes()
