"""A benchmark harness for adversarial robustness.

Importing this package is cheap: it gives the version and the marker with which plugins register, and no torch.
What a plugin fills is in :mod:`benchmark.api`; what one run does is in :mod:`benchmark.run`.
"""

import os
from importlib.metadata import version

import pluggy

from benchmark import renamed

__all__ = ["GROUP", "__version__", "hookimpl"]

GROUP = "benchmark"
"""The entry-point group, and the pluggy project name."""

hookimpl = pluggy.HookimplMarker(GROUP)
"""Decorator for the functions by which a plugin registers or observes (:mod:`benchmark.hooks.hookspecs`)."""

__version__ = version("adversarial-benchmark")

renamed.install()

# Intel MKL, behind torch's matrix products on CPU, rounds a row by its place in memory unless told not to: a layer of,
# say, 10 or 30 inputs would give other bits for a row at another position of the batch. MKL reads the variable at its
# first product in a process, so it is set before anything of ours can cause one.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
