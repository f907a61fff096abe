"""`benchmark work`: one of any number of tasks that take the cells of a plan, until none is left.

A task takes the next cell that is neither recorded nor held by another task. Tasks may join late, die and restart:
the store has what is done, and the operating system frees the locks of dead processes.
"""

from __future__ import annotations

import mmap
import random
import sys
import time
from collections.abc import Callable, Sequence

from benchmark.records.plan import Line, Plan
from benchmark.records.store import Store
from benchmark.sweep.children import AVAILABLE, ChildDied, in_child

__all__ = ["Worker"]

WAIT = 2.0
"""Mean seconds between two checks of cells that other tasks hold."""


class Worker:
    """One task.

    launch: runs the cell of these overrides, in this process. plan, store: the plan to work on, and the store of
    results.
    """

    def __init__(self, plan: Plan, store: Store, launch: Callable[[Sequence[str]], None]) -> None:
        self.plan, self.store, self.launch = plan, store, launch
        self.lost: dict[str, str] = {}
        self.done: set[str] = set()
        self.at = mmap.mmap(-1, 8)  # shared with a child, so that it is known what the child died of

    def work(self) -> dict[str, str]:
        """Take cells until none is left; returns the reasons for those that could not be started, by their overrides.

        A cell on which the process dies is noted, and the task continues in another process.
        """
        while True:
            try:
                self.lost |= in_child(self._take_all) if AVAILABLE else self._take_all()
                break
            except ChildDied as died:
                if not self.store.bury(died.reason):
                    line = self.plan.lines[int.from_bytes(self.at[:], "little")]
                    self.lost[line.line] = f"its process died before the cell started ({died.reason})"
        words = {line.line: " ".join(line.overrides) for line in self.plan.lines}
        return {words[line]: reason for line, reason in self.lost.items()}

    def _take_all(self) -> dict[str, str]:
        """Take cells until none is left; returns those that could not be started."""
        patient = False
        while True:
            taken, held = self._pass(patient=patient)
            if not taken and not held:
                return self.lost
            if not taken:
                time.sleep(WAIT * random.uniform(0.5, 1.5))
            patient = not taken

    def _pass(self, *, patient: bool) -> tuple[int, int]:
        """Go through the plan once; returns the number of cells taken, and of those held by others.

        Args:
            patient: also take cells of a system that another task may be training.
        """
        taken, held = 0, 0
        training: set[str] = set()
        for place, line in enumerate(self.plan.lines):
            if line.line in self.done or line.line in self.lost:
                continue
            if self._is_done(line):
                self.done.add(line.line)
            elif line.system in training and not patient:
                held += 1
            else:
                self.at[:] = place.to_bytes(8, "little")
                took = self._take(line)
                taken, held = taken + took, held + (not took)
                if not took and line.leads:
                    training.add(line.system)
        return taken, held

    def _take(self, line: Line) -> bool:
        """Run a cell, unless another task holds it."""
        with self.store.free(f"line-{line.line}") as free:
            if not free:
                return False
            if not self._is_done(line):  # or it ended between the two looks
                try:
                    self.launch(line.overrides)
                except Exception as error:
                    self.lost[line.line] = f"{type(error).__name__}: {error}"
                    sys.stderr.write(f"benchmark: failed: {' '.join(line.overrides)}: {error}\n")
                    return True
            self.done.add(line.line)
            return True

    def _is_done(self, line: Line) -> bool:
        key = self.store.recall(line.line)
        return key is not None and self.store.record(key) is not None
