"""`benchmark leaderboard pack`: add finished or reviewed cells to published results, in compact form.

Published results are append-only: an existing cell is kept, and a different one under its key is refused.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError
from safetensors.numpy import load_file, save_file

from benchmark.errors import RecordError
from benchmark.records.document import to_text
from benchmark.records.durable import file_sha256, write_atomic
from benchmark.records.record import FileInfo

from ..cells.cell import Cell
from ..cells.evidence import OUTCOMES, read_evidence
from ..cells.gallery import GALLERY
from ..cells.load import RECORD, read
from ..cells.packed import ARRAYS, DOCUMENT, Link, Packed, examples_name, packed_arrays
from ..cells.retraction import RETRACTED, SUPERSEDED
from .foreign import REPLAY
from .review import REVIEW, suite_folder

__all__ = ["main", "pack"]


PER_EXAMPLE = ("ids", "y", "sites")
"""Arrays of the example list; sites if an example has several."""


def main(paths: Sequence[Path], into: Path, link: str) -> int:
    """Pack, and print the result; returns 0."""
    made = pack(paths, into, link=link)
    size = sum(file.stat().st_size for folder in made for file in folder.iterdir())
    sys.stdout.write(f"{into}: {len(made)} cells added, {size} bytes\n")
    return 0


def pack(paths: Sequence[Path], into: Path, *, link: str = "") -> list[Path]:
    """Add every complete cell below `paths` to the folder of its suite; returns the new folders.

    Args:
        link: https URL of the cells' files, as KEY/FILE: witnesses then stay there, and only their URL and sha256 are
            stored. "" copies the witnesses.

    Raises:
        RecordError: if a cell is invalid, or another one under its key is published.
    """
    cells, problems = read(paths, files=True, withdrawn=True)
    if problems:
        raise RecordError(problems[0].sentence)
    complete = [cell for cell in cells if cell.record.status == "complete"]
    if not complete:
        raise RecordError(f"no complete cell under {', '.join(map(str, paths))}; expected cells or folders of cells")
    return [folder for cell in complete if (folder := _packed(cell, into, link)) is not None]


def _packed(cell: Cell, into: Path, link: str) -> Path | None:
    """New folder of a cell, None if it is published already."""
    record = cell.record
    final = into / suite_folder(record) / record.key
    if final.exists():
        if (final / RECORD).read_bytes() != (cell.folder / RECORD).read_bytes():
            raise RecordError(f"{final} has another record of that key; supersede the old one instead")
        return None
    read_evidence(cell)
    made = final.with_name(f".{record.key}.part")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    for name in _copied(cell, link):
        shutil.copyfile(cell.folder / name, made / name)
    outcomes = load_file(cell.folder / OUTCOMES)
    save_file(packed_arrays(record, outcomes), made / ARRAYS)
    examples = final.with_name(examples_name(record))
    if not examples.exists():
        save_file({name: np.ascontiguousarray(outcomes[name]) for name in PER_EXAMPLE if name in outcomes}, examples)
    try:
        document = Packed(
            key=record.key,
            record_sha256=file_sha256(made / RECORD),
            arrays=_described(made / ARRAYS),
            examples=_described(examples),
            links=tuple(
                Link(url=f"{link.rstrip('/')}/{record.key}/{file.path}", **file.model_dump())
                for file in record.files
                if link and not (made / file.path).exists()
            ),
        )
    except ValidationError as error:
        raise RecordError(f"--link {link[:200]!r}: {error.errors()[0]['msg']}; expected https://...") from error
    write_atomic(made / DOCUMENT, to_text(document))
    made.rename(final)
    return final


def _copied(cell: Cell, link: str) -> Iterator[str]:
    """Files that are copied unchanged: withdrawals, reviews and replays, and proofs unless they are linked.

    The gallery is always copied, for the page of the system.
    """
    yield RECORD
    yield from (name for name in (REVIEW, REPLAY, RETRACTED, SUPERSEDED) if (cell.folder / name).is_file())
    for file in cell.record.files:
        if file.path == GALLERY or (file.path != OUTCOMES and not link):
            yield file.path


def _described(path: Path) -> FileInfo:
    return FileInfo(path=path.name, bytes=path.stat().st_size, sha256=file_sha256(path))
