"""Paired timing: turn by turn in one process, so that whatever slows the machine slows everybody."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

__all__ = ["Times", "alternate", "clock", "machine", "ratio", "table", "write"]

Times = dict[str, list[float]]
"""Seconds of each round, by name."""


def clock(device: str) -> Callable[[], float]:
    """CPU time for one thread, which other processes of the machine do not lengthen; wall time otherwise."""
    return time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter


def alternate(
    runs: Mapping[str, Callable[[], object]], rounds: int, device: str = "cpu", patience: float = float("inf")
) -> Times:
    """Every run once to warm up, then `rounds` times in turn; each round begins with another one.

    What takes longer than `patience` seconds to warm up is not run again: that was its time.
    """
    now = clock(device)
    names = list(runs)
    times: Times = {name: [] for name in names}
    slow: set[str] = set()
    for turn in range(-1, rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if name in slow:
                continue
            begun = now()
            runs[name]()
            if device == "cuda":
                torch.cuda.synchronize()
            taken = now() - begun
            if turn < 0 and taken > patience:
                slow.add(name)
            if turn >= 0 or name in slow:
                times[name].append(taken)
    return times


def ratio(times: Times, name: str, other: str) -> float:
    """The median time of `name` divided by that of `other`."""
    return statistics.median(times[name]) / statistics.median(times[other])


def machine(device: str) -> str:
    """One line on where the numbers were measured."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        name = next((ln.partition(":")[2].strip() for ln in info.read_text().splitlines() if "model name" in ln), name)
    where = f"{name}, {torch.get_num_threads()} thread(s)"
    if device == "cuda":
        where = f"{torch.cuda.get_device_name()}; {where}"
    return f"{where}; torch {torch.__version__}, Python {platform.python_version()}"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; numbers to two decimals."""
    cells = [[f"{c:.2f}" if isinstance(c, float) else str(c) for c in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(head), *cells]) for i in range(len(head))]
    lines = [" | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in [list(head), *cells]]
    lines.insert(1, " | ".join("-" * w for w in widths))
    return "\n".join(f"| {line} |" for line in lines)


def write(path: Path | None, text: str) -> None:
    """Print a page, and keep it where a path is given."""
    print(text)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
