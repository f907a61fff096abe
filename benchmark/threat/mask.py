"""Mask files, which mark the features of an example that may change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmark.errors import DataError

__all__ = ["read_mask"]


def read_mask(path: Path) -> Any:
    """Read the mask in a .npy file, or the tensor `mask` of a .safetensors file, as a NumPy array of bool in C order.

    Raises:
        DataError: if it cannot be read.
    """
    import numpy as np
    from safetensors import SafetensorError

    try:
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            array = load_file(path)["mask"]
        else:
            array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, KeyError, EOFError, SafetensorError) as error:
        raise DataError(f"the mask of threat.region.path {str(path)!r} cannot be read: {error}") from error
    if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise DataError(
            f"the mask of threat.region.path {str(path)!r} holds {array.dtype}, or non-finite values; "
            "expected bool, True where a feature may change"
        )
    return np.ascontiguousarray(array != 0)
