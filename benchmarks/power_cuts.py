"""Cut the power of a sweep: an ext4 file system on a loop device is shut down at random moments.

After the cut (FS_IOC_GOINGDOWN without a flush of the journal: what had not reached the device is gone) all processes
are killed and the device is mounted again. Every cell that the sweep had called complete must be there with the
checksums of its record, and the sweep, run again, must end with the bytes of an uninterrupted one. With
`--without-flushes` nothing is ever flushed, to show that the cuts do lose what the harness does not keep.
It needs root. `python -m benchmarks.power_cuts WORK --out benchmarks/results/power_cuts.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import random
import re
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmark.records.durable import file_sha256
from benchmark.records.store import Store
from benchmarks.kills import CELL, left
from benchmarks.trials import end_all, ended, preloaded, start, warm

SWEEP = (("run", "-m", "attack=fgsm,pgd,noise", "attack.pgd.steps=2", "seed=0,1", *CELL, "tracker=[console]"),)
SIZE = "256M"
FS_IOC_GOINGDOWN = 0x8004587D  # _IOR('X', 125, __u32), linux/fs.h
WITHOUT_LOG_FLUSH = struct.pack("I", 2)
ANNOUNCED = re.compile(r"^\[cell\] (.+?)(?: \[[^\]]*\])?: (?!failed|refused)", re.MULTILINE)
"""Name of a cell that a sweep calls complete, as its record has it: without what tells it apart within the sweep."""


def device(work: Path) -> Path:
    """New image of an ext4 file system.

    Raises:
        OSError: if there is no permission, or no tool.
    """
    image = work / "disk.img"
    subprocess.run(["truncate", "-s", SIZE, image], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    return image


@contextlib.contextmanager
def mounted(image: Path) -> Iterator[Path]:
    """Mount an image inside the block; killed processes no longer hold it at its end."""
    place = image.with_name("mounted")
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    try:
        yield place
    finally:
        end_all()
        subprocess.run(["umount", place], check=True)


def cut(place: Path) -> None:
    """Shut a file system down, as a power failure does: nothing more reaches its device."""
    handle = os.open(place, os.O_RDONLY)
    try:
        fcntl.ioctl(handle, FS_IOC_GOINGDOWN, WITHOUT_LOG_FLUSH)
    finally:
        os.close(handle)


def lost(store: Store, announced: set[str]) -> list[str]:
    """Cells called complete that are not whole, by name, with the reason."""
    found = {record.name: record for record in store.records()}
    reasons = []
    for name in sorted(announced):
        record = found.get(name)
        if record is None:
            reasons.append(f"{name}: no record")
            continue
        files = {file.path: file.sha256 for file in record.files}
        folder = store.cell(record.key)
        reasons += [
            f"{name}: {path}"
            for path, sha in files.items()
            if not (folder / path).is_file() or file_sha256(folder / path) != sha
        ]
        card = store.card(record.system.key)
        if card is None or store.differs(card):
            reasons.append(f"{name}: its system")
    return reasons


def trial(work: Path, seconds: float, whole: dict[str, Any], number: int) -> dict[str, Any]:
    """One power cut, and what was left."""
    image, said = device(work), work / "mounted" / "sweep.txt"
    outside = work / f"said-{number}.txt"
    outside.unlink(missing_ok=True)
    moment = random.Random(number).uniform(0.0, seconds)
    with mounted(image) as place:
        said.symlink_to(outside)  # what was said is kept by another device
        start(place / "sweep", SWEEP)
        time.sleep(moment)
        cut(place)
    announced = set(ANNOUNCED.findall(outside.read_text()) if outside.is_file() else ())
    with mounted(image) as place:
        wrong = lost(Store(place / "sweep" / "results"), announced)
        found = len(Store(place / "sweep" / "results").records())
        said.unlink(missing_ok=True)
        said.symlink_to(outside)
        code = ended(start(place / "sweep", SWEEP))
        there = left(place / "sweep")
    again = [name for name, content in there.items() if content != whole[name]]
    again += [f"exit code {code}"] if code else []
    return {
        "moment": number, "announced": len(announced), "found": found, "lost": wrong, "again": again
    }  # fmt: skip


def main() -> None:
    """Cut the power and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path, help="folder of the trials, which go on where they stopped")
    parser.add_argument("--cuts", type=int, default=30)
    parser.add_argument("--without-flushes", action="store_true", help="the control, which must lose cells")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    work = options.work.resolve()
    preloaded(work)
    warm()
    shutil.rmtree(work / "whole", ignore_errors=True)
    begun = time.monotonic()
    code = ended(start(work / "whole", SWEEP))
    seconds = time.monotonic() - begun
    if code:
        raise SystemExit(f"the uninterrupted run gave {code}: see {work / 'whole.txt'}")
    whole = left(work / "whole")
    if options.without_flushes:
        os.fsync = lambda fd: None
    log = work / ("control.jsonl" if options.without_flushes else "cuts.jsonl")
    known = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    for number in sorted(set(range(options.cuts)) - {one["moment"] for one in known}):
        known.append(trial(work, seconds, whole, number))
        with log.open("a") as lines:
            lines.write(json.dumps(known[-1]) + "\n")
    if options.out:
        write_table(options.out, work)
    raise SystemExit(any(one["lost"] or one["again"] for one in known))


def write_table(path: Path, work: Path) -> None:
    """Write the cuts, and the control beside them, as a page."""
    from benchmarks.timing import machine, table, write

    rows, failures = [], []
    for name, file in (("as it is", "cuts.jsonl"), ("without flushes", "control.jsonl")):
        if (work / file).is_file():
            cuts = [json.loads(line) for line in (work / file).read_text().splitlines()]
            sums = [sum(one[key] for one in cuts) for key in ("announced", "found")]
            losing = sum(bool(one["lost"]) for one in cuts)
            rows.append((name, str(len(cuts)), *map(str, sums), str(losing), str(sum(bool(o["again"]) for o in cuts))))
            failures += [f"- {name}, cut {o['moment']}: {', '.join(o['lost'] + o['again'])}" for o in cuts
                         if o["again"] or (o["lost"] and file == "cuts.jsonl")]  # fmt: skip
    head = ("harness", "cuts", "cells called complete", "records found", "cuts that lost some", "ended differently")
    text = f"# Power cuts\n\n{__doc__}\n{machine('cpu')}\n\n{table(head, rows)}\n\n`{' '.join(SWEEP[0])}`\n"
    write(path, text + ("\nFailures:\n\n" + "\n".join(failures) + "\n" if failures else ""))


if __name__ == "__main__":
    main()
