"""Crash-safe writing of files, and the handling of broken ones.

Data are flushed to the device before a rename publishes them, and so is the folder that has the name. Files of tensors
that no record has a checksum of yet carry their own, in the metadata of safetensors.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import StoreError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "checked_tensors",
    "file_sha256",
    "flush",
    "put_in_place",
    "save_checked",
    "set_aside",
    "settle",
    "write_atomic",
]

SHA = "sha256"
BROKEN = ".broken-"
"""Prefix of the names of files and folders that were set aside."""


def flush(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to the device."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:  # some file systems know no flushing of folders
        if path.is_file():
            raise StoreError(f"{path} cannot be written to its device: {error.strerror}") from error
    finally:
        os.close(handle)


def settle(folder: Path) -> None:
    """Flush every file below a folder, then the folders themselves."""
    folders = [folder]
    for path in folder.rglob("*"):
        if path.is_dir():
            folders.append(path)
        elif path.is_file():
            flush(path)
    for one in folders:
        flush(one)


def put_in_place(temporary: Path, path: Path) -> None:
    """Rename a finished temporary file to its final name, durably."""
    flush(temporary)
    temporary.replace(path)
    flush(path.parent)


def write_atomic(path: Path, text: str) -> None:
    """Write a file atomically: a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with temporary.open("x", encoding="utf-8") as stream:  # the umask decides who may read it
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        flush(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def file_sha256(path: Path) -> str:
    """sha256 of a file, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def set_aside(path: Path, why: str) -> Path:
    """Rename a broken file or folder, so that it is recomputed, and report it; returns its new path."""
    number = 0
    while (place := path.with_name(f"{BROKEN}{path.name}.{number}")).exists():
        number += 1
    path.rename(place)
    sys.stderr.write(f"benchmark: {path} {why}; it was set aside as {place.name}, and will be recomputed\n")
    return place


# --- tensors with a checksum ---


def save_checked(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors (on the CPU, contiguous) with a checksum over them and the metadata, atomically and durably."""
    from safetensors.torch import save_file

    named = dict(metadata or {})
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(dict(tensors), str(temporary), metadata={**named, SHA: _digest(tensors, named)})
        put_in_place(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def checked_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a file written by `save_checked`.

    Raises:
        StoreError: if the file is incomplete or corrupt.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
            metadata = dict(file.metadata() or {})
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise StoreError(f"{path} is broken: {error}") from error
    if metadata.pop(SHA, "") != _digest(tensors, metadata):
        raise StoreError(f"{path} is broken: its content does not match its checksum")
    return tensors, metadata


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    import torch

    sha = hashlib.sha256(repr(sorted(metadata.items())).encode())
    for name in sorted(tensors):
        value = tensors[name]
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        sha.update(value.contiguous().flatten().view(torch.uint8).numpy().data if value.numel() else b"")
    return sha.hexdigest()
