"""The card of a trained system."""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import Field

from benchmark.records.described import SystemInfo
from benchmark.records.document import Document, Json, canonical
from benchmark.records.record import SplitInfo

__all__ = ["Card", "RowsLost"]


class RowsLost(Document):
    """Training rows of one label before and after a defense removed some.

    rows: before. poisoned: number of them that a poison changed or added. removed: number removed by the defense.
    poisoned_removed: number of removed ones that were poisoned.
    """

    rows: int = Field(ge=0)
    poisoned: int = Field(ge=0)
    removed: int = Field(ge=0)
    poisoned_removed: int = Field(ge=0)


class Card(Document):
    """A trained system: its parts, its data and its training.

    select_accuracy, test_accuracy: clean top-1 of the deployed system, as counts, which allow intervals.
    selected_epoch: the epoch of the weights; robust_selection: its accuracy under attack, if that selected it.
    thresholds: of detectors, by defense name: the score above which they refuse, and the spread of clean scores.
    fitted_on: the attacks whose examples each detector was fitted on; an empty list for clean examples alone.
    poison_sha256: of the file with the poisoned rows beside the weights; empty without poison.
    rows_lost: removed training rows per label, by defense name.
    sha256: of all other fields, to detect corruption; empty in cards of earlier versions.
    """

    schema_version: Literal[1] = 1
    key: str
    system: SystemInfo
    seed: int
    init_from: str | None
    dataset_revision: str
    splits: dict[str, SplitInfo]
    splits_disjoint: bool | None
    train_examples: int
    poisoned_examples: int
    poison_sha256: str = ""
    rows_lost: dict[str, list[RowsLost]] = {}
    epochs_run: int
    selected_epoch: int | None
    robust_selection: float | None
    select_correct: int
    select_total: int
    test_correct: int
    test_total: int
    thresholds: dict[str, list[float]] = {}
    fitted_on: dict[str, list[str]] = {}
    warnings: list[str] = []
    parameters: int
    weights_sha256: str
    history: list[dict[str, float]] = []
    seconds: float
    provenance: Json = {}
    sha256: str = ""

    def sealed(self) -> Card:
        """Copy of the card with its checksum."""
        text = canonical(self.model_dump(mode="json", exclude={"sha256"}))
        return self.model_copy(update={"sha256": hashlib.sha256(text.encode()).hexdigest()})
