"""Digests of the user's own files and folders, which identify inputs by content, independently of their path.

A digest is cached under size and times of the file, in this process and, for folders, in a file beside the data, so
that a large folder of images is read once instead of for every cell.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from pathlib import Path

from benchmark.errors import DataError
from benchmark.records.document import content_key
from benchmark.records.durable import file_sha256, write_atomic

__all__ = ["PREFIX", "content_sha256", "stamp"]

PREFIX = "sha256:"
"""Prefix of a setting that identifies an input by content."""

KNOWN = ".content"
"""Folder, beside a hashed folder, with its cached digest."""


def content_sha256(path: Path) -> str:
    """sha256 of a file's bytes, or of the relative names and bytes of a folder's files.

    Hidden files in a folder are ignored, and Python's caches, which loading its code may write.

    Raises:
        DataError: if there is no such file or folder.
    """
    if path.is_dir():
        return _folder_sha256(path.absolute(), stamp(path))
    if not path.is_file():
        raise DataError(f"there is no file or folder {path}, and a result depends on its content; correct the path")
    return _file_sha256(path.absolute(), stamp(path))


def stamp(path: Path) -> str:
    """Sizes and times of a file, or of all files of a folder, which change on every write; "" if there are none."""
    if path.is_dir():
        return content_key([[name, *_times(path / name)] for name in _names(path)])
    try:
        return " ".join(map(str, _times(path)))
    except OSError:
        return ""


def _times(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _names(folder: Path) -> list[str]:
    """Files of a folder, without hidden ones and Python's caches, sorted."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in found if not any(_ignored(part) for part in path.parts))


def _ignored(part: str) -> bool:
    return part.startswith(".") or part == "__pycache__"


@functools.cache
def _file_sha256(path: Path, _stamp: str) -> str:
    return file_sha256(path)


@functools.cache
def _folder_sha256(folder: Path, now: str) -> str:
    note = folder.parent / KNOWN / f"{content_key(str(folder))}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(note.read_text(encoding="utf-8"))
        if known["stamp"] == now:
            return str(known["sha256"])
    sha = hashlib.sha256()
    for name in _names(folder):
        sha.update(f"{name}\0{file_sha256(folder / name)}\n".encode())
    with contextlib.suppress(OSError):  # a folder of data may be read-only: then it is read again next time
        write_atomic(note, json.dumps({"stamp": now, "sha256": sha.hexdigest()}) + "\n")
    return sha.hexdigest()
