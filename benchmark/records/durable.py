"""Files that outlast the power cord, and what is done with those that are broken all the same.

What is written is flushed to the device before a rename makes it count, and so is the folder in which the name stands.
Files of tensors of which no record has a checksum yet carry one of their own, in the metadata of safetensors.
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
"""The beginning of the names of files and folders that were set aside."""


def flush(path: Path) -> None:
    """Have the device hold what was written to a file, or the names in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:  # some file systems know no flushing of folders
        if path.is_file():
            raise StoreError(f"{path} cannot be written to its device: {error.strerror}") from error
    finally:
        os.close(handle)


def settle(folder: Path) -> None:
    """Flush every file below a folder, then the folders that name them."""
    folders = [folder]
    for path in folder.rglob("*"):
        if path.is_dir():
            folders.append(path)
        elif path.is_file():
            flush(path)
    for one in folders:
        flush(one)


def put_in_place(temporary: Path, path: Path) -> None:
    """Rename a file that is written to its name, for good."""
    flush(temporary)
    temporary.replace(path)
    flush(path.parent)


def write_atomic(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old content or the new, never half of it."""
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
    """The checksum of a file, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def set_aside(path: Path, why: str) -> Path:
    """Rename a broken file or folder, so that it is made again, and say so; its new place."""
    number = 0
    while (place := path.with_name(f"{BROKEN}{path.name}.{number}")).exists():
        number += 1
    path.rename(place)
    sys.stderr.write(f"benchmark: {path} {why}; it was set aside as {place.name}, and is made again\n")
    return place


# --- tensors with a checksum ---


def save_checked(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors (on the CPU, contiguous) with a checksum over them and the metadata, atomically and for good."""
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
    """Read what `save_checked` wrote.

    Raises:
        StoreError: if the file is not whole.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
            metadata = dict(file.metadata() or {})
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise StoreError(f"{path} is broken: {error}") from error
    if metadata.pop(SHA, "") != _digest(tensors, metadata):
        raise StoreError(f"{path} is broken: its content does not have its checksum")
    return tensors, metadata


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    import torch

    sha = hashlib.sha256(repr(sorted(metadata.items())).encode())
    for name in sorted(tensors):
        value = tensors[name]
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        sha.update(value.contiguous().flatten().view(torch.uint8).numpy().data if value.numel() else b"")
    return sha.hexdigest()
