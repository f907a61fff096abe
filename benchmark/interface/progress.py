"""Progress line on standard error during an evaluation: attack, finished examples, and time left."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

from benchmark import hookimpl
from benchmark.api import Tracker

__all__ = ["Progress"]


@dataclass(frozen=True)
class Progress(Tracker):
    """Observer that updates one line on a terminal or in a notebook, and elsewhere prints it at the end.

    title: name of the evaluation.
    """

    title: str
    _begun: list[float] = field(default_factory=list, init=False, repr=False, compare=False)

    @hookimpl
    def benchmark_progress(self, stage: str, done: int, total: int) -> None:
        """Report the progress of a stage, and the time left at the present rate."""
        now = time.perf_counter()
        if not self._begun:
            self._begun.append(now)
        live = sys.stderr.isatty() or "ipykernel" in sys.modules
        unit = "passes" if stage == "passes" else "examples"
        if not live and (done < total or unit == "passes"):
            return
        spent = now - self._begun[0]
        left = f", {_duration(spent * (total - done) / done)} left" if 0 < done < total else ""
        line = f"{'attack' if unit == 'passes' else stage} {self.title}: {done} of {total} {unit}{left}"
        ended = done == total and unit == "examples"
        sys.stderr.write(f"\r{line:<79}" + ("\n" if ended else "") if live else f"{line}\n")
        sys.stderr.flush()

    def start(self) -> Progress:
        """Start the clock."""
        self._begun[:] = [time.perf_counter()]
        return self


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
