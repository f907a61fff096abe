"""Tables that other packages bring along, read from their folders without importing them, which takes a second."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmark.api import DataError

__all__ = ["packaged", "read_table"]


def packaged(package: str, *parts: str) -> Path | None:
    """The file `parts` below the folder of an installed package; None if there is none."""
    spec = importlib.util.find_spec(package)
    folders = getattr(spec, "submodule_search_locations", None) or []
    return next((file for file in (Path(folder, *parts) for folder in folders) if file.is_file()), None)


def read_table(file: Path | None, what: str, *, sha256: str, package: str, head: int = 0) -> tuple[Tensor, Tensor]:
    """Values (N, F) float64 and labels (N,) int64, the last column of a table with commas.

    Args:
        what: the examples, in words. sha256: of the values and then the labels as unsigned bytes; values that are not
            whole numbers below 256 count as little-endian doubles. package: to reinstall. head: lines before the rows.

    Raises:
        DataError: if there is no file, it cannot be read, or it has another content.
    """
    try:
        if file is None:
            raise FileNotFoundError("it is missing")
        table = torch.from_numpy(np.loadtxt(file, delimiter=",", skiprows=head, ndmin=2))
        values, labels = table[:, :-1].contiguous(), table[:, -1].long()
    except (OSError, ValueError, EOFError, IndexError) as error:
        place = f"{file}" if file else f"the file of the {what}"
        raise DataError(f"{place} cannot be read ({error}); reinstall {package}") from error
    data = values.byte().numpy() if bool((values == values.byte()).all()) else values.numpy().astype("<f8")
    found = hashlib.sha256(data.tobytes() + labels.byte().numpy().tobytes()).hexdigest()
    if found != sha256:
        raise DataError(f"the {what} of {file} have sha256 {found}, expected {sha256}; reinstall {package}")
    return values, labels
