"""A board from its rows: order, ranks as intervals, ties, and resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..board import Alarm, AttackColumn, Board, Metric, Pairs, Protocol, Ranks, Resolution, Row, Score
from . import met
from .paired import paired_tests
from .standing import Closeness, standings
from .statistics import (
    LEVEL,
    Shares,
    detectable_difference,
    examples_to_separate,
    holm,
    resampled_ranks,
    separable_ranks,
    tie_groups,
)
from .suites import required_attacks

__all__ = ["DRAWS", "Draft", "ranked"]

DRAWS = 1000
SEED = 0


@dataclass(frozen=True, eq=False)
class Draft:
    """A row without place, ranks and scores.

    held: (N,) the share of its runs in which each example stays correct; bool for one run. scores: by column key.
    """

    row: Row
    held: Shares
    scores: dict[str, Score]

    def noting(self, *found: Alarm) -> Draft:
        """Copy with more alarms."""
        return replace(self, row=replace(self.row, alarms=(*self.row.alarms, *found)))


def ranked(
    protocol: Protocol,
    known: Mapping[str, AttackColumn],
    drafts: Sequence[Draft],
    close: Mapping[str, Closeness],
    pool: str,
    claimed: Set[str] = frozenset(),
) -> Board:
    """Board of one protocol.

    Args:
        known: columns of the whole family, in order; those of no row are left out.
        close: the optimality of minimal attacks, by column. pool: the reference for it.
        claimed: keys of cells that nobody but their author has checked.
    """
    of = protocol.conditions
    required = required_attacks(of.suite) if of.official else None
    attacked = [met.attacked(known, draft.row.runs) for draft in drafts]
    unproved = [met.unproved(known, draft.scores, claimed, draft.row.key) for draft in drafts]
    spared = met.spared(known, [draft.row.runs for draft in drafts], required, [not told for told in unproved])
    drafts = [draft.noting(*found) for draft, found in zip(drafts, unproved, strict=True)]
    fit = [had and not missed and not told for had, missed, told in zip(attacked, spared, unproved, strict=True)]
    order = sorted(range(len(drafts)), key=lambda at: (not fit[at], *_place(drafts[at].row)))
    placed = [drafts[at] for at in order]
    tested = [drafts[at] for at in order if fit[at]]
    shown = _strongest_first(known, placed)
    held = np.stack([draft.held for draft in tested]) if tested else np.zeros((0, protocol.conditions.total))
    pairs = _pairs(held, [[run.robust.count for run in draft.row.runs] for draft in tested])
    apart = pairs.adjusted <= LEVEL
    ranks = [*_ranks(tested, held, apart), *[None] * (len(placed) - len(tested))]
    return Board(
        protocol=protocol,
        columns=tuple(shown.values()),
        rows=tuple(
            _row(drafts[at], place, its, spared[at], shown, required is not None)
            for place, (at, its) in enumerate(zip(order, ranks, strict=True), 1)
        ),
        ties=tuple(tie_groups(apart)),
        pairs=pairs,
        resolution=_resolution(pairs, held.shape[1]),
        attacks=standings(
            list(shown.values()),
            [draft.scores for draft in placed],
            [draft.row.clean.count for draft in placed],
            close,
            pool,
        ),
        unfinished=(),
        alarms=(*met.not_attacked(attacked), *_of_board([draft.row for draft in placed])),
        metrics=_metrics(placed),
    )


def _strongest_first(known: Mapping[str, AttackColumn], drafts: Sequence[Draft]) -> dict[str, AttackColumn]:
    """Columns of at least one row, by the share of correct examples that they broke."""
    success = {}
    for key in known:
        met = [draft for draft in drafts if key in draft.scores]
        if met:
            clean = sum(draft.row.clean.count for draft in met)
            success[key] = sum(draft.scores[key].broken for draft in met) / clean if clean else 0.0
    return {key: known[key] for key in sorted(success, key=lambda key: -success[key])}


def _metrics(drafts: Sequence[Draft]) -> tuple[Metric, ...]:
    found = {metric for draft in drafts for score in draft.scores.values() for metric in score.metrics}
    return tuple(sorted(found, key=lambda metric: metric.order))


def _place(row: Row) -> tuple[float, float, str]:
    return (-row.robust.count, -row.clean.count, row.key)


def _ranks(drafts: Sequence[Draft], held: Shares, apart: NDArray[np.bool_]) -> list[Ranks]:
    """Ranks of rows that met the same attacks."""
    if not drafts:
        return []
    bounds = separable_ranks(apart, np.array([draft.row.robust.value for draft in drafts]))
    drawn = resampled_ranks(held, DRAWS, SEED)
    return [
        Ranks(*bounds[at], int(drawn.low[at]), int(drawn.high[at]), float(drawn.best[at])) for at in range(len(drafts))
    ]


def _row(
    draft: Draft, place: int, ranks: Ranks | None, spared: set[str], shown: Mapping[str, AttackColumn], required: bool
) -> Row:
    missing = met.fewer_attacks(shown, draft.scores, spared, draft.row.key, required)
    scores = tuple(draft.scores.get(key) for key in shown)
    return replace(draft.noting(*missing).row, place=place, ranks=ranks, scores=scores)


def _pairs(held: Shares, counts: Sequence[Sequence[float]]) -> Pairs:
    """Paired tests of all rows on the same examples, corrected for their number."""
    won, p = paired_tests(held, counts)
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


def _of_board(rows: Sequence[Row]) -> tuple[Alarm, ...]:
    """Findings about the board itself: rows whose numbers say less than they seem to."""
    unjudged = [row for row in rows if row.unjudged]
    return tuple(
        Alarm(
            "unjudged_examples",
            "warning",
            f"{row.unjudged:g} examples of {row.label} have no valid attempt of any attack: until there is one, they "
            "count as not robust",
            row.keys,
            row.key,
        )
        for row in unjudged
    )
