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
from ..review.review import ReviewFile
from .notes import SystemNote

__all__ = ["Extras"]


def _no_pictures(key: str) -> Pictures | None:
    """No pictures, for a leaderboard without images."""
    return None


def _no_suspicion(key: str) -> Suspicion | None:
    """No scores, for a leaderboard without cells."""
    return None


@dataclass(frozen=True)
class Extras:
    """The contents of the site beside the boards.

    pictures: gives those of a cell by its key, None if it has none. published: numbers of the literature. reviews: of
    cells that were submitted, by key. before: the last release, None for a site that does not compare itself to one.
    transfers: how adversarial examples went from system to system. suspicion: gives the scores of the detectors in a
    cell by its key, None if its system has none. releases: earlier ones of the site, by name, with their addresses.
    notes: what authors say of their systems, by the key of the row. answers: gives the outcomes of a cell by its key.
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
