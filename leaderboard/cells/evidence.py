"""Arrays of a cell: the outcome of each example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from benchmark.errors import RecordError
from benchmark.records.durable import file_sha256

from .cell import Cell
from .packed import examples_name, unpacked

__all__ = [
    "OUTCOMES",
    "Answers",
    "Evidence",
    "certified_radii",
    "clean_answers",
    "label_array",
    "labels_of",
    "outcome_arrays",
    "read_answers",
    "read_evidence",
]

OUTCOMES = "outcomes.safetensors"

Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Part of a cell's outcomes that a leaderboard needs.

    clean: (N,) bool, correct on the clean input. valid: (N,) bool, the candidate was inside the threat (true where
    nothing was attacked). broken: (N,) bool, by a valid candidate within eps. distance: (N,) float32 of the adversarial
    candidate in the threat's norm, infinite where there is none. certified: (N,) float32, certified radius in that
    norm. spared: (N,) bool, correct but not given to the attack, since earlier cells had broken it; such an example is
    neither valid nor broken here.
    """

    clean: Bools
    valid: Bools
    broken: Bools
    distance: NDArray[np.float32]
    certified: NDArray[np.float32]
    spared: Bools


def label_array(cell: Cell) -> str:
    """Name of the array that the example list consists of: labels of examples, or of their sites."""
    path = cell.folder / OUTCOMES
    path = path if path.is_file() else cell.folder.parent / examples_name(cell.record)
    if not path.is_file():
        return "y"
    try:
        with safe_open(path, framework="numpy") as file:
            return "sites" if "sites" in file.keys() else "y"  # noqa: SIM118 - it is no dict
    except (OSError, SafetensorError) as error:
        raise RecordError(f"the example list of {cell.place} cannot be read: {error}") from error


def read_evidence(cell: Cell) -> Evidence:
    """Read the outcomes of a complete cell, and check that they agree with the record's counts.

    Raises:
        RecordError: if they are missing, malformed, or contradict the record.
    """
    counts = cell.record.counts
    if counts is None:
        raise RecordError(f"{cell.place} is {cell.record.status} and has no outcomes")
    norm = cell.record.threat.norm
    after = bool(cell.record.survivors_of)
    found = outcome_arrays(
        cell, ("clean_correct", "valid", "broken", norm, "certified", *(["attacked"] if after else []))
    )
    for name, values in found.items():
        kind = "float32" if name in (norm, "certified") else "bool"
        if values.shape != (counts.total,) or values.dtype != kind:
            raise RecordError(
                f"{name} in the {OUTCOMES} of {cell.place} is {values.dtype} {list(values.shape)}; expected {kind} "
                f"[{counts.total}]"
            )
    clean, valid, broken, distance, certified, *attacked = found.values()
    if not (distance.min() >= 0 and certified.min() >= 0):  # a NaN is the minimum, and not >= 0
        raise RecordError(f"the {OUTCOMES} of {cell.place} has a distance or certified radius that is NaN or negative")
    tried = clean & valid
    if (broken & ~tried).any():
        raise RecordError(
            f"the {OUTCOMES} of {cell.place} breaks an example that was misclassified before, or without a valid input"
        )
    spared = clean & ~attacked[0] & ~valid if after else np.zeros_like(clean)
    said = (counts.clean_correct, counts.robust_correct, counts.invalid + counts.spared)
    right, judged = int(np.count_nonzero(clean)), int(np.count_nonzero(tried))
    seen = (right, int(np.count_nonzero(tried & ~broken)), right - judged)
    if said != seen:
        last = "invalid or spared" if after else "invalid"
        raise RecordError(
            f"{cell.place} counts {said[0]} right, {said[1]} robust and {said[2]} {last}, but its {OUTCOMES} has "
            f"{seen[0]}, {seen[1]} and {seen[2]}"
        )
    _check_outcomes(cell)
    return Evidence(clean, valid, broken, np.where(tried, distance, np.float32(np.inf)), certified, spared)


def clean_answers(cell: Cell) -> tuple[NDArray[np.int64], Bools]:
    """Ids of the examples of a complete cell, (N,), and the correctly classified clean inputs, (N,) bool."""
    found = outcome_arrays(cell, ("ids", "clean_correct"))
    return found["ids"], found["clean_correct"]


def labels_of(cell: Cell) -> NDArray[np.int64]:
    """Labels of the examples of a complete cell, (N,)."""
    found: NDArray[np.int64] = outcome_arrays(cell, ("y",))["y"]
    return found


@dataclass(frozen=True, eq=False)
class Answers:
    """Outcome per example of one cell. ids: (N,) int64. clean, broken: (N,) bool. distance: (N,), as in `Evidence`."""

    ids: NDArray[np.int64]
    clean: Bools
    broken: Bools
    distance: NDArray[np.float32]


def read_answers(cell: Cell) -> Answers:
    """Outcome of each example of a complete cell that was read before."""
    norm = cell.record.threat.norm
    found = outcome_arrays(cell, ("ids", "clean_correct", "broken", norm))
    return Answers(found["ids"], found["clean_correct"], found["broken"], found[norm])


def certified_radii(cell: Cell) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Ids of the examples of a complete cell, (N,), and the certified radius of each, (N,), 0 where there is none."""
    found = outcome_arrays(cell, ("ids", "certified"))
    return found["ids"], found["certified"]


def outcome_arrays(cell: Cell, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read only the named arrays of a cell's outcomes."""
    if OUTCOMES not in cell.beside:
        return _unpacked(cell, names)
    try:
        with safe_open(cell.folder / OUTCOMES, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise RecordError(f"the {OUTCOMES} of {cell.place} cannot be read: {error}") from error


_WHOLE: dict[tuple[str, int, int], str] = {}
"""Cached checksums of outcome files, by path, size and time."""


def _check_outcomes(cell: Cell) -> None:
    """Check the sha256 of the file of outcomes, if the record gives one and the file exists."""
    named = {file.path: file.sha256 for file in cell.record.files}
    if OUTCOMES not in cell.beside or OUTCOMES not in named:
        return
    path = cell.folder / OUTCOMES
    found = path.stat()
    stamp = (str(path.absolute()), found.st_size, found.st_mtime_ns)
    if stamp not in _WHOLE:
        _WHOLE[stamp] = file_sha256(path)
    if _WHOLE[stamp] != named[OUTCOMES]:
        raise RecordError(f"the {OUTCOMES} of {cell.place} is broken: it does not have the sha256 in its record")


def _unpacked(cell: Cell, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    try:
        return unpacked(cell.record, cell.folder, names)
    except RecordError as error:
        raise RecordError(f"{cell.place} is packed: {error}") from error
    except FileNotFoundError as error:
        raise RecordError(f"{cell.place} is complete, but there is no {OUTCOMES} beside it") from error
