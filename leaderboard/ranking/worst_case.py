"""Worst case of one trained system over all attacks, example by example."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce

import numpy as np

from benchmark.records.record import MetricValue
from benchmark.threat.radius import tolerance

from ..board import ANY_CHANGE
from ..cells.cell import Cell
from ..cells.evidence import Bools, Evidence
from .statistics import Floats

__all__ = ["AttackedSystem", "Hit", "Trial", "WorstCase", "worst_case_at"]


@dataclass(frozen=True, eq=False)
class Trial:
    """A cell with its outcomes. column: the key of the attack. eps: its radius.

    distance: (N,) of the adversarial candidates, infinite where there is none. The core's verdict tolerates rounding
    beyond the radius, so such a distance counts as the radius itself.
    """

    column: str
    eps: Fraction
    cell: Cell
    evidence: Evidence
    distance: Floats

    @classmethod
    def of(cls, column: str, eps: Fraction, cell: Cell, evidence: Evidence) -> Trial:
        """Trial with its distances."""
        radius = float(eps)
        distance = evidence.distance.astype(np.float64)
        rounded = (distance > radius) & (distance <= radius + tolerance(cell.record.threat.norm, radius))
        distance[rounded] = radius
        return cls(column, eps, cell, evidence, distance)


@dataclass(frozen=True, eq=False)
class AttackedSystem:
    """One trained system with all its trials of a family, at every radius, and results independent of the radius.

    clean: (N,) correct on the clean input in every cell. distance: (N,) smallest known adversarial distance; 0 if the
    clean input was misclassified or no attack ever made a valid attempt, infinite if none succeeded.
    certified: (N,) largest certified radius; None if nothing was certified.
    unaware: trials by oblivious attackers, in addition to the `trials` of aware ones. An attacker who knows a defense
    may ignore it, so these candidates, judged on the defended system, count too. They belong to no column.
    """

    key: str
    trials: tuple[Trial, ...]
    clean: Bools
    distance: Floats
    certified: Floats | None
    unaware: tuple[Trial, ...] = ()

    @classmethod
    def of(cls, key: str, trials: Sequence[Trial], unaware: Sequence[Trial] = ()) -> AttackedSystem:
        """System of that key, from its trials."""
        clean = reduce(np.logical_and, [t.evidence.clean for t in trials])
        tried = _any([t.evidence.valid for t in trials])
        certified = reduce(np.maximum, [t.evidence.certified for t in trials]).astype(np.float64)
        return cls(
            key=key,
            trials=tuple(trials),
            clean=clean,
            distance=np.where(clean & tried, smallest([*trials, *unaware]), 0.0),
            certified=certified if certified.any() else None,
            unaware=tuple(unaware),
        )

    def distance_of(self, column: str) -> Floats:
        """Smallest distance found by one attack at any radius, (N,); 0 if the clean input was misclassified."""
        return np.where(self.clean, smallest([t for t in self.trials if t.column == column]), 0.0)


@dataclass(frozen=True, eq=False)
class Hit:
    """Result of one attack at one radius: counts of examples, and the summed cost of its cells.

    given: number of correct examples that it was given, if other attacks had broken the rest before; None for all.
    """

    robust: int
    broken: int
    alone: int
    invalid: int
    median_distance: float | None
    forwards: int
    backwards: int
    seconds: float
    keys: tuple[str, ...]
    top5: int
    metrics: tuple[MetricValue, ...]
    given: int | None = None


@dataclass(frozen=True, eq=False)
class WorstCase:
    """Worst case at one radius.

    held: (N,) correct, validly attacked, broken by no attack. unjudged: examples with no valid attempt that no attack
    broke.
    carried: broken only by candidates recorded under another radius. ignored: broken only by candidates of oblivious
    attackers. certified: (N,) certified at the radius. crossed: both certified and broken. hits: by column.
    """

    held: Bools
    unjudged: int
    carried: int
    ignored: int
    certified: Bools | None
    crossed: int
    hits: dict[str, Hit]
    keys: tuple[str, ...]


def worst_case_at(system: AttackedSystem, eps: Fraction, norm: str) -> WorstCase | None:
    """Worst case over every attack recorded for the system under this radius; None if there is none.

    A candidate recorded under another radius counts if it lies within this one: it is inside the ball, whatever its
    purpose; so does one of an oblivious attacker. Minimal attacks therefore count at every radius, and robust accuracy
    cannot increase with it. A new attack never adds to the unbroken examples; an invalid candidate neither breaks an
    example nor shows that it is robust.
    """
    own = [trial for trial in system.trials if trial.eps == eps]
    if not own:
        return None
    clean = system.clean
    mine: dict[str, list[Trial]] = defaultdict(list)
    for trial in own:
        mine[trial.column].append(trial)
    broken = {column: clean & _any([t.evidence.broken for t in trials]) for column, trials in mine.items()}
    sources = {**broken}
    reach = float(eps) + tolerance(norm, float(eps))
    for trial in system.trials:
        if trial.eps != eps:
            within = clean & (trial.distance <= reach)
            sources[trial.column] = sources[trial.column] | within if trial.column in sources else within
    once, twice = np.zeros_like(clean), np.zeros_like(clean)
    for hit in sources.values():
        twice |= once & hit
        once |= hit
    known = once.copy()
    for trial in system.unaware:
        hit = clean & (trial.evidence.broken if trial.eps == eps else trial.distance <= reach)
        twice |= once & hit
        once |= hit
    at_home = _any(list(broken.values()))
    tried = _any([t.evidence.valid for t in own])
    certified = None
    if system.certified is not None and norm != ANY_CHANGE:
        certified = clean & (system.certified >= float(eps)) & (system.certified > 0)
    return WorstCase(
        held=clean & tried & ~once,
        unjudged=int(np.count_nonzero(clean & ~tried & ~once)),
        carried=int(np.count_nonzero(known & ~at_home)),
        ignored=int(np.count_nonzero(once & ~known)),
        certified=certified,
        crossed=int(np.count_nonzero(certified & once)) if certified is not None else 0,
        hits={
            column: _hit(clean, trials, broken[column], int(np.count_nonzero(sources[column] & ~twice)))
            for column, trials in mine.items()
        },
        keys=tuple(sorted(t.cell.record.key for t in own)),
    )


def _hit(clean: Bools, trials: Sequence[Trial], broken: Bools, alone: int) -> Hit:
    valid = _any([t.evidence.valid for t in trials])
    median = np.inf
    spared = reduce(np.logical_and, [t.evidence.spared for t in trials])
    after = all(t.cell.record.survivors_of for t in trials)
    if clean.any() and not after and all(t.cell.record.attack.minimal for t in trials):
        median = float(np.median(smallest(trials)[clean]))
    costs = [t.cell.record.cost for t in trials if t.cell.record.cost is not None]
    return Hit(
        robust=int(np.count_nonzero(clean & valid & ~broken)),
        broken=int(np.count_nonzero(broken)),
        alone=alone,
        invalid=int(np.count_nonzero(clean & ~valid & ~spared)),
        median_distance=median if np.isfinite(median) else None,
        forwards=sum(c.forwards for c in costs),
        backwards=sum(c.backwards for c in costs),
        seconds=sum(c.seconds for c in costs),
        keys=tuple(sorted(t.cell.record.key for t in trials)),
        top5=min(t.cell.record.counts.robust_top5 for t in trials if t.cell.record.counts is not None),
        metrics=tuple(metric for t in trials for metric in t.cell.record.metrics),
        given=int(np.count_nonzero(clean & ~spared)) if after else None,
    )


def smallest(trials: Sequence[Trial]) -> Floats:
    """Smallest distance over the trials, (N,)."""
    return reduce(np.minimum, [t.distance for t in trials])


def _any(bits: Sequence[Bools]) -> Bools:
    return reduce(np.logical_or, bits)
