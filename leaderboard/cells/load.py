"""Read records and outcomes from disk; each unreadable one is reported in a sentence.

A cell is a folder with `record.json` and, if it is complete, `outcomes.safetensors` or the packed form of published
results: see :mod:`.packed`. Imports no torch.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from benchmark.errors import RecordError
from benchmark.records.durable import file_sha256
from benchmark.records.record import Record, read_record

from ..board import Problem, Withdrawn
from .bounds import check_numbers
from .cell import Cell
from .evidence import OUTCOMES, label_array, outcome_arrays
from .packed import ARRAYS, examples_name, read_document
from .retraction import RETRACTED, SUPERSEDED, Withdrawal, withdrawal
from .shared import SharedParts

__all__ = ["check_files", "find", "read", "same_outcomes", "shown", "uncollected"]

RECORD = "record.json"

KEY = re.compile(r"[0-9a-f]{24}")


def find(folder: Path) -> Iterator[tuple[Path, frozenset[str]]]:
    """Every `record.json` below `folder`, sorted by path, with the names of the files in its folder.

    Hidden folders and a store's unfinished work are left out.
    """
    left = [folder]
    while left:
        here = left.pop()
        with contextlib.suppress(OSError), os.scandir(here) as entries:
            inside = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
            if inside.get(RECORD) is False:
                yield here / RECORD, frozenset(map(sys.intern, inside))
                continue
            unfinished = "work" if "cells" in inside else ""
            names = [name for name, is_folder in inside.items() if is_folder and not name.startswith(".")]
            left += [here / name for name in sorted(names, reverse=True) if name != unfinished]


def read(folders: Sequence[Path], *, files: bool = False, withdrawn: bool = False) -> tuple[list[Cell], list[Problem]]:
    """All records below the folders, by key, and the problems of the others.

    The same cell in two folders counts once; two different records under one key are a problem, and the first is kept.
    Retracted and superseded cells are left out, with their reason among the problems.

    Args:
        files: also read every file that a record names, and check its size and hash.
        withdrawn: keep the retracted and superseded cells.
    """
    with uncollected():
        return _read(folders, files, withdrawn)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Disable Python's cycle collector inside the block: it would scan thousands of live records repeatedly."""
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
    shared = SharedParts()
    for folder in folders:
        if not folder.is_dir():
            problems.append(Problem(folder.name, f"{folder.name} is not a folder; expected one that contains cells"))
            continue
        for path, beside in find(folder):
            place = path.relative_to(folder if len(folders) == 1 else folder.parent).as_posix()
            try:
                cell = Cell(shared.keep(_read_record(path, place)), path.parent, place, beside)
                if files:
                    check_files(cell)
                known = cells.setdefault(cell.record.key, cell)
                if known is not cell and not same_outcomes(known.record, cell.record):
                    raise RecordError(
                        f"{place} has the key of {known.place} but another content; the first one is kept, remove one "
                        "of them"
                    )
            except RecordError as error:
                problems.append(Problem(place, str(error)))
    if not withdrawn:
        problems += _withdrawn(cells)
    return [cells[key] for key in sorted(cells)], sorted(problems, key=lambda p: (p.path, p.sentence))


def shown(cells: Sequence[Cell]) -> list[Cell]:
    """Cells that were not withdrawn."""
    found = {cell.record.key: cell for cell in cells}
    _withdrawn(found)
    return list(found.values())


def same_outcomes(one: Record, other: Record) -> bool:
    """True if two records of one cell agree in everything but provenance, time and memory.

    The cell was then run twice, and the second run confirms the first.
    """

    def said(record: Record) -> str:
        document = record.model_dump(mode="json", exclude={"provenance"})
        for name in ("seconds", "peak_memory_bytes"):
            (document["cost"] or {}).pop(name, None)
        return json.dumps(document, sort_keys=True)

    return one == other or said(one) == said(other)


def _withdrawn(cells: dict[str, Cell]) -> list[Problem]:
    """Remove retracted and superseded cells, and give the reason for each."""
    told: list[Problem] = []
    found: dict[str, Withdrawal] = {}
    for key, cell in cells.items():
        if cell.beside.isdisjoint((RETRACTED, SUPERSEDED)):
            continue
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
    """Reason why a superseded cell is kept, else "": a missing successor, a different cell or a cycle."""
    by = found[key].by
    if by not in cells:
        return f"its successor {by} is not here"
    if cells[by].record.status != "complete":
        return f"its successor {by} is {cells[by].record.status}"
    if cells[by].record.system.name != cells[key].record.system.name:
        return f"its successor {by} is of another system"
    passed = {key}
    while by in found and found[by].by:
        if by in passed:
            return f"its successor {found[key].by} is superseded in a cycle"
        passed.add(by)
        by = found[by].by
    return ""


def _read_record(path: Path, place: str) -> Record:
    """Read the record at `path`; errors name it by `place`, so that they are the same on every machine."""
    try:
        record = read_record(path)
    except RecordError as error:
        raise RecordError(str(error).replace(str(path), place)) from error
    for name, key in (("key", record.key), ("system.key", record.system.key)):
        if not KEY.fullmatch(key):
            raise RecordError(f"{place} has {name} {key[:80]!r}; expected 24 hexadecimal digits")
    if record.status == "complete" and record.counts is None:
        raise RecordError(f"{place} is complete but has no counts; expected the numbers of clean and robust examples")
    if record.counts is not None and record.counts.total == 0:
        raise RecordError(f"{place} counts no examples; expected at least one")
    check_numbers(record, place)
    return record


def check_files(cell: Cell) -> None:
    """Check the files beside a record against its sizes and hashes, and the example list against its hash.

    For a packed cell, check the files that are there, and those that replace the outcomes.

    Raises:
        RecordError: if a file is missing, lies elsewhere or differs.
    """
    packed = _check_packed(cell)
    for file in cell.record.files:
        if packed and not (cell.folder / file.path).exists():
            continue
        name = PurePosixPath(file.path)
        if file.path != name.name or file.path in ("", ".", "..") or "\\" in file.path:
            raise RecordError(
                f"{cell.place} names the file {file.path!r}; expected the name of a file beside the record, not a path"
            )
        path = cell.folder / file.path
        if not path.is_file() or path.is_symlink():
            raise RecordError(f"{cell.place} names {file.path}, but there is no such file beside it")
        if path.stat().st_size != file.bytes:
            raise RecordError(
                f"{file.path} beside {cell.place} has {path.stat().st_size} bytes, but {file.bytes} in the record"
            )
        if file_sha256(path) != file.sha256:
            raise RecordError(f"{file.path} beside {cell.place} does not have the sha256 in the record")
    if cell.record.status == "complete":
        if OUTCOMES not in [file.path for file in cell.record.files]:
            raise RecordError(f"{cell.place} is complete but has no hash of its {OUTCOMES}")
        _check_examples(cell)


def _check_packed(cell: Cell) -> bool:
    """True for a packed cell, whose files in place of the outcomes are checked against `packed.json`."""
    packed = read_document(cell.folder)
    if packed is None:
        return False
    examples = cell.folder.parent / examples_name(cell.record)
    for path, info in ((cell.folder / ARRAYS, packed.arrays), (examples, packed.examples)):
        if path.name != info.path or not path.is_file() or file_sha256(path) != info.sha256:
            raise RecordError(f"{path.name} of {cell.place} is missing, or does not have the sha256 in packed.json")
    named = {file.path: file.sha256 for file in cell.record.files}
    for link in packed.links:
        if named.get(link.path) != link.sha256:
            raise RecordError(f"packed.json of {cell.place} links {link.path} with another sha256 than the record")
    return True


def _check_examples(cell: Cell) -> None:
    """Check that the ids and labels of the outcomes are the example list in the record."""
    sha = hashlib.sha256()
    for values in outcome_arrays(cell, ("ids", label_array(cell))).values():
        sha.update(values.astype("<i8").tobytes())
    if sha.hexdigest() != cell.record.examples_sha256:
        raise RecordError(f"{cell.place} gives a hash of its example list that differs from that of its {OUTCOMES}")
