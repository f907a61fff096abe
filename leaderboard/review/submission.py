"""`benchmark submit`: pack finished cells, with their proofs and the cards of their systems, into a folder or a zip."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from benchmark.errors import BenchmarkError, RecordError
from benchmark.records.document import to_text
from benchmark.records.durable import file_sha256
from benchmark.records.record import FileInfo, Record
from benchmark.records.store import Store

from ..cells.load import RECORD, find
from .check_cell import CARD, WEIGHTS, checked_card, checked_cell
from .parcel import MANIFEST, Manifest, Submitter

__all__ = ["main", "pack_submission"]

ZIP_TIME = (1980, 1, 1, 0, 0, 0)
"""Fixed time stamp of every file in a zip, so that the same cells give the same bytes."""


def main(paths: Sequence[Path], store: Path, out: Path, *, name: str, url: str, note: str, weights: bool) -> int:
    """Pack, and print the contents; returns 0."""
    try:
        submitter = Submitter(name=name, url=url)
        manifest = pack_submission(paths, store, out, submitter=submitter, note=note, weights=weights)
    except ValidationError as error:
        (first, *_) = error.errors()
        raise RecordError(f"--{first['loc'][0]} is {str(first['input'])[:80]!r}: {first['msg']}") from error
    cells = sum(file.path.endswith(RECORD) for file in manifest.files)
    size = sum(file.bytes for file in manifest.files)
    sys.stdout.write(f"{out}: {cells} cells, {len(manifest.files)} files, {size} bytes\n")
    sys.stdout.write(f"check it like a reviewer: benchmark leaderboard check {out}\n")
    return 0


def pack_submission(
    paths: Sequence[Path], store: Path, out: Path, *, submitter: Submitter, note: str = "", weights: bool = False
) -> Manifest:
    """Write a submission of every complete cell below `paths`; each is first checked like in a review.

    Args:
        store: folder of the systems that are not in the store of their cells.
        out: a path that ends with .zip, or a folder; must not exist.
        weights: also pack the weights, so that anybody can prove the witnesses.

    Raises:
        RecordError: if there is no complete cell, a cell would be refused, its system's card is missing, or `out`
            exists.
    """
    if out.exists():
        raise RecordError(f"{out} exists already; name a new file or folder for the submission")
    sources = dict(sorted(_sources(paths, store, weights)))
    manifest = Manifest(
        submitter=submitter,
        note=note,
        files=tuple(
            FileInfo(path=path, bytes=file.stat().st_size, sha256=file_sha256(file)) for path, file in sources.items()
        ),
    )
    made = out.with_name(f".{out.name}.part")
    made.parent.mkdir(parents=True, exist_ok=True)
    write = _write_zip if out.suffix == ".zip" else _write_folder
    write(made, to_text(manifest), sources)
    made.rename(out)
    return manifest


def _sources(paths: Sequence[Path], store: Path, weights: bool) -> Iterator[tuple[str, Path]]:
    """Path in the submission and source file of everything to pack."""
    systems: dict[str, Path] = {}
    for record in sorted({found for path in paths for found, _ in find(path)}):
        folder = record.parent
        if json.loads(record.read_bytes()).get("status") != "complete":
            continue
        cell = checked_cell(folder)
        _prove(cell.record, folder, store)
        systems[cell.record.system.key] = _system(cell.record.system.key, folder, store)
        for name in (RECORD, *(file.path for file in cell.record.files)):
            yield f"cells/{folder.name}/{name}", folder / name
    if not systems:
        raise RecordError(f"no complete cell under {', '.join(map(str, paths))}; expected cells or folders of cells")
    for key, folder in sorted(systems.items()):
        checked_card(folder)
        for name in (CARD, WEIGHTS) if weights else (CARD,):
            yield f"systems/{key}/{name}", folder / name


def _prove(record: Record, folder: Path, store: Path) -> None:
    """Prove a record like `benchmark verify`, as far as its parts are here; records of 0.1 are left to the reviewers.

    Raises:
        RecordError: if it is disproved.
    """
    from benchmark.commands.verify import verify_record

    if not record.harness:
        return
    root = next(
        (r for r in (folder.parent.parent, store) if (r / "systems" / record.system.key / CARD).is_file()), store
    )
    try:
        verify_record(folder, record, Store(root), Path("data"))
    except RecordError as error:
        raise RecordError(f"cells/{folder.name}: {error}") from error
    except BenchmarkError:
        return  # for want of a part


def _system(key: str, cell: Path, store: Path) -> Path:
    """Folder of the system of a `cell`, usually in the store of the cell."""
    places = [root / "systems" / key for root in (cell.parent.parent, store)]
    for place in places:
        if (place / CARD).is_file():
            return place
    raise RecordError(
        f"cell {cell.name} is of system {key}, but neither {places[0]} nor {places[1]} has its {CARD}; name the store "
        "of its run with --store"
    )


def _write_folder(out: Path, manifest: str, sources: dict[str, Path]) -> None:
    shutil.rmtree(out, ignore_errors=True)
    for path, file in sources.items():
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, out / path)
    (out / MANIFEST).write_text(manifest, encoding="utf-8")


def _write_zip(out: Path, manifest: str, sources: dict[str, Path]) -> None:
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_member(MANIFEST), manifest)
        for path, file in sources.items():
            with file.open("rb") as source, archive.open(_member(path), "w") as target:
                shutil.copyfileobj(source, target)


def _member(path: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(path, ZIP_TIME)
    member.compress_type = zipfile.ZIP_DEFLATED
    member.external_attr = 0o100644 << 16
    return member
