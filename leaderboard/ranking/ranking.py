"""A board from its rows: order, ranks as intervals, ties, and what the examples can tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.records.record import SystemInfo

from ..board import Alarm, Board, Column, Pairs, Protocol, Rate, Resolution, Row, Run, Score, Spread, Step
from . import alarms
from .standing import Close, standings
from .statistics import (
    detectable_difference,
    examples_to_separate,
    holm,
    mcnemar,
    resampled_ranks,
    separable_ranks,
    tie_groups,
    wins,
)

__all__ = ["DRAWS", "LEVEL", "Draft", "ranked"]

LEVEL = 0.05
DRAWS = 1000
SEED = 0


@dataclass(frozen=True, eq=False)
class Draft:
    """A row without its rank. held: (N,) the share of its runs that stay right. scores: by column key."""

    key: str
    label: str
    system: SystemInfo
    held: NDArray[np.float64]
    robust: Rate
    clean: Rate
    certified: Rate | None
    spread: Spread
    clean_spread: Spread
    unjudged: float
    carried: float
    scores: dict[str, Score]
    runs: tuple[Run, ...]
    alarms: tuple[Alarm, ...]
    keys: tuple[str, ...]
    history: tuple[Step, ...] = ()


@dataclass(frozen=True)
class _Ranks:
    """See `board.Row`."""

    low: int | None = None
    high: int | None = None
    drawn_low: int | None = None
    drawn_high: int | None = None
    best: float | None = None


def ranked(
    protocol: Protocol,
    known: Mapping[str, Column],
    drafts: Sequence[Draft],
    close: Sequence[Mapping[str, Sequence[Close]]],
    pool: str,
) -> Board:
    """The board of one protocol.

    Args:
        known: columns of the whole family, in order; those that no row has are left out.
        close: per draft, how close minimal attacks came to the best distances. pool: the reference for that.
    """
    spared = alarms.spared(known, [(row.scores, {run.system_key for run in row.runs}) for row in drafts])
    order = sorted(range(len(drafts)), key=lambda at: (bool(spared[at]), *_place(drafts[at])))
    rows = [drafts[at] for at in order]
    tested = [drafts[at] for at in order if not spared[at]]
    shown = {key: column for key, column in known.items() if any(key in row.scores for row in rows)}
    held = np.stack([row.held for row in tested]) if tested else np.zeros((0, protocol.total))
    pairs = _pairs(held)
    apart = pairs.adjusted <= LEVEL
    ranks = [*_ranks(tested, held, apart), *[_Ranks()] * (len(rows) - len(tested))]
    return Board(
        protocol=protocol,
        columns=tuple(shown.values()),
        rows=tuple(
            _row(drafts[at], place, its, spared[at], shown)
            for place, (at, its) in enumerate(zip(order, ranks, strict=True), 1)
        ),
        ties=tuple(tie_groups(apart)),
        pairs=pairs,
        resolution=_resolution(pairs, held.shape[1]),
        attacks=standings(
            list(shown.values()),
            [row.scores for row in rows],
            [row.clean.count for row in rows],
            [close[at] for at in order],
            pool,
        ),
        unfinished=(),
        alarms=_of_board(rows),
    )


def _place(row: Draft) -> tuple[float, float, str]:
    return (-row.robust.count, -row.clean.count, row.key)


def _ranks(rows: Sequence[Draft], held: NDArray[np.float64], apart: NDArray[np.bool_]) -> list[_Ranks]:
    """The ranks of rows that met the same attacks."""
    if not rows:
        return []
    bounds = separable_ranks(apart, np.array([row.robust.value for row in rows]))
    drawn = resampled_ranks(held, DRAWS, SEED)
    return [
        _Ranks(*bounds[at], int(drawn.low[at]), int(drawn.high[at]), float(drawn.best[at])) for at in range(len(rows))
    ]


def _row(row: Draft, place: int, ranks: _Ranks, spared: set[str], shown: Mapping[str, Column]) -> Row:
    return Row(
        key=row.key,
        label=row.label,
        system=row.system,
        place=place,
        rank_low=ranks.low,
        rank_high=ranks.high,
        bootstrap_low=ranks.drawn_low,
        bootstrap_high=ranks.drawn_high,
        best=ranks.best,
        robust=row.robust,
        clean=row.clean,
        certified=row.certified,
        spread=row.spread,
        clean_spread=row.clean_spread,
        unjudged=row.unjudged,
        carried=row.carried,
        scores=tuple(row.scores.get(key) for key in shown),
        runs=row.runs,
        alarms=(*row.alarms, *alarms.fewer_attacks(shown, row.scores, spared, row.key)),
        keys=row.keys,
        history=row.history,
    )


def _pairs(held: NDArray[np.float64]) -> Pairs:
    """Exact McNemar tests of all pairs on the same examples; with several runs, the sign test of their shares."""
    won = wins(held)
    p = mcnemar(won, won.T)
    adjusted = np.ones_like(p)
    upper = np.triu_indices(len(held), 1)
    adjusted[upper] = holm(p[upper])
    adjusted.T[upper] = adjusted[upper]
    return Pairs(won, p, adjusted)


def _resolution(pairs: Pairs, total: int) -> Resolution:
    rows = len(pairs.p)
    count = rows * (rows - 1) // 2
    apart = pairs.adjusted <= LEVEL
    first = np.arange(max(0, rows - 1))
    disagree = (pairs.wins + pairs.wins.T)[first, first + 1] / total
    typical = float(np.median(disagree)) if rows > 1 else 0.0
    more = None
    if rows > 1:
        more = 0
        if not apart[0, 1]:
            more = examples_to_separate(int(pairs.wins[0, 1]), int(pairs.wins[1, 0]), total, 1 - LEVEL / count)
    return Resolution(
        neighbours=max(0, rows - 1),
        separable_neighbours=int(apart[first, first + 1].sum()),
        pairs=count,
        separable_pairs=int(np.triu(apart, 1).sum()),
        detectable=detectable_difference(typical, total) if typical > 0 else None,
        more_examples=more,
    )


def _of_board(rows: Sequence[Draft]) -> tuple[Alarm, ...]:
    """Findings about the board itself: rows whose numbers say less than they seem to."""
    unjudged = [row for row in rows if row.unjudged]
    return tuple(
        Alarm(
            "unjudged_examples",
            "warning",
            f"{row.unjudged:g} examples of {row.label} were validly tried by no attack: they count as not robust until "
            "one does",
            row.keys,
            row.key,
        )
        for row in unjudged
    )
