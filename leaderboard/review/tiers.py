"""Tiers: the extent to which others than the author checked the cells of a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from benchmark.errors import RecordError

from ..board import Problem, Row
from ..cells.cell import Cell
from .review import ReviewFile, Tier, read_review

__all__ = ["claimed", "reviews_of", "weakest"]

TIERS: tuple[Tier, ...] = get_args(Tier)
"""Tiers from the author's word to an attack by others."""


def reviews_of(cells: Sequence[Cell]) -> tuple[dict[str, ReviewFile], list[Problem]]:
    """Reviews beside the cells, by key, and the faults of invalid ones; a cell without a review was not submitted."""
    found: dict[str, ReviewFile] = {}
    problems = []
    for cell in cells:
        try:
            review = read_review(cell.folder)
        except RecordError as error:
            problems.append(Problem(cell.place, str(error)))
            continue
        if review is not None:
            found[cell.record.key] = review
    return found, problems


def claimed(reviews: Mapping[str, ReviewFile]) -> frozenset[str]:
    """Keys of the submitted cells of which only their author has checked anything."""
    return frozenset(key for key, review in reviews.items() if review.tier == TIERS[0])


def weakest(row: Row, reviews: Mapping[str, ReviewFile]) -> Tier | None:
    """Tier that all submitted cells of a row reach; None if none was submitted."""
    tiers = [reviews[key].tier for key in row.keys if key in reviews]
    return min(tiers, key=TIERS.index, default=None)
