"""The IDX format of MNIST and its relatives: http://yann.lecun.com/exdb/mnist, "file formats"."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmark.api import ConfigError, DataError, DataSpec, Examples, Splits

from ._files import Source, fetch

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
"""Files of training images and labels, test images and labels."""

TRAIN, SELECT = 55_000, 5_000
"""Number of training rows, and of those that are held out for the select split: the last ones."""


def read_idx(path: Path) -> Tensor:
    """Read the uint8 array of any rank in a gzipped IDX file.

    Raises:
        DataError: if the file has another format.
    """
    try:
        raw = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a gzip file ({error}); expected a gzipped IDX file") from error
    rank = raw[3] if len(raw) > 3 else 0
    if raw[:3] != b"\x00\x00\x08" or len(raw) < 4 + 4 * rank:
        raise DataError(f"{path} begins with {raw[:4].hex()!r}; expected an IDX file of unsigned bytes (000008..)")
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank)]
    body = raw[4 + 4 * rank :]
    if len(body) != math.prod(shape):
        raise DataError(f"{path} has {len(body)} values; expected {math.prod(shape)} for its shape {shape}")
    return torch.frombuffer(bytearray(body), dtype=torch.uint8).reshape(shape)


def check_sizes(train: int, select: int) -> None:
    """Refuse sizes that the splits do not have.

    Raises:
        ConfigError: if one is below 1 or above what there is.
    """
    for name, size, most in (("train", train, TRAIN), ("select", select, SELECT)):
        if not 1 <= size <= most:
            raise ConfigError(f"dataset.{name} is {size}; expected 1 to {most} examples")


def load_idx(
    sources: Sequence[Source], folder: Path, spec: DataSpec, *, offline: bool, train: int = TRAIN, select: int = SELECT
) -> Splits:
    """Splits of four IDX files in the order of :data:`FILES`.

    train, select: numbers of examples, the first ones of the training rows, and of the last 5,000 of them. The id of a
    training row is its number; that of a test row is its number plus the number of training rows.
    """
    paths = fetch(sources, folder, offline=offline)
    trained = _examples(paths[0], paths[1], 0, spec)
    test = _examples(paths[2], paths[3], len(trained), spec)
    rows = torch.arange(len(trained))
    return Splits(trained.take(rows[:-SELECT][:train]), trained.take(rows[-SELECT:][:select]), test, spec)


def _examples(images: Path, labels: Path, first_id: int, spec: DataSpec) -> Examples:
    x, y = read_idx(images), read_idx(labels)
    if x.shape[1:] != spec.shape[1:] or y.shape != x.shape[:1]:
        raise DataError(
            f"{images} has an array of shape {list(x.shape)} and {labels.name} one of {list(y.shape)}; expected "
            f"N images of {spec.shape[1]}x{spec.shape[2]} pixels and N labels"
        )
    return Examples.of(torch.arange(len(y)) + first_id, x[:, None], y.long())
