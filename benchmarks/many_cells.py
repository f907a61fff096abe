"""Thousands of cells that four tasks of `benchmark work` share, of which one is killed at random every minute.

Cells of the cheapest kind: noise of as many radii on one linear system. No cell may be lost, none computed twice to
the end (records appear once and are never replaced), and records, outcomes and witnesses must have the bytes of a
serial run beside it, timings aside. `python -m benchmarks.many_cells WORK --out benchmarks/results/many_cells.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmark.records.store import Store
from tests.e2e.commands import benchmark, environment, files, records

WORDS = ("attack=noise", "model=linear", "training.epochs=1", "metric=[robust_accuracy]", "examples=8", "tracker=[]")
LOOK = 0.5
"""Seconds between two looks at tasks and records."""


def matrix(cells: int) -> tuple[str, ...]:
    """Words of a sweep of that many cells."""
    radii = ",".join(f"{number / (2 * cells):.6f}" for number in range(1, cells + 1))
    return (*WORDS, f"threat.eps={radii}")


def task(folder: Path) -> subprocess.Popen[bytes]:
    """One task of `benchmark work` on the plan of a folder."""
    command = [sys.executable, "-m", "benchmark", "work", "plan.jsonl"]
    return subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.DEVNULL)


def worked(folder: Path, tasks: int, minute: float, chance: random.Random) -> dict[str, Any]:
    """Work on a plan with tasks that are replaced when they are killed, until all have ended by themselves.

    Args:
        minute: seconds between two kills.
    """
    running = [task(folder) for _ in range(tasks)]
    seen: dict[str, tuple[int, int]] = {}
    kills, replaced, last = 0, Counter[str](), time.monotonic()
    while any(one.poll() is None for one in running):
        time.sleep(LOOK)
        for path in (folder / "results" / "cells").glob("[!.]*/record.json"):
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue
            mark = stat.st_ino, stat.st_mtime_ns
            replaced[path.parent.name] += seen.setdefault(path.parent.name, mark) != mark
        if time.monotonic() - last >= minute:
            last = time.monotonic()
            alive = [place for place, one in enumerate(running) if one.poll() is None]
            if alive:
                victim = chance.choice(alive)
                running[victim].send_signal(signal.SIGKILL)
                running[victim].wait()
                running[victim] = task(folder)
                kills += 1
    codes = [one.returncode for one in running]
    return {"kills": kills, "codes": codes, "twice": sorted(key for key, count in replaced.items() if count)}


def main() -> None:
    """Work on the cells serially and by tasks, compare and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument("--minute", type=float, default=60.0, help="seconds between two kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    shutil.rmtree(options.work, ignore_errors=True)
    serial, shared = options.work / "serial", options.work / "shared"
    words = matrix(options.cells)
    for folder in (serial, shared):
        benchmark(folder, "plan", *words)
    begun = time.monotonic()
    alone = task(serial)
    found = worked(shared, options.tasks, options.minute, random.Random(options.seed))
    seconds = time.monotonic() - begun
    _, status, used = os.wait4(alone.pid, 0)
    alone.returncode = os.waitstatus_to_exitcode(status)
    found |= {
        "cells": options.cells,
        "tasks": options.tasks,
        "records": len(records(shared)),
        "seconds": round(seconds),
        "CPU seconds of the serial run": round(used.ru_utime + used.ru_stime),
        "same records": records(shared) == records(serial),
        "same files": files(shared) == files(serial),
        "unfinished": len(Store(shared / "results").unfinished()),
    }
    right = {"records": options.cells, "same records": True, "same files": True, "unfinished": 0, "twice": []}
    wrong = {name: found[name] for name, value in right.items() if found[name] != value}
    wrong |= {"codes": found["codes"]} if any([*found["codes"], alone.returncode]) else {}
    print(json.dumps(found))
    if options.out:
        from benchmarks.timing import machine, table, write

        rows = [(name, str(value)) for name, value in found.items()]
        write(options.out, f"# Many cells\n\n{__doc__}\n{machine('cpu')}\n\n{table(('what', 'found'), rows)}\n")
    raise SystemExit(f"wrong: {wrong}" if wrong else 0)


if __name__ == "__main__":
    main()
