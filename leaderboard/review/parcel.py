"""A submission as files: a folder or a zip with a manifest, opened without touching anything outside it.

========================  ========================================================================================
manifest.json             submitter and contents, with size and sha256 of every other file
cells/KEY/                record.json, outcomes.safetensors, witness.safetensors; gallery, prepared and mask if any
systems/KEY/              card.json, and weights.safetensors if the submitter includes them
========================  ========================================================================================
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmark.errors import RecordError
from benchmark.records.durable import file_sha256
from benchmark.records.record import FileInfo

from ..cells.texts import checked_json

__all__ = ["LARGEST", "MANIFEST", "SIGNATURE", "Manifest", "Submitter", "opened", "read_manifest"]

MANIFEST = "manifest.json"
SIGNATURE = "manifest.json.sig"
PLACES = re.compile(
    r"manifest\.json(\.sig)?"
    r"|cells/[0-9a-f]{24}/(record\.json|(outcomes|witness|gallery|prepared|mask)\.safetensors)"
    r"|systems/[0-9a-f]{24}/(card\.json|weights\.safetensors)"
)
MOST_FILES = 10_000
LARGEST = 4 << 30
LARGEST_TEXT = 4 << 20
DENSEST = 200
"""Largest compression ratio of an archive, beyond the first hundred megabytes."""
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Methods whose decompressors need little memory whatever the archive declares."""
BLOCK_BYTES = 1 << 20
DEEPEST_FOLDER = 2


class Submitter(BaseModel):
    """Author of a submission. url: https only, may be empty."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(min_length=1, max_length=100)
    url: str = Field(default="", max_length=200, pattern=r"^(https://[A-Za-z0-9._~:/?#@!&*+,;=%-]+)?$")


class Manifest(BaseModel):
    """Contents of a submission: every file except the manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    schema_version: Literal[1] = 1
    submitter: Submitter
    note: str = Field(default="", max_length=2000)
    files: tuple[FileInfo, ...]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Path]:
    """Open a submission, and return the folder with its files, which is temporary for a zip.

    Raises:
        RecordError: if it is neither a folder nor a zip, or has anything else than a submission: links, special files,
            other names, too many files or too many bytes.
    """
    if path.is_dir() and not path.is_symlink():
        _check_folder(path)
        yield path
        return
    if path.is_symlink() or not path.is_file():
        raise RecordError(f"{path.name} is not a submission; expected a folder or a zip file")
    with tempfile.TemporaryDirectory(prefix="submission-") as folder:
        _unpack(path, Path(folder))
        yield Path(folder)


def read_manifest(root: Path) -> Manifest:
    """Read the manifest of a submission, and check that it names exactly the submission's files.

    Raises:
        RecordError: if it is missing or malformed, or a file is missing, unnamed, or has another size or sha256.
    """
    try:
        manifest = Manifest.model_validate(checked_json((root / MANIFEST).read_bytes(), MANIFEST))
    except OSError as error:
        raise RecordError(f"there is no {MANIFEST}; pack submissions with: benchmark submit PATH --out FILE") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise RecordError(
            f"{MANIFEST}: {'.'.join(map(str, first['loc'])) or 'the document'}: {first['msg']}"
        ) from error
    named = [file.path for file in manifest.files]
    if len(set(named)) != len(named):
        raise RecordError(f"{MANIFEST} names a file twice; expected each file once")
    for file in manifest.files:
        if not PLACES.fullmatch(file.path) or file.path in (MANIFEST, SIGNATURE):
            raise RecordError(f"{MANIFEST} names {file.path[:100]!r}, which is not a valid path in a submission")
    there = {path for path, _ in _walk(root)} - {MANIFEST, SIGNATURE}
    if odd := sorted(there ^ set(named)):
        raise RecordError(f"{odd[0]} is {'not named in' if odd[0] in there else 'missing, but named in'} {MANIFEST}")
    for file in manifest.files:
        found = (root / file.path).stat().st_size
        if found != file.bytes:
            raise RecordError(f"{file.path} has {found} bytes, but {MANIFEST} says {file.bytes}")
        if file_sha256(root / file.path) != file.sha256:
            raise RecordError(f"{file.path} does not have the sha256 in {MANIFEST}")
    return manifest


def _check_folder(root: Path) -> None:
    sizes = [_allowed(path, status) for path, status in _walk(root)]
    _bounded(len(sizes), sum(sizes))


def _walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every file below `root`, without following links: its path with slashes, and its status."""
    left = [root]
    while left:
        with os.scandir(left.pop()) as entries:
            for entry in entries:
                path = Path(entry.path)
                if not entry.is_dir(follow_symlinks=False):
                    yield path.relative_to(root).as_posix(), path.lstat()
                elif len(path.relative_to(root).parts) > DEEPEST_FOLDER:
                    raise RecordError(
                        f"{path.relative_to(root).as_posix()[:100]!r} is not a valid path in a submission"
                    )
                else:
                    left.append(path)


def _allowed(path: str, status: os.stat_result) -> int:
    """Size of a file, after the check that it may be in a submission."""
    if stat.S_ISLNK(status.st_mode):
        raise RecordError(f"{path[:100]!r} is a link; expected plain files")
    if not stat.S_ISREG(status.st_mode):
        raise RecordError(f"{path[:100]!r} is not a plain file")
    return _sized(path, status.st_size)


def _sized(path: str, size: int) -> int:
    if not PLACES.fullmatch(path):
        raise RecordError(f"{path[:100]!r} is not a valid path in a submission")
    if path.endswith((".json", ".sig")) and size > LARGEST_TEXT:
        raise RecordError(f"{path} has {size} bytes; expected at most {LARGEST_TEXT}")
    return size


def _bounded(files: int, size: int) -> None:
    if files > MOST_FILES or size > LARGEST:
        raise RecordError(f"it has {files} files with {size} bytes; expected at most {MOST_FILES} with {LARGEST}")


def _unpack(archive: Path, folder: Path) -> None:
    """Write the files of a zip, each no longer than declared."""
    try:
        with zipfile.ZipFile(archive) as parcel:
            members = [member for member in parcel.infolist() if not member.is_dir()]
            names = [member.filename for member in members]
            if len(set(names)) != len(names):
                raise RecordError(f"{archive.name} has two files of one name; expected each file once")
            for member in parcel.infolist():
                _check_member(member)
            size = sum(member.file_size for member in members)
            _bounded(len(members), size)
            if size > max(100 << 20, DENSEST * archive.stat().st_size):
                raise RecordError(f"{archive.name} would grow to {size} bytes, more than {DENSEST} times its own size")
            for member in members:
                _write(parcel, member, folder / member.filename)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, ArithmeticError, RuntimeError) as error:
        raise RecordError(f"{archive.name} cannot be unpacked: {error}") from error


def _check_member(member: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise RecordError(f"{member.filename[:100]!r} is a link or a special file; expected plain files")
    if member.flag_bits & 1:
        raise RecordError(f"{member.filename[:100]!r} is encrypted; expected plain files")
    if member.compress_type not in METHODS:
        raise RecordError(
            f"{member.filename[:100]!r} is compressed by method {member.compress_type}; expected stored or deflated"
        )
    if member.is_dir():
        if not re.fullmatch(r"(cells|systems)/([0-9a-f]{24}/)?", member.filename):
            raise RecordError(f"{member.filename[:100]!r} is not a valid path in a submission")
        return
    _sized(member.filename, member.file_size)


def _write(parcel: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    left = member.file_size
    with parcel.open(member) as source, path.open("xb") as target:
        while block := source.read(BLOCK_BYTES):
            left -= len(block)
            if left < 0:
                raise RecordError(f"{member.filename} is longer than declared in the archive")
            target.write(block)
    if left:
        raise RecordError(f"{member.filename} is shorter than declared in the archive")
