"""A row of a board: a system, its runs and its results under each attack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmark.records.described import SystemInfo

from .faults import Alarm
from .rates import Measured, Metric, Rate, Spread

__all__ = ["Ranks", "Row", "Run", "Score", "Step"]


@dataclass(frozen=True)
class Score:
    """Result of one attack on one row; means over the row's runs.

    robust: correct, validly attacked and not broken by this attack, as counted in the records. broken: number of
    examples broken. alone: number broken by no other attack recorded for the row. invalid: candidates outside the
    threat. median_distance: over the examples that are correct on the clean input; None if it is infinite, or if the
    attack is not minimal.
    forwards, backwards, seconds: of one run. keys: of its cells, sorted. top5: examples whose label was still in the
    top five, None if there are at most five classes.
    metrics: those of plugins, see :mod:`.ranking.measured`.
    given: number of correct examples that the attack was given, if cheaper attacks had broken the rest before; None if
    it was given all. Otherwise `robust` is joint over all of them, and no number is comparable with those of other
    attacks.
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

    held: examples that stayed correct under every attack, as packed bits (big-endian, as by np.packbits).
    clean_bits: examples that are correct on the clean input. weights_sha256: of the trained weights.
    columns: keys of the attacks that it was evaluated under.
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
    """Effect of one day's records on the worst case of a row.

    date: YYYY-MM-DD, "" for records without a date. attacks: labels of those recorded at this radius.
    entered: number of runs recorded for the first time. robust: worst case afterwards, mean over the runs.
    through: attacks that broke previously robust examples, with their number per run, the largest first.
    """

    date: str
    attacks: tuple[str, ...]
    entered: int
    robust: Rate
    through: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Ranks:
    """Ranks of a row as intervals.

    low, high: ranks compatible with the Holm-corrected paired tests. drawn_low, drawn_high: central 95 % of its ranks
    over resampled examples. best: share of resamples in which it is first, ties divided.
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
    place: position in the strict order, from 1. ranks: None for an unranked row, see `Board.ranked`.
    robust: not broken by any attack: an upper bound. certified: proved at this radius: a lower bound, None without a
        certifier. clean: correct on the clean input.
    unjudged: examples without any valid attempt; they count as not robust.
    carried: examples broken only by candidates that were recorded under another radius and lie within this one.
    scores: one per column of the board, None if the attack was not run.
    spread, clean_spread: over the runs. history: development of the worst case, by day.
    oblivious: robust accuracy against attackers who do not know the defense. transfer: against examples made on other
    systems. Both on the same examples and radius, from any suite, None if not measured.
    claimed: reported by its authors at this radius, under attacks of their own; not verified.
    replayed: witnesses that foreign code confirmed, and those that it was given; None if none was.
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
    replayed: tuple[int, int] | None = None
