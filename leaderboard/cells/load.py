"""Records and outcomes from disk: what can be read is read, what cannot is reported in one sentence each.

A cell is a folder with `record.json` and, if it is complete, `outcomes.safetensors`, or the form of it that published
results have: see :mod:`.packed`. Imports no torch.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from benchmark.errors import RecordError
from benchmark.records.record import Record, file_sha256, read_record

from ..board import Problem, Withdrawn
from .bounds import check_numbers
from .packed import ARRAYS, examples_name, read_document, unpacked
from .retraction import Withdrawal, withdrawal

__all__ = [
    "OUTCOMES",
    "Answers",
    "Cell",
    "Evidence",
    "certified_radii",
    "check_files",
    "clean_answers",
    "find",
    "labels_of",
    "read",
    "read_answers",
    "read_evidence",
    "same_outcomes",
    "uncollected",
]

OUTCOMES = "outcomes.safetensors"
RECORD = "record.json"
KEY = re.compile(r"[0-9a-f]{24}")
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Cell:
    """A record and where it lies.

    place: its path with slashes, relative to the folder that was read; with its name in front if several were.
    """

    record: Record
    folder: Path
    place: str


@dataclass(frozen=True, eq=False)
class Evidence:
    """The part of a cell's outcomes that a leaderboard needs.

    clean: (N,) bool, right on the clean input. valid: (N,) bool, the candidate was inside the threat (true where
    nothing was attacked). broken: (N,) bool, by a valid candidate within eps. distance: (N,) float32 of the
    adversarial candidate in the threat's norm, infinite where there is none. certified: (N,) float32, radius proved
    in that norm. spared: (N,) bool, right and not given to the attack, since earlier cells had broken it; such an
    example is neither valid nor broken here.
    """

    clean: Bools
    valid: Bools
    broken: Bools
    distance: NDArray[np.float32]
    certified: NDArray[np.float32]
    spared: Bools


def find(folder: Path) -> Iterator[Path]:
    """Every `record.json` below `folder`, sorted by path; hidden folders and a store's unfinished work are left out."""
    left = [folder]
    while left:
        here = left.pop()
        with contextlib.suppress(OSError), os.scandir(here) as entries:
            inside = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
            if inside.get(RECORD) is False:
                yield here / RECORD
                continue
            unfinished = "work" if "cells" in inside else ""
            names = [name for name, is_folder in inside.items() if is_folder and not name.startswith(".")]
            left += [here / name for name in sorted(names, reverse=True) if name != unfinished]


def read(folders: Sequence[Path], *, files: bool = False, withdrawn: bool = False) -> tuple[list[Cell], list[Problem]]:
    """All records below the folders, by key, and what is wrong with the others.

    The same cell in two folders counts once; two different records under one key are a problem, and the first stays.
    Cells that were retracted or superseded are left out, and their reason is told among the problems.

    Args:
        files: also read every file that a record names, and check its size and hash.
        withdrawn: keep the cells that were retracted or superseded.
    """
    with uncollected():
        return _read(folders, files, withdrawn)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Python's cycle collector waits: it walks over thousands of records again and again, and none is garbage."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def _read(folders: Sequence[Path], files: bool, withdrawn: bool) -> tuple[list[Cell], list[Problem]]:
    cells: dict[str, Cell] = {}
    problems: list[Problem] = []
    for folder in folders:
        if not folder.is_dir():
            problems.append(Problem(folder.name, f"{folder.name} is no folder; expected one with cells in it"))
            continue
        for path in find(folder):
            place = path.relative_to(folder if len(folders) == 1 else folder.parent).as_posix()
            try:
                cell = Cell(_read_record(path, place), path.parent, place)
                if files:
                    check_files(cell)
                known = cells.setdefault(cell.record.key, cell)
                if known is not cell and not same_outcomes(known.record, cell.record):
                    raise RecordError(
                        f"{place} has the key of {known.place} and says something else; the first one is kept, remove "
                        "one of them"
                    )
            except RecordError as error:
                problems.append(Problem(place, str(error)))
    if not withdrawn:
        problems += _withdrawn(cells)
    return [cells[key] for key in sorted(cells)], sorted(problems, key=lambda p: (p.path, p.sentence))


def same_outcomes(one: Record, other: Record) -> bool:
    """Compare two records of one cell in everything but provenance, time and memory.

    Then a cell was run twice, and the second run confirms the first.
    """

    def said(record: Record) -> str:
        document = record.model_dump(mode="json", exclude={"provenance"})
        for name in ("seconds", "peak_memory_bytes"):
            (document["cost"] or {}).pop(name, None)
        return json.dumps(document, sort_keys=True)

    return one == other or said(one) == said(other)


def _withdrawn(cells: dict[str, Cell]) -> list[Problem]:
    """Take retracted and superseded cells away, and say why each was."""
    told: list[Problem] = []
    found: dict[str, Withdrawal] = {}
    for key, cell in cells.items():
        try:
            said = withdrawal(cell.folder)
        except RecordError as error:
            told.append(Problem(cell.place, f"{cell.place} stays on its boards: {error}"))
            continue
        if said is not None:
            found[key] = said
    stays = {key: why for key, said in found.items() if said.by and (why := _no_successor(key, found, cells))}
    for key, said in found.items():
        cell = cells[key]
        if key in stays:
            told.append(Problem(cell.place, f"{cell.place} stays: {stays[key]}"))
            continue
        sentence = f"{cell.place} {said.sentence}"
        told.append(Withdrawn(cell.place, sentence, cell.record, said.date, said.reason, said.by))
        del cells[key]
    return told


def _no_successor(key: str, found: Mapping[str, Withdrawal], cells: Mapping[str, Cell]) -> str:
    """The reason for which a superseded cell stays, else "": no successor, another question or a circle."""
    by = found[key].by
    if by not in cells:
        return f"{by}, which supersedes it, is not here"
    if cells[by].record.status != "complete":
        return f"{by}, which supersedes it, is {cells[by].record.status}"
    if cells[by].record.system.name != cells[key].record.system.name:
        return f"{by}, which supersedes it, is of another system"
    passed = {key}
    while by in found and found[by].by:
        if by in passed:
            return f"{found[key].by}, which supersedes it, is superseded in a circle"
        passed.add(by)
        by = found[by].by
    return ""


def _read_record(path: Path, place: str) -> Record:
    """The record at `path`; errors name it by `place`, so that they are the same on every machine."""
    try:
        record = read_record(path)
    except RecordError as error:
        raise RecordError(str(error).replace(str(path), place)) from error
    for name, key in (("key", record.key), ("system.key", record.system.key)):
        if not KEY.fullmatch(key):
            raise RecordError(f"{place} has {name} {key[:80]!r}; expected 24 hexadecimal digits")
    if record.status == "complete" and record.counts is None:
        raise RecordError(f"{place} is complete and has no counts; expected how many examples stayed right")
    if record.counts is not None and record.counts.total == 0:
        raise RecordError(f"{place} counts no examples; expected at least one")
    check_numbers(record, place)
    return record


def check_files(cell: Cell) -> None:
    """Compare the files beside a record with the sizes and hashes that it gives, and the example list with its hash.

    Of a packed cell those that are there, and those that stand for the outcomes.

    Raises:
        RecordError: if a file is missing, lies elsewhere or differs.
    """
    packed = _check_packed(cell)
    for file in cell.record.files:
        if packed and not (cell.folder / file.path).exists():
            continue
        name = PurePosixPath(file.path)
        if file.path != name.name or file.path in ("", ".", "..") or "\\" in file.path:
            raise RecordError(f"{cell.place} names the file {file.path!r}; expected a name beside the record, no path")
        path = cell.folder / file.path
        if not path.is_file() or path.is_symlink():
            raise RecordError(f"{cell.place} names {file.path}, and there is no such file beside it")
        if path.stat().st_size != file.bytes:
            raise RecordError(
                f"{file.path} beside {cell.place} has {path.stat().st_size} bytes, and the record says {file.bytes}"
            )
        if file_sha256(path) != file.sha256:
            raise RecordError(f"{file.path} beside {cell.place} does not have the sha256 that the record gives")
    if cell.record.status == "complete":
        if OUTCOMES not in [file.path for file in cell.record.files]:
            raise RecordError(f"{cell.place} is complete and gives no hash of its {OUTCOMES}")
        _check_examples(cell)


def _check_packed(cell: Cell) -> bool:
    """Tell whether the cell is packed, and check the files that stand for its outcomes against `packed.json`."""
    packed = read_document(cell.folder)
    if packed is None:
        return False
    examples = cell.folder.parent / examples_name(cell.record)
    for path, info in ((cell.folder / ARRAYS, packed.arrays), (examples, packed.examples)):
        if path.name != info.path or not path.is_file() or file_sha256(path) != info.sha256:
            raise RecordError(f"{path.name} of {cell.place} is missing, or has another sha256 than packed.json gives")
    named = {file.path: file.sha256 for file in cell.record.files}
    for link in packed.links:
        if named.get(link.path) != link.sha256:
            raise RecordError(f"packed.json of {cell.place} links {link.path} with another sha256 than the record")
    return True


def _check_examples(cell: Cell) -> None:
    """The ids and labels of the outcomes must be the example list that the record claims."""
    sha = hashlib.sha256()
    for values in _tensors(cell, ("ids", _labels(cell))).values():
        sha.update(values.astype("<i8").tobytes())
    if sha.hexdigest() != cell.record.examples_sha256:
        raise RecordError(f"{cell.place} gives a hash of its example list that differs from that of its {OUTCOMES}")


def _labels(cell: Cell) -> str:
    """The array of the outcomes that the example list is made of: labels of examples, or of their sites."""
    path = cell.folder / OUTCOMES
    path = path if path.is_file() else cell.folder.parent / examples_name(cell.record)
    try:
        with safe_open(path, framework="numpy") as file:
            return "sites" if "sites" in file.keys() else "y"  # noqa: SIM118 - it is no dict
    except (OSError, SafetensorError) as error:
        raise RecordError(f"the example list of {cell.place} cannot be read: {error}") from error


def read_evidence(cell: Cell) -> Evidence:
    """The outcomes of a complete cell, as far as a leaderboard needs them; they must agree with the record's counts.

    Raises:
        RecordError: if they are missing, malformed, or say something else than the record.
    """
    counts = cell.record.counts
    if counts is None:
        raise RecordError(f"{cell.place} is {cell.record.status} and has no outcomes")
    norm = cell.record.threat.norm
    found = _tensors(cell, ("clean_correct", "valid", "broken", norm, "certified", "attacked"))
    for name, values in found.items():
        kind = "float32" if name in (norm, "certified") else "bool"
        if values.shape != (counts.total,) or values.dtype != kind:
            raise RecordError(
                f"{name} in the {OUTCOMES} of {cell.place} is {values.dtype} {list(values.shape)}; expected {kind} "
                f"[{counts.total}]"
            )
    clean, valid, broken, distance, certified, attacked = found.values()
    if not (distance.min() >= 0 and certified.min() >= 0):  # a NaN is the minimum, and not >= 0
        raise RecordError(f"the {OUTCOMES} of {cell.place} has a distance or certified radius that is NaN or negative")
    tried = clean & valid
    if (broken & ~tried).any():
        raise RecordError(
            f"the {OUTCOMES} of {cell.place} breaks an example that was wrong before, or by no valid input"
        )
    spared = clean & ~attacked & ~valid & bool(cell.record.survivors_of)
    said = (counts.clean_correct, counts.robust_correct, counts.invalid + counts.spared)
    right, judged = int(np.count_nonzero(clean)), int(np.count_nonzero(tried))
    seen = (right, int(np.count_nonzero(tried & ~broken)), right - judged)
    if said != seen:
        last = "invalid or spared" if cell.record.survivors_of else "invalid"
        raise RecordError(
            f"{cell.place} counts {said[0]} right, {said[1]} robust and {said[2]} {last}, and its {OUTCOMES} has "
            f"{seen[0]}, {seen[1]} and {seen[2]}"
        )
    _check_outcomes(cell)
    np.copyto(distance, np.inf, where=~tried)
    return Evidence(clean, valid, broken, distance, certified, spared)


def clean_answers(cell: Cell) -> tuple[NDArray[np.int64], Bools]:
    """The ids of the examples of a complete cell, and for each whether the clean input was classified correctly."""
    found = _tensors(cell, ("ids", "clean_correct"))
    return found["ids"], found["clean_correct"]


def labels_of(cell: Cell) -> NDArray[np.int64]:
    """The labels of the examples of a complete cell, (N,)."""
    found: NDArray[np.int64] = _tensors(cell, ("y",))["y"]
    return found


@dataclass(frozen=True, eq=False)
class Answers:
    """Outcome of each example in one cell. ids: (N,) int64. clean, broken: (N,) bool. distance: (N,), as `Evidence`."""

    ids: NDArray[np.int64]
    clean: Bools
    broken: Bools
    distance: NDArray[np.float32]


def read_answers(cell: Cell) -> Answers:
    """The outcome of each example of a complete cell that was read before."""
    norm = cell.record.threat.norm
    found = _tensors(cell, ("ids", "clean_correct", "broken", norm))
    return Answers(found["ids"], found["clean_correct"], found["broken"], found[norm])


def certified_radii(cell: Cell) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The ids of the examples of a complete cell, and the certified radius of each, 0 where there is none."""
    found = _tensors(cell, ("ids", "certified"))
    return found["ids"], found["certified"]


def _tensors(cell: Cell, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The named arrays of a cell's outcomes, and nothing more of the file."""
    try:
        with safe_open(cell.folder / OUTCOMES, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in names}
    except FileNotFoundError as error:
        return _unpacked(cell, names, error)
    except (OSError, SafetensorError) as error:
        raise RecordError(f"the {OUTCOMES} of {cell.place} cannot be read: {error}") from error


_WHOLE: dict[tuple[str, int, int], str] = {}
"""Checksums of files of outcomes that were read, by place, size and time."""


def _check_outcomes(cell: Cell) -> None:
    """The file of outcomes has the sha256 that the record gives, where it gives one and the file is there."""
    path = cell.folder / OUTCOMES
    named = {file.path: file.sha256 for file in cell.record.files}
    if OUTCOMES not in named or not path.is_file():
        return
    found = path.stat()
    stamp = (str(path.absolute()), found.st_size, found.st_mtime_ns)
    if stamp not in _WHOLE:
        _WHOLE[stamp] = file_sha256(path)
    if _WHOLE[stamp] != named[OUTCOMES]:
        raise RecordError(f"the {OUTCOMES} of {cell.place} is broken: its sha256 is not the one of its record")


def _unpacked(cell: Cell, names: Sequence[str], absent: FileNotFoundError) -> dict[str, NDArray[Any]]:
    try:
        return unpacked(cell.record, cell.folder, names)
    except RecordError as error:
        raise RecordError(f"{cell.place} is packed: {error}") from error
    except FileNotFoundError:
        raise RecordError(f"{cell.place} is complete, and there is no {OUTCOMES} beside it") from absent
