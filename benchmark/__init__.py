"""A benchmark harness for adversarial robustness.

Importing this package is cheap: it gives the version and the marker with which plugins register, and no torch.
What a plugin fills is in :mod:`benchmark.api`; what one run does is in :mod:`benchmark.run`.
"""

from importlib.metadata import version

import pluggy

__all__ = ["GROUP", "__version__", "hookimpl"]

GROUP = "benchmark"
"""The entry-point group, and the pluggy project name."""

hookimpl = pluggy.HookimplMarker(GROUP)
"""Decorator for the functions by which a plugin registers or observes (:mod:`benchmark.hookspecs`)."""

__version__ = version("adversarial-benchmark")
