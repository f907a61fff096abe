"""Time and memory of a large leaderboard: 300 systems under 20 attacks and 1,000 under 30, on 10,000 examples.

python -m benchmarks.leaderboard [--out FILE] [--folder DIR] makes the records (12 GB, packed 0.7 GB), builds the
site in processes of its own, the least of three, and ends with 1 if a target is missed. The records are made up, in the
harness's own form.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmark.records.document import content_key
from benchmark.records.durable import file_sha256
from benchmarks.timing import machine, table, write
from tests.leaderboard.made_records import made_cell

SYSTEMS, ATTACKS, EXAMPLES = 300, 20, 10_000
RECORDS = 10_000
LARGE_SYSTEMS, LARGE_ATTACKS, COPIES = 200, 30, 5
"""Systems of the large site before they are copied, its attacks, and the copies: 1,000 systems, 30,000 records."""
TRIES = 3
NAMES = ("noise", "fgsm", "pgd", "deepfool", "square")
HEAD = ("what", "unit", "measured", "target", "met", "note")


def make(root: Path, systems: int, attacks: int, examples: int) -> None:
    """Cells of so many systems under so many attacks at one radius; every fifth attack looks for the smallest."""
    for system in range(systems):
        rng = np.random.default_rng(system)
        clean = rng.random(examples) < 0.95 - 0.15 * system / systems
        exact = rng.gamma(4.0, 0.03 / (1 + 0.01 * (system % 100)), examples)
        for attack in range(attacks):
            found = exact * (1 + rng.exponential(1 / (1 + attack), examples))
            minimal = NAMES[attack % 5] == "deepfool"
            made_cell(
                root,
                clean=clean,
                distance=found if minimal else np.where(found <= 0.1, found, np.inf),
                attack=NAMES[attack % 5],
                params={"steps": attack},
                minimal=minimal,
                model_params={"width": system},
                defenses=("adversarial_training",) if system % 2 else (),
            )


def copies(packed: Path, into: Path, times: int) -> int:
    """Fill a folder with so many copies of packed cells, each copy of other systems; returns the number of cells.

    The arrays are links to those of the first: to read them costs what it would, and to make them costs nothing.
    """
    made = 0
    for record_file in sorted(packed.glob("*/*/record.json")):
        record, document = (
            json.loads(record_file.read_bytes()),
            json.loads((record_file.parent / "packed.json").read_bytes()),
        )
        suite = into / record_file.parent.parent.name
        for at in range(times):
            record["system"]["config"]["model"]["params"]["copy"] = at
            record["system"]["key"] = content_key([record["system"]["config"], record["seed"]])
            record["key"] = content_key([record_file.parent.name, at])
            folder = suite / record["key"]
            folder.mkdir(parents=True)
            (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")
            document.update(key=record["key"], record_sha256=file_sha256(folder / "record.json"))
            (folder / "packed.json").write_text(json.dumps(document), encoding="utf-8")
            os.link(record_file.parent / "packed.safetensors", folder / "packed.safetensors")
            made += 1
    for examples in packed.glob("*/examples-*"):
        os.link(examples, into / examples.parent.name / examples.name)
    return made


def child(function: str, *arguments: object) -> dict[str, float]:
    """The result of a function of this file in a fresh process, with its CPU and wall time and its peak memory.

    cpu: user, the program itself, and kernel, which on a busy disk varies by seconds.
    """
    code = (
        "import json, resource, time, benchmarks.leaderboard as b; "
        "at, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter(); "
        f"found = b.{function}(*{arguments!r}); wall = time.perf_counter() - wall; "
        "to = resource.getrusage(resource.RUSAGE_SELF); "
        "user, kernel = to.ru_utime - at.ru_utime, to.ru_stime - at.ru_stime; "
        "print(json.dumps({**found, 'cpu': user + kernel, 'user': user, 'kernel': kernel, 'wall': wall, "
        "'memory': b.largest_resident() / 1e9}))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    values: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return values


def least(function: str, folder: Path, out: Path) -> dict[str, float]:
    """Of so many runs that write into a new folder, the one that took the least CPU: others disturb, none helps."""
    tried = []
    for _ in range(TRIES):
        tried.append(child(function, str(folder), str(out)))
        shutil.rmtree(out)
    return min(tried, key=lambda took: took["cpu"])


def spent(took: dict[str, float]) -> str:
    """The time by function."""
    return (
        f"{took['user']:.1f} s in the program, {took['kernel']:.1f} s in the kernel, {took['wall']:.1f} s of wall time"
    )


def load(folder: str) -> dict[str, float]:
    """Read every record below a folder."""
    from benchmark_leaderboard.cells.load import read

    cells, problems = read([Path(folder)])
    return {"records": len(cells), "problems": len(problems)}


def site(folder: str, out: str) -> dict[str, float]:
    """Build the site of a folder."""
    from benchmark_leaderboard.build import build

    pages = [p.stat().st_size for p in build([Path(folder)], Path(out)).parent.rglob("*.html")]
    return {"pages": len(pages), "largest": max(pages)}


def packed(folder: str, into: str) -> dict[str, float]:
    """Pack the cells of a folder."""
    from benchmark_leaderboard.review.pack import pack

    return {"cells": len(pack([Path(folder)], Path(into), link="https://example.org/cells"))}


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def line(what: str, unit: str, value: float, target: float, note: str) -> tuple[object, ...]:
    """A row of the table; targets are upper bounds."""
    return what, unit, value, f"< {target:g}", "yes" if value < target else "NO", note


def measured(root: Path) -> Iterator[tuple[object, ...]]:
    """The rows of the table, one after the other."""
    raw, small = root / "store", root / "published"
    if not raw.is_dir():
        make(raw, SYSTEMS, ATTACKS, EXAMPLES)
    if not small.is_dir():
        child("packed", str(raw / "cells"), str(small))
    cells = SYSTEMS * ATTACKS
    kept = size(small) / cells / 1000
    yield line("a packed cell", "kB", kept, 60, f"of {size(raw / 'cells') / cells / 1000:.0f} kB as the run wrote it")
    board = f"{SYSTEMS} systems, {ATTACKS} attacks, {EXAMPLES} examples"
    for name, folder in (("packed", small), ("as runs wrote them", raw)):
        took = least("site", folder, root / "site")
        yield line(f"site, {name}", "s of CPU", took["cpu"], 10, f"{board}; {spent(took)}")
        yield line(f"site, {name}", "GB", took["memory"], 1, "largest resident memory")
        yield line(f"site, {name}", "kB", took["largest"] / 1000, 300, f"the largest of {took['pages']:.0f} pages")
    large = root / "large"
    if not large.is_dir():
        make(root / "once", LARGE_SYSTEMS, LARGE_ATTACKS, EXAMPLES)
        child("packed", str(root / "once" / "cells"), str(root / "once" / "published"))
        copies(root / "once" / "published", large, COPIES)
        shutil.rmtree(root / "once")
    took = least("site", large, root / "site")
    board = f"{LARGE_SYSTEMS * COPIES} systems, {LARGE_ATTACKS} attacks, {EXAMPLES} examples"
    yield line("large site, packed", "s of CPU", took["cpu"], 30, f"{board}; {spent(took)}")
    yield line("large site, packed", "GB", took["memory"], 1, "largest resident memory")
    yield line("large site, packed", "kB", took["largest"] / 1000, 300, f"the largest of {took['pages']:.0f} pages")
    many = root / "many"
    if not many.is_dir():
        make(many, RECORDS // ATTACKS, ATTACKS, 20)
    took = child("load", str(many / "cells"))
    yield line("load", "s of CPU", took["cpu"], 5, f"{took['records']:.0f} records; {spent(took)}")


def main() -> int:
    """Measure, print, and keep the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--folder", type=Path, help="keeps the records, and finds them there the next time")
    options = parser.parse_args()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        lines = list(measured(options.folder or Path(scratch)))
    where = f"{machine('cpu')}; {os.cpu_count()} processors, load {os.getloadavg()[1]:.0f}"
    took = f"Written by `python -m benchmarks.leaderboard`, in {time.perf_counter() - begun:.0f} s."
    write(options.out, f"# A large leaderboard\n\n{where}. {took}\n\n{table(HEAD, lines)}")
    return 0 if all(row[4] == "yes" for row in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
