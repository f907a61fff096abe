"""Tables that scikit-learn brings along, read from its folder without importing it, which takes a second."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmark.api import DataError

__all__ = ["bundled_table"]


def bundled_table(name: str, *, head: int, sha256: str) -> tuple[Tensor, Tensor]:
    """Values (N, F) float64 and labels (N,) int64 of the table `name` in `sklearn/datasets/data`.

    Args:
        head: lines before the first row. sha256: of `digest`.

    Raises:
        DataError: if the file is missing, or has another content.
    """
    found = importlib.util.find_spec("sklearn")
    path = Path(str(found.origin)).parent / "datasets" / "data" / name if found else Path(name)
    if not path.is_file():
        raise DataError(f"scikit-learn's file {name} is missing; reinstall scikit-learn")
    table = np.loadtxt(path, delimiter=",", skiprows=head)
    values, labels = torch.from_numpy(table[:, :-1].copy()), torch.from_numpy(table[:, -1]).long()
    if digest(values, labels) != sha256:
        raise DataError(
            f"scikit-learn's file {name} has sha256 {digest(values, labels)}, expected {sha256}; reinstall scikit-learn"
        )
    return values, labels


def digest(values: Tensor, labels: Tensor) -> str:
    """Hex sha256 of the table: values (N, F), then labels (N,) as unsigned bytes.

    Values are unsigned bytes where all are whole numbers below 256, else little-endian doubles.
    """
    counts = bool((values == values.byte()).all())
    data = values.byte().numpy() if counts else values.numpy().astype("<f8")
    return hashlib.sha256(data.tobytes() + labels.byte().numpy().tobytes()).hexdigest()
