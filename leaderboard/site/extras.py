"""The contents of the site beside the boards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmark.records.arrivals import Arrivals

from ..board import Leaderboard
from ..cells.evidence import Answers
from ..cells.gallery import Pictures
from ..cells.suspicion import Suspicion
from ..literature.published_numbers import Source
from ..review.foreign import ReplayFile
from ..review.review import ReviewFile
from .notes import SystemNote

__all__ = ["Extras"]


def _no_pictures(key: str) -> Pictures | None:
    """None, for a leaderboard without images."""
    return None


def _no_suspicion(key: str) -> Suspicion | None:
    """None, for a leaderboard without cells."""
    return None


@dataclass(frozen=True)
class Extras:
    """Contents of the site besides the boards.

    pictures: returns those of a cell by its key, None if it has none. published: numbers from the literature. reviews:
    of submitted cells, by key. before: the last release, None for no comparison.
    transfers: transfer of adversarial examples between systems. suspicion: returns the detector scores of a cell by its
    key, None if its system has no detector. releases: earlier ones of the site, by name, with their URLs.
    notes: authors' notes on their systems, by the key of the row.
    replays: of cells by foreign code, by key. answers: returns the outcomes of a cell by its key.
    """

    pictures: Callable[[str], Pictures | None] = _no_pictures
    published: Sequence[Source] = ()
    reviews: Mapping[str, ReviewFile] = field(default_factory=dict)
    before: Leaderboard | None = None
    transfers: Sequence[Arrivals] = ()
    suspicion: Callable[[str], Suspicion | None] = _no_suspicion
    releases: Sequence[tuple[str, str]] = ()
    answers: Callable[[str], Answers] | None = None
    notes: Mapping[str, SystemNote] = field(default_factory=dict)
    replays: Mapping[str, ReplayFile] = field(default_factory=dict)
