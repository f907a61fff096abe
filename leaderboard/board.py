"""The contents of a leaderboard as data: the aggregation makes these, the site draws them.

Shares are in [0, 1], intervals are 95 %, distances and radii are in units of the [0, 1] input range (for l0: features).
Every tuple has a fixed order that depends on the records alone. No text here is escaped: labels, names, parameters and
error texts may come from strangers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.records.described import SystemInfo
from benchmark.records.record import Record

__all__ = [
    "ANY_CHANGE",
    "Alarm",
    "AttackColumn",
    "AttackStanding",
    "Board",
    "Conditions",
    "Curve",
    "CurveSet",
    "Leaderboard",
    "Measured",
    "Metric",
    "Optimality",
    "Pairs",
    "Problem",
    "Protocol",
    "Ranks",
    "Rate",
    "Resolution",
    "Row",
    "Run",
    "Score",
    "Spread",
    "Step",
    "Unfinished",
    "Withdrawn",
]

ANY_CHANGE = "any"
"""The norm of a board of attacks that answer to none."""


@dataclass(frozen=True)
class Rate:
    """A share of examples with its 95 % Wilson interval.

    count: how many; the mean over runs where a row has several, so not always whole. total: of how many examples.
    """

    count: float
    total: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Spread:
    """One number over the runs of a row. deviation: the sample standard deviation, None for a single run."""

    mean: float
    low: float
    high: float
    deviation: float | None


@dataclass(frozen=True)
class Problem:
    """A record that is on no board. path: see `load.Cell.place`. sentence: what is wrong with it."""

    path: str
    sentence: str


@dataclass(frozen=True)
class Withdrawn(Problem):
    """A record that was retracted or superseded. by: the key of the one that took its place, "" if none did."""

    record: Record
    date: str
    reason: str
    by: str


@dataclass(frozen=True)
class Alarm:
    """A finding with the cells that show it. row: the key of the row it concerns, "" if it concerns the board.

    severity: info, warning or error. keys: of the cells, sorted.
    """

    name: str
    severity: str
    evidence: str
    keys: tuple[str, ...]
    row: str = ""


@dataclass(frozen=True)
class Conditions:
    """The conditions that comparable records share, apart from the radius.

    Access, query budget and averaging are not part of it: they describe attacks (columns), and the worst case is over
    all of them. suite: its name with its version, None outside suites. official: the rules of the suite were kept.
    total: the number of examples. norm: ANY_CHANGE for attacks that answer to no norm.
    """

    suite: str | None
    official: bool
    dataset: str
    dataset_revision: str
    examples_sha256: str
    total: int
    norm: str
    goal: str
    aware: bool
    region: str
    levels: int | None = None


@dataclass(frozen=True)
class Protocol:
    """The conditions at one radius: what records must share to be ranked together.

    key: its content address, usable in a file name. eps: 0 where the norm is ANY_CHANGE.
    """

    key: str
    conditions: Conditions
    eps: float
    eps_exact: str

    @property
    def document(self) -> dict[str, Any]:
        """The protocol as plain data, for downloads."""
        return {**asdict(self.conditions), "key": self.key, "eps": self.eps, "eps_exact": self.eps_exact}


@dataclass(frozen=True)
class AttackColumn:
    """An attack with its settings, as a column of a board.

    key: content address of name, distribution, parameters, access, queries, eot and surrogate. label: the name, with
    the settings that differ from other columns of that name. versions: of the distribution, sorted. access: what the
    threat permits. used: what the attack made use of, see :func:`.ranking.grouping.used_access`; "" if not known.
    """

    key: str
    name: str
    label: str
    params: dict[str, Any]
    distribution: str
    versions: tuple[str, ...]
    access: str
    queries: int | None
    eot: int
    surrogate: str
    minimal: bool
    randomized: bool
    used: str = ""


@dataclass(frozen=True)
class Metric:
    """A measurement that a plugin brings, as a column. higher_is_better: None where it has no direction."""

    name: str
    unit: str
    higher_is_better: bool | None

    @property
    def order(self) -> tuple[str, str, str]:
        """The sort key of columns."""
        return self.name, self.unit, str(self.higher_is_better)


@dataclass(frozen=True)
class Measured:
    """A value of a metric with its 95 % interval, None where it has none."""

    value: float | None
    low: float | None
    high: float | None


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


@dataclass(frozen=True, eq=False)
class Pairs:
    """Every pair of rows with a rank, in the order of the board.

    wins: (R, R) int64: examples that row i holds and row j does not (for rows with several runs: that a larger share
    of i's runs holds). p: (R, R) two-sided, see :func:`.ranking.paired.paired_tests`. adjusted: (R, R) after Holm over
    all pairs of the board.
    """

    wins: NDArray[np.int64]
    p: NDArray[np.float64]
    adjusted: NDArray[np.float64]


@dataclass(frozen=True)
class Resolution:
    """The resolving power of this many examples.

    separable_neighbours: neighbours in the strict order that differ at 5 % after Holm, of `neighbours`.
    separable_pairs of pairs: the same over all pairs.
    detectable: the smallest difference in robust accuracy that one paired test at 5 % finds with 80 % power, at the
        median disagreement of neighbours; None with fewer than two rows, or where neighbours never disagree.
    more_examples: about how many more examples would separate the first two rows, if their disagreements stay in
        proportion (at 5 % divided by the number of pairs, Holm's strictest step); 0 if they are separated, None if
        there is no difference or no second row.
    """

    neighbours: int
    separable_neighbours: int
    pairs: int
    separable_pairs: int
    detectable: float | None
    more_examples: int | None


@dataclass(frozen=True)
class Optimality:
    """Closeness of an attack to the best distances known, 1 being best (AttackBench), mean over the rows.

    low, high: 95 % over examples (delta method). rows: how many systems it was computed on. pool: content address of
    the attacks whose smallest distances are the reference. Areas go up to the largest radius recorded.
    """

    value: float
    low: float
    high: float
    rows: int
    pool: str


@dataclass(frozen=True)
class AttackStanding:
    """An attack over all rows of a board. column: its position in `Board.columns`.

    rows: systems it was run on. success: the share of the examples right on the clean input that it broke, over those
    rows; count, total and interval are for one system, since all systems see the same examples.
    alone: examples that only it broke, summed over the rows. forwards, backwards: mean per attacked example.
    seconds: mean per cell. optimality: for attacks with distances, None for others.
    """

    column: int
    rows: int
    success: Rate
    alone: float
    forwards: float
    backwards: float
    seconds: float
    optimality: Optimality | None


@dataclass(frozen=True)
class Unfinished:
    """A cell without a result: partial, failed or refused. error: why, "" if the record does not say."""

    key: str
    status: str
    system: str
    attack: str
    seed: int
    error: str


@dataclass(frozen=True)
class Board:
    """One table: systems under one protocol.

    rows: by robust accuracy, then clean accuracy, then key; those without a rank come last.
    ties: (first, last) positions of the maximal groups of neighbours that no test separates; groups overlap, the first
    one is the front. attacks: the most successful first.
    alarms: findings about the board itself; rows have their own. metrics: all that its scores have, by name.
    """

    protocol: Protocol
    columns: tuple[AttackColumn, ...]
    rows: tuple[Row, ...]
    ties: tuple[tuple[int, int], ...]
    pairs: Pairs
    resolution: Resolution
    attacks: tuple[AttackStanding, ...]
    unfinished: tuple[Unfinished, ...]
    alarms: tuple[Alarm, ...]
    metrics: tuple[Metric, ...] = ()

    @property
    def ranked(self) -> int:
        """Number of rows with a rank, which come first: they met the attacks that :func:`.ranking.alarms.spared` asks.

        The worst case over fewer attacks is no better system, so the others take no part in ranks, ties and pairs.
        """
        return len(self.pairs.p)

    @property
    def front(self) -> int:
        """Number of rows in the first tie group."""
        return self.ties[0][1] + 1 if self.ties else 0


@dataclass(frozen=True)
class Curve:
    """Robust accuracy against the radius, from the smallest distances that minimal attacks found.

    points: (eps, share, low, high), eps ascending from 0; the share holds from its eps up to the next one. low, high
    are a simultaneous 95 % band for the whole curve. area: the mean share up to `CurveSet.eps0`, with its 95 %
    interval. half: the smallest radius at which fewer than half of the examples hold, None if that never happens.
    attacks: names of the attacks it comes from. row, label: as on the boards of the same protocol.
    """

    row: str
    label: str
    points: tuple[tuple[float, float, float, float], ...]
    area: float
    area_low: float
    area_high: float
    half: float | None
    attacks: tuple[str, ...]
    keys: tuple[str, ...]


@dataclass(frozen=True)
class CurveSet:
    """Curves that may be compared: all radii under the same conditions.

    key: content address of the conditions. eps0: the largest radius recorded, the end of every curve.
    boards: keys of the boards under them, by radius. curves: the largest area first.
    """

    key: str
    conditions: Conditions
    eps0: float
    boards: tuple[str, ...]
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class Leaderboard:
    """All boards by suite, dataset, norm and radius; all curves; the records that could not be used.

    unfinished: cells without a result that fit to no board.
    """

    boards: tuple[Board, ...]
    curves: tuple[CurveSet, ...]
    problems: tuple[Problem, ...]
    unfinished: tuple[Unfinished, ...] = ()
