"""Safetensors files from strangers, whose header is parsed here, within bounds, before anything is read.

The format (https://huggingface.co/docs/safetensors): eight bytes of header length, a JSON header with dtype, shape and
byte range of every array, then the bytes. Nothing in it is executed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from benchmark.errors import RecordError

from .strict_json import strict_json

__all__ = ["ArrayFile", "open_arrays"]

LONGEST_HEADER = 1 << 20
BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8,
         "U64": 8, "F64": 8}  # fmt: skip
DTYPES: dict[str, str] = {"BOOL": "u1", "U8": "u1", "I64": "<i8", "I16": "<i2", "F32": "<f4"}
"""NumPy types of the arrays of outcomes and witnesses; arrays of weights are never read."""

DISGUISES = {b"\x80": "a pickle", b"PK": "a zip archive (as torch.save writes)", b"\x93N": "a NumPy file"}


@dataclass(frozen=True)
class ArrayFile:
    """A file with a valid header. arrays: (dtype, shape, first byte) by name; name: of the file, for errors."""

    path: Path
    name: str
    arrays: Mapping[str, tuple[str, tuple[int, ...], int]]

    def read(self, array: str) -> NDArray[Any]:
        """Read one array, memory-mapped; bools are checked to be 0 or 1.

        Raises:
            RecordError: if a byte of a bool array is neither.
        """
        kind, shape, start = self.arrays[array]
        if not math.prod(shape):
            return np.zeros(shape, dtype=bool if kind == "BOOL" else DTYPES[kind])
        values: NDArray[Any] = np.memmap(self.path, dtype=DTYPES[kind], mode="r", offset=start, shape=shape)
        if kind != "BOOL":
            return values
        if values.max() > 1:
            raise RecordError(f"{array} in {self.name} has the byte {int(values.max())}; expected 0 or 1")
        return values.astype(bool)

    def expect(self, kinds: Mapping[str, str], rows: int | None = None) -> None:
        """Check the names and dtypes of all arrays, and with `rows` that their shapes are (rows,).

        Raises:
            RecordError: naming the first difference.
        """
        if set(self.arrays) != set(kinds):
            names = sorted(set(self.arrays) ^ set(kinds))
            raise RecordError(
                f"{self.name} has other arrays than expected: {', '.join(repr(n[:40]) for n in names[:5])}"
            )
        for name, (kind, shape, _) in self.arrays.items():
            if kind != kinds[name] or (rows is not None and shape != (rows,)):
                wanted = f"{kinds[name]}{'' if rows is None else f' [{rows}]'}"
                raise RecordError(f"{name} in {self.name} is {kind} {list(shape)}; expected {wanted}")


def open_arrays(path: Path, name: str) -> ArrayFile:
    """Parse the header of a safetensors file.

    Raises:
        RecordError: if it is another kind of file, is truncated, or its header does not match the bytes that follow.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        begin = stream.read(8)
        length = int.from_bytes(begin, "little")
        for magic, kind in DISGUISES.items():
            if begin.startswith(magic) and (length > size - 8 or begin[:2] in (b"PK", b"\x93N")):
                raise RecordError(f"{name} is {kind}; expected safetensors; no other format is read")
        if len(begin) < 8 or not 2 <= length <= min(LONGEST_HEADER, size - 8):
            raise RecordError(
                f"{name} has {size} bytes but declares a header of {length}; expected one that fits in it, of at most "
                f"{LONGEST_HEADER}"
            )
        header = strict_json(stream.read(length), f"the header of {name}")
    if not isinstance(header, dict):
        raise RecordError(f"the header of {name} is not an object; expected one with an entry for each array")
    header.pop("__metadata__", None)
    arrays = {array: _entry(entry, f"{array[:40]!r} in {name}") for array, entry in header.items()}
    at = 0
    for array, (kind, shape, first, last) in sorted(arrays.items(), key=lambda item: item[1][2:]):
        if first != at or last - first != BYTES[kind] * math.prod(shape):
            raise RecordError(
                f"{array[:40]!r} in {name} lies at bytes {first} to {last}; expected {BYTES[kind] * math.prod(shape)} "
                f"bytes from {at}"
            )
        at = last
    if at != size - 8 - length:
        raise RecordError(f"{name} has {size - 8 - length} bytes of arrays, but its header describes {at}")
    _check_by_library(path, name)
    return ArrayFile(
        path, name, {n: (kind, shape, 8 + length + first) for n, (kind, shape, first, _) in arrays.items()}
    )


def _check_by_library(path: Path, name: str) -> None:
    """Check that the format's own library opens the file too, so that everybody can read what was accepted here."""
    try:
        with safe_open(path, framework="numpy"):
            return
    except SafetensorError as error:
        raise RecordError(f"{name} is not a file that safetensors reads: {error}") from error


def _entry(entry: Any, name: str) -> tuple[str, tuple[int, ...], int, int]:
    """Dtype, shape, first and last byte of one array."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise RecordError(f"{name} has other keys than dtype, shape and data_offsets")
    kind, shape, range_ = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in BYTES:
        raise RecordError(f"{name} has the dtype {str(kind)[:20]!r}; expected one of {', '.join(BYTES)}")
    numbers = [shape, range_]
    if not all(isinstance(n, list) and all(type(v) is int and 0 <= v < 1 << 40 for v in n) for n in numbers):
        raise RecordError(f"{name} has a shape or a byte range that is not a list of whole numbers from 0 to 2^40")
    if len(shape) > 8 or len(range_) != 2:
        raise RecordError(f"{name} has {len(shape)} dimensions and {len(range_)} offsets; expected up to 8, and 2")
    return kind, tuple(shape), range_[0], range_[1]
