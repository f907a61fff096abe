"""The cost of the harness around the attacks: per cell, at start-up, in memory.

python -m benchmarks.overhead [--out FILE] [--only cells start memory] [--device cuda] measures each part in
processes of its own, and ends with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from benchmarks.speed import Line
from benchmarks.timing import machine, table, write

HEAD = ("what", "unit", "measured", "target", "met", "note")
TINY = ("dataset=synthetic", "model=linear", "training.epochs=1", "attack=none", "examples=16")
IMAGES = ("dataset=synthetic", "dataset.shape=[3,32,32]", "dataset.test=10000", "model=small_cnn", "training.epochs=1")
"""Learnt in an epoch, so that every batch of attacked examples is a full one."""


def command(*arguments: str) -> list[str]:
    """The command line of the harness, in this environment."""
    return [str(Path(sys.executable).with_name("benchmark")), *arguments]


def seconds(arguments: list[str]) -> tuple[float, float]:
    """CPU and wall time of a process that must succeed, on one thread."""
    import resource

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    wall, cpu = time.perf_counter(), spent()
    subprocess.run(arguments, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return spent() - cpu, time.perf_counter() - wall


def median_of(runs: Iterable[list[str]]) -> tuple[float, str]:
    """The median CPU time of processes, which others do not lengthen; and their wall time, in words."""
    times = [seconds(arguments) for arguments in runs]
    return statistics.median(
        cpu for cpu, _ in times
    ), f"{statistics.median(wall for _, wall in times):.2f} s of wall time"


def child(function: str, **arguments: object) -> dict[str, float]:
    """The result of a function of this file in a fresh process."""
    code = f"import json, benchmarks.overhead as o; print(json.dumps(o.{function}(**{arguments!r})))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    values: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return values


# --- cells ---


def sweep_of_cells(store: str, trackers: str, cells: int) -> dict[str, float]:
    """In one process: a sweep of cells of a trained system, twice, and their passes alone. Seconds of CPU and wall."""
    import torch

    from benchmark.sweep.app import main as application
    from benchmarks.subjects import subject

    os.environ["WANDB_MODE"] = "offline"
    common = [*TINY, f"store.root={store}", f"tracker={trackers}"]
    application([*common, "threat.eps=0.5"])  # trains the system and imports everything
    trained = subject(Path(store), "cpu", *TINY)
    torch.set_num_threads(1)
    times = {}

    def timed(name: str, work: Callable[[], object]) -> None:
        wall, cpu = time.perf_counter(), sum(os.times()[:4])  # with the child that computes the cells
        work()
        times[name], times[f"{name}_wall"] = sum(os.times()[:4]) - cpu, time.perf_counter() - wall

    def passes() -> None:
        for _ in range(2):  # one clean pass, one for the verdict
            trained.system.logits(trained.batch.x, trained.batch.rng)

    line = "threat.eps=" + ",".join(f"{i}/1000" for i in range(1, cells + 1))
    timed("passes", passes)
    timed("computed", lambda: application(["-m", *common, line]))
    timed("cached", lambda: application(["-m", *common, line]))
    complete = len(list((Path(store) / "cells").glob("*/record.json")))
    assert complete == cells + 1, f"{complete} records instead of {cells + 1}"
    return times


def single_cells(store: str, trackers: str, cells: int) -> dict[str, float]:
    """In one process: `benchmark.run.run` for cells of a trained system, and composing them. Median seconds."""
    from benchmark.run import run
    from benchmarks.subjects import configured

    os.environ["WANDB_MODE"] = "offline"
    composing, running = [], []
    for i in range(cells + 2):
        begun = time.perf_counter()
        config = configured(Path(store), *TINY, f"tracker={trackers}", f"threat.eps={i + 1}/2000")
        composed = time.perf_counter()
        result = run(config)
        assert result.status == "complete", result.error
        composing.append(composed - begun)
        running.append(time.perf_counter() - composed)
    return {"compose": statistics.median(composing[2:]), "run": statistics.median(running[2:])}


def cells(store: Path, _device: str) -> Iterator[Line]:
    """The harness around a cell whose system is trained."""
    for trackers, target in (("[]", 0.1), ("[wandb]", 0.25)):
        with tempfile.TemporaryDirectory(dir=store) as folder:
            one = child("single_cells", store=folder, trackers=trackers, cells=15)
        yield Line(f"cell, tracker={trackers}: benchmark.run.run", "s", one["run"], target)
        yield Line(f"cell, tracker={trackers}: composing its configuration", "s", one["compose"], None)
        count = 100 if trackers == "[]" else 30
        with tempfile.TemporaryDirectory(dir=store) as folder:
            all_of = child("sweep_of_cells", store=folder, trackers=trackers, cells=count)
        clock, unit = ("", "CPU s") if trackers == "[]" else ("_wall", "s")  # W&B works in a process of its own
        each = (all_of[f"computed{clock}"] - count * all_of[f"passes{clock}"]) / count
        note = f"{count} cells, with Hydra composing each; {all_of['computed_wall'] / count:.2f} s of wall time"
        yield Line(f"cell in a sweep, tracker={trackers}", unit, each, target, note)
        if trackers == "[]":
            note = f"with the leaderboard; {all_of['cached_wall']:.2f} s of wall time"
            yield Line("100 cached cells of a sweep again", "CPU s", all_of["cached"], 2.0, note)


# --- start-up ---


def start(store: Path, _device: str) -> Iterator[Line]:
    """From the shell to an answer."""
    for arguments in (("--help",), ("plugins",), ("plugins", "attack"), ("run", "--help")):
        taken, wall = median_of([command(*arguments)] * 5)
        yield Line("benchmark " + " ".join(arguments), "CPU s", taken, 0.6, wall)
    with tempfile.TemporaryDirectory(dir=store) as folder:
        first = ("run", "attack=fgsm", "tracker=[]", f"store.root={folder}")
        seconds(command(*first, "threat.eps=1/20"))  # trains the system
        taken, wall = median_of(command(*first, f"threat.eps={i}/100") for i in range(1, 4))
        what = "benchmark run attack=fgsm, 500 digits, trained system, tracker=[]"
        yield Line(what, "CPU s", taken, 4.0, wall)


# --- memory ---


def peak(store: str, device: str, work: str, examples: int, batch_size: int) -> dict[str, float]:
    """In one process: the highest memory of attacking, less what was there before. MiB."""
    from dataclasses import replace

    import torch
    from benchmark_plugins.attacks.pgd import PGD

    from benchmark.stages.attack import attack
    from benchmark.stages.batch import Job
    from benchmark.stages.devices import device_of, exact_math, peak_memory
    from benchmark.stages.load import load_data
    from benchmarks.speed import bare
    from benchmarks.subjects import Subject, subject

    torch.set_num_threads(1)

    trained = subject(Path(store), device, *IMAGES, "examples=16")
    config = replace(trained.config, examples=examples)
    loaded = load_data(config.dataset, config.store, config.examples)
    place = device_of(config.trainer)

    def highest() -> float:
        return peak_memory(place) / 2**20

    def job(batch: int, count: int, folder: str) -> Job:
        few = loaded.attacked.take(torch.arange(count))
        plugin = PGD(steps=3, stop_on_success=False)
        return Job(plugin, config.threat, trained.system, trained.system, few, 0, batch, Path(store) / folder)

    with exact_math():
        attack(job(16, 16, f"warm-{os.getpid()}"), config.trainer, lambda *_: None)
        gc.collect()
        with contextlib.suppress(OSError):  # forget how high it was while it was made ready
            Path("/proc/self/clear_refs").write_text("5")
        before = highest()
        if work == "bare":
            positions = torch.arange(batch_size)
            x, y = loaded.attacked.x(positions).to(place), loaded.attacked.y[positions].to(place)
            batch = type(trained.batch)(x, y, positions.to(place))
            bare(Subject(config, trained.system, batch), batch, 3)()
        else:
            attack(job(batch_size, examples, f"{work}-{os.getpid()}"), config.trainer, lambda *_: None)
        return {"mib": highest() - before}


def memory(store: Path, device: str) -> Iterator[Line]:
    """Memory grows with the batch, not with the dataset."""
    with tempfile.TemporaryDirectory(dir=store) as folder:

        def measured(work: str, examples: int, batch_size: int) -> float:
            values = [
                child("peak", store=folder, device=device, work=work, examples=examples, batch_size=batch_size)["mib"]
                for _ in range(3)
            ]
            return statistics.median(values)

        few, many = measured("attack", 1000, 256), measured("attack", 10000, 256)
        inputs = 9000 * 3 * 32 * 32 * 4 / 2**20
        note = f"{few:.0f} and {many:.0f} MiB above the start, batches of 256 3x32x32 images"
        yield Line("memory of attacking 9,000 examples more / their inputs", "ratio", (many - few) / inputs, None, note)
        for size in (256, 1024):
            attacked, alone = measured("attack", size, size), measured("bare", size, size)
            note = f"{attacked:.0f} and {alone:.0f} MiB, PGD on small_cnn, one batch of {size}"
            yield Line("memory of an attack / of bare passes", "ratio", attacked / max(alone, 1.0), 1.5, note)


PARTS: dict[str, Callable[[Path, str], Iterator[Line]]] = {
    "cells": cells,
    "start": start,
    "memory": memory,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=Path("results"))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=tuple(PARTS))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.store.mkdir(parents=True, exist_ok=True)
    found = []
    for part in options.only:
        for line in PARTS[part](options.store, options.device):
            print(*line.cells(), sep=" | ", flush=True)
            found.append(line)
    write(
        options.out,
        f"""# Overhead of the harness

Seconds depend on the machine, and those of wall time on what else it was doing; ratios do not. A tiny cell (16
synthetic examples, a linear model, `attack=none`) is nearly all harness.

{table(HEAD, [line.cells() for line in found])}

{machine(options.device)}""",
    )
    return 0 if all(line.good for line in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
