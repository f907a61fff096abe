"""The contract of trackers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from benchmark.api.component import Component

__all__ = ["Tracker"]


@dataclass(frozen=True)
class Tracker(Component):
    """Observer of a run, through the hooks of :mod:`benchmark.hooks.hookspecs`; one that fails never loses a record.

    environment: beginnings of the names of variables of the environment that it, or its library, may set.
    """

    environment: ClassVar[tuple[str, ...]] = ()
