"""A benchmark harness for adversarial robustness.

Importing this package is cheap: it defines the version and the marker with which plugins register, without torch.
From Python, :func:`evaluate` attacks a model in memory, :func:`compare` compares two results and :func:`read` reads a
store. The contracts of plugins are in :mod:`benchmark.api`; a run is in :mod:`benchmark.run`.
"""

from __future__ import annotations

import importlib
import os
from importlib.metadata import version
from typing import Any

import pluggy

from benchmark import renamed

__all__ = ["GROUP", "Threat", "__version__", "compare", "evaluate", "hookimpl", "read"]

GROUP = "benchmark"
"""The entry-point group, and the pluggy project name."""

hookimpl = pluggy.HookimplMarker(GROUP)
"""Decorator for the functions by which a plugin registers or observes (:mod:`benchmark.hooks.hookspecs`)."""

__version__ = version("adversarial-benchmark")

_LAZY = {
    "Threat": "benchmark.threat",
    "compare": "benchmark.interface.result",
    "evaluate": "benchmark.interface.evaluate",
    "read": "benchmark.interface.reading",
}
"""Names re-exported lazily, because the modules that define them are above this package in the layers."""


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


renamed.install()

# Intel MKL, behind torch's matrix products on CPU, rounds a row by its place in memory unless told not to: a layer of,
# say, 10 or 30 inputs would give other bits for a row at another position of the batch. MKL reads the variable at its
# first product in a process, so it is set before anything of ours can cause one.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
