"""The binary version of the CIFAR archives: https://www.cs.toronto.edu/~kriz/cifar.html, "binary version".

A record is one or two label bytes, the last of which is the class, and 3 072 bytes of red, green and blue planes.
Nothing is unpacked to disk, and no pickle is read.
"""

from __future__ import annotations

import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmark.api import DataError, DataSpec, Examples, Splits

from ._files import Source, fetch

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
SELECT = 5000
"""Number of training rows, the last ones, that are held out for the select split."""


@dataclass(frozen=True)
class Layout:
    """Content of an archive: record files of the training and test rows, class names, label bytes per record."""

    train: tuple[str, ...]
    test: str
    names: str
    label_bytes: int


def read_records(raw: bytes, label_bytes: int, member: str) -> tuple[Tensor, Tensor]:
    """Parse a file of records into images (N, 3, 32, 32) uint8 and labels (N,) int64.

    Raises:
        DataError: if `raw` is not a whole number of records.
    """
    size = label_bytes + PIXELS
    if not raw or len(raw) % size:
        raise DataError(f"{member} has {len(raw)} bytes; expected a multiple of {size}, the size of a record")
    records = torch.frombuffer(bytearray(raw), dtype=torch.uint8).reshape(-1, size)
    return records[:, label_bytes:].reshape(-1, *SHAPE), records[:, label_bytes - 1].long()


def read_members(path: Path, wanted: tuple[str, ...]) -> dict[str, bytes]:
    """Read the `wanted` members of a gzipped tar archive.

    Raises:
        DataError: if the file is not such an archive or a member is missing.
    """
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.name in wanted and member.isfile() else None
                if stream is not None:
                    found[member.name] = stream.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a readable tar.gz archive ({error})") from error
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DataError(f"{path} does not contain {', '.join(missing)}; expected the binary version of the archive")
    return found


def load_cifar(
    source: Source,
    folder: Path,
    layout: Layout,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    *,
    offline: bool,
    select: int = SELECT,
) -> Splits:
    """Splits of one archive.

    The last `select` training rows are the select split. The id of a training row is its number; that of a test row
    is its number plus the number of training rows.
    """
    (path,) = fetch((source,), folder, offline=offline)
    content = read_members(path, (*layout.train, layout.test, layout.names))
    names = tuple(content[layout.names].decode("ascii").split())
    batches = [read_records(content.pop(member), layout.label_bytes, member) for member in layout.train]
    x, y = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
    x_test, y_test = read_records(content.pop(layout.test), layout.label_bytes, layout.test)
    ids = torch.arange(len(y) + len(y_test))
    rows = len(y) - select
    return Splits(
        Examples.of(ids[:rows], x[:rows], y[:rows]),
        Examples.of(ids[rows : len(y)], x[rows:], y[rows:]),
        Examples.of(ids[len(y) :], x_test, y_test),
        DataSpec(SHAPE, len(names), mean, std, names),
    )
