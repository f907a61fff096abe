"""Consistency of one cell of a submission: the record with its arrays, and the arrays among themselves."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import ValidationError

from benchmark.errors import RecordError
from benchmark.records.card import Card

from ..cells.array_file import open_arrays
from ..cells.bounds import check_card_bounds
from ..cells.cell import Cell
from ..cells.evidence import OUTCOMES
from ..cells.gallery import GALLERY
from ..cells.load import RECORD
from ..cells.texts import checked_json
from ..ranking.grouping import exact_eps
from .check_outcomes import WITNESS, check_gallery, check_outcomes, check_witness, open_outcomes
from .check_record import check_record, checked_record, first_fault
from .claims import key_of

__all__ = ["CARD", "MASK", "WEIGHTS", "checked_card", "checked_cell"]

PREPARED = "prepared.safetensors"
MASK = "mask.safetensors"
WEIGHTS = "weights.safetensors"
CARD = "card.json"

MOST_PREPARED = 64 << 20
"""Largest size of an attack's prepared tensors, in bytes."""


def checked_cell(folder: Path) -> Cell:
    """Read the cell in `folder`, and check everything that can be checked without running anything.

    Raises:
        RecordError: naming the first contradiction.
    """
    record = checked_record(folder / RECORD)
    place = f"cells/{folder.name}"
    cell = Cell.at(record, folder, f"{place}/{RECORD}")
    if record.key != folder.name:
        raise RecordError(f"the record in {place} has the key {record.key}; expected the name of its folder")
    exact_eps(cell)
    named = {file.path: file for file in record.files}
    if {*named} - {GALLERY, PREPARED, MASK} != {OUTCOMES, WITNESS} or len(record.files) != len(named):
        raise RecordError(f"{cell.place} names the files {sorted(named)[:4]}; expected {OUTCOMES} and {WITNESS}")
    for name, file in named.items():
        if not (folder / name).is_file():
            raise RecordError(f"{place}/{name} is missing, but the record names it")
        with (folder / name).open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if (folder / name).stat().st_size != file.bytes or found != file.sha256:
            raise RecordError(f"{place}/{name} does not have the size and sha256 in the record")
    outcomes = open_outcomes(cell)
    check_outcomes(cell, outcomes)
    check_record(cell, outcomes)
    witness = open_arrays(folder / WITNESS, f"{place}/{WITNESS}")
    check_witness(cell, outcomes, witness)
    if GALLERY in named:
        check_gallery(outcomes, witness, open_arrays(folder / GALLERY, f"{place}/{GALLERY}"))
    if PREPARED in named and named[PREPARED].bytes > MOST_PREPARED:
        raise RecordError(f"{place}/{PREPARED} has {named[PREPARED].bytes} bytes; expected at most {MOST_PREPARED}")
    for name in named.keys() & {PREPARED, MASK}:
        open_arrays(folder / name, f"{place}/{name}")
    return cell


def checked_card(folder: Path) -> Card:
    """Read and check the card in `folder`; weights beside it must match it, and are not read beyond their header.

    Raises:
        RecordError: naming the first fault.
    """
    place = f"systems/{folder.name}"
    path = folder / CARD
    if not path.is_file():
        raise RecordError(f"{place}/{CARD} is missing; expected the card of every system")
    checked_json(path.read_bytes(), f"{place}/{CARD}")
    try:
        card = Card.model_validate_json(path.read_bytes(), strict=True)
    except ValidationError as error:
        raise RecordError(f"{place}/{CARD} is not a card: {first_fault(error)}") from error
    check_card_bounds(card, f"{place}/{CARD}")
    if not card.key == card.system.key == folder.name:
        raise RecordError(
            f"{place}/{CARD} has the keys {card.key[:24]!r} and {card.system.key[:24]!r}; expected its folder's"
        )
    expected = key_of(card.system, card.seed, card.dataset_revision)
    if expected not in (None, card.key):
        raise RecordError(
            f"{place}/{CARD} has the key {card.key}, but its settings, seed and dataset give {expected}; a key is the "
            "content address of its system"
        )
    for part in ("select", "test"):
        correct, total = getattr(card, f"{part}_correct"), getattr(card, f"{part}_total")
        if not 0 <= correct <= total:
            raise RecordError(f"{place}/{CARD} counts {correct} of {total} {part} examples as correct")
    weights = folder / WEIGHTS
    if weights.is_file():
        open_arrays(weights, f"{place}/{WEIGHTS}")
        with weights.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != card.weights_sha256:
                raise RecordError(f"{place}/{WEIGHTS} does not have the sha256 in its card")
    if card.sha256 not in ("", card.sealed().sha256):
        raise RecordError(f"{place}/{CARD} does not match its own sha256; submit it unchanged")
    return card
