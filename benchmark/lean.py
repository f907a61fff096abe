"""torchmetrics without the half second that importing SciPy's signal processing takes."""

from __future__ import annotations

import sys
import types

__all__ = ["import_torchmetrics"]


def import_torchmetrics() -> None:
    """Import torchmetrics, for the first time in a process, without `scipy.signal`.

    torchmetrics 1.9 imports that module only to give it an old name, `hamming`, for the sake of another package. While
    it is imported a stand-in has the name; whoever asks for `scipy.signal` afterwards gets the real one.
    """
    if "torchmetrics" in sys.modules or "scipy.signal" in sys.modules:
        return
    try:
        import scipy
    except ModuleNotFoundError:
        return
    stand_in = types.ModuleType("scipy.signal")
    stand_in.hamming = None  # type: ignore[attr-defined]
    sys.modules["scipy.signal"] = stand_in
    try:
        import torchmetrics  # noqa: F401
    finally:
        del sys.modules["scipy.signal"]
        vars(scipy).pop("signal", None)
