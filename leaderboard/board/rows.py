"""A row of a board: a system, its runs and what each attack left of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmark.records.described import SystemInfo

from .faults import Alarm
from .rates import Measured, Metric, Rate, Spread

__all__ = ["Ranks", "Row", "Run", "Score", "Step"]


@dataclass(frozen=True)
class Score:
    """The result of one attack on one row; means over the row's runs where there are several.

    robust: right, validly attacked and not broken by this attack, as the records count it. broken: how many examples
    it broke. alone: how many only it broke, of all attacks recorded for the row. invalid: candidates outside the
    threat. median_distance: over the examples that were right on the clean input; None if it is infinite, or if the
    attack does not look for the smallest perturbation.
    forwards, backwards, seconds: of one run. keys: of its cells, sorted. top5: examples whose label was still among the
    first five answers, None where there are no more than five classes.
    metrics: those that plugins bring, see :mod:`.ranking.measured`.
    given: of the right examples how many it was given, if cheaper attacks had broken the rest before: then robust is
    what all of them together leave, and no figure compares with those of attacks that saw all; None if it saw all.
    """

    robust: Rate
    broken: float
    alone: float
    invalid: float
    median_distance: float | None
    forwards: float
    backwards: float
    seconds: float
    keys: tuple[str, ...]
    top5: float | None
    metrics: Mapping[Metric, Measured] = field(default_factory=dict)
    given: float | None = None


@dataclass(frozen=True)
class Run:
    """One trained system of a row.

    held: the examples that stayed right under every attack, as packed bits (big-endian, as np.packbits writes them).
    clean_bits: the examples that were right on the clean input. weights_sha256: of the trained weights.
    columns: keys of the attacks that it met.
    """

    system_key: str
    seed: int
    clean: Rate
    robust: Rate
    held: bytes
    clean_bits: bytes
    weights_sha256: str
    keys: tuple[str, ...]
    columns: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Step:
    """The effect of one day's records on the worst case of a row.

    date: YYYY-MM-DD, "" for records that do not know theirs. attacks: labels of those recorded at this radius.
    entered: number of runs recorded for the first time. robust: the worst case afterwards, mean over the runs.
    through: the attacks that broke what had held until that day, and how many examples each of a run, the most first.
    """

    date: str
    attacks: tuple[str, ...]
    entered: int
    robust: Rate
    through: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Ranks:
    """The ranks of a row as intervals.

    low, high: the places that Holm-corrected paired tests leave. drawn_low, drawn_high: the central 95 % of its ranks
    over resampled examples. best: the share of resamples in which it is first, ties divided.
    """

    low: int
    high: int
    drawn_low: int
    drawn_high: int
    best: float


@dataclass(frozen=True)
class Row:
    """A system: one recipe, with its runs under several seeds.

    key: content address of the recipe without the seed. label: unique on the board.
    place: position in the strict order, from 1. ranks: None for a row without a rank, see `Board.ranked`.
    robust: not broken by any attack: an upper bound. certified: proved at this radius: a lower bound, None if nobody
        tried. clean: right on the clean input.
    unjudged: examples that no attack validly tried; they count as not robust.
    carried: examples broken only by candidates that were recorded under another radius and lie within this one.
    scores: one per column of the board, None where the attack was not run.
    spread, clean_spread: over the runs. history: how the worst case came to be, day by day.
    oblivious: robust accuracy against attackers who do not know the defense. transfer: against examples that were made
    on other systems. Both on the same examples and radius, from whatever suite, None where nobody tried.
    claimed: what its authors report at this radius, under attacks of their own; nobody checked it.
    """

    key: str
    label: str
    system: SystemInfo
    place: int
    ranks: Ranks | None
    robust: Rate
    clean: Rate
    certified: Rate | None
    spread: Spread
    clean_spread: Spread
    unjudged: float
    carried: float
    scores: tuple[Score | None, ...]
    runs: tuple[Run, ...]
    alarms: tuple[Alarm, ...]
    keys: tuple[str, ...]
    history: tuple[Step, ...] = ()
    oblivious: Rate | None = None
    transfer: Rate | None = None
    claimed: float | None = None
