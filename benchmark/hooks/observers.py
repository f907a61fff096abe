"""Calls to the observers of a run; a failing observer is named, and nothing else is lost."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pluggy

from benchmark import GROUP
from benchmark.errors import message_of
from benchmark.guard import RENDEZVOUS, guarded

if TYPE_CHECKING:
    from benchmark.api import Tracker

__all__ = ["Observers"]


@dataclass
class Observers:
    """The trackers of a run, called separately, so that a failing one does not silence the others."""

    trackers: Sequence[Tracker] = ()
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        from benchmark.hooks import hookspecs

        self._spared = {type(t).__name__: (*t.environment, *RENDEZVOUS) for t in self.trackers}
        self._managers: list[tuple[str, pluggy.PluginManager]] = []
        for tracker in self.trackers:
            manager = pluggy.PluginManager(GROUP)
            manager.add_hookspecs(hookspecs)
            manager.register(tracker)
            self._managers.append((type(tracker).__name__, manager))

    def tell(self, hook: str, **values: Any) -> None:
        """Call one hook of every tracker with copies of the values; failures are kept and printed to stderr."""
        for name, manager in self._managers:
            try:
                with guarded(f"tracker {name}", spared=self._spared[name]):
                    getattr(manager.hook, hook)(**copy.deepcopy(values))
            except Exception as error:
                problem = f"tracker {name} failed in {hook}: {type(error).__name__}: {message_of(error)}"
                self.problems.append(problem)
                sys.stderr.write(f"{problem}; the record is safe\n")
