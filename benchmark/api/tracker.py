"""The contract of trackers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from benchmark.api.component import Component

__all__ = ["Tracker"]


@dataclass(frozen=True)
class Tracker(Component):
    """Observer of a run, through the hooks of :mod:`benchmark.hooks.hookspecs`; a failing tracker never loses a record.

    environment: prefixes of the environment variables that it, or its library, may set.
    """

    environment: ClassVar[tuple[str, ...]] = ()
