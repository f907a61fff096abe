"""Kill the processes of a cell at every single file operation, and at random moments, and compare what is left.

Each trial is killed once in a folder of its own and run again; its records, outcomes, witnesses and weights must have
the bytes of an uninterrupted run, timings aside, and no unfinished work may be left. File operations are what changes
files below the folder, in any process: new files and folders, writes, flushes, renames, removals, modes; those of the
pages of the board are left out, which are made anew. A random kill hits one process, or, one time in three, all.
Every trial is a line of `kills.jsonl` beside this page, which one command continues:
`python -m benchmarks.kills WORK --log benchmarks/results/kills.jsonl --out benchmarks/results/kills.md`.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.trials import Page, end_all, ended, killed_within, preloaded, start, warm
from tests.e2e.commands import files, records

CELL = ("model=linear", "training.epochs=2", "metric=[robust_accuracy]", "examples=24", "batch_size=12")
SWEEP = ("attack=fgsm,noise", *CELL, "tracker=[]")
RETRY = "retry=failed"
DDP = ("trainer=ddp", "trainer.strategy=ddp_fork", "trainer.accelerator=cpu")

KINDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "training": (("run", "attack=pgd", "attack.steps=2", *CELL, "tracker=[]"),),
    "prepared": (("run", "attack=universal", "attack.epochs=1", *CELL, "tracker=[]"),),
    "joblib": (("run", "-m", *SWEEP, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),),
    "work": (("plan", *SWEEP), ("work", "plan.jsonl")),
    "wandb": (("run", "attack=fgsm", *CELL, "tracker=[wandb]"),),
    "ddp": (("run", "attack=fgsm", *CELL, "tracker=[]", *DDP),),
}
"""Commands of a trial, by its kind. Processes of ddp_fork begin in an instant; those of ddp_spawn import everything."""

TRAINED = ("prepared", "joblib", "work", "wandb")
"""Kinds whose stores have the trained system already."""

AGAIN: dict[str, tuple[tuple[str, ...], ...]] = {"ddp": (("run", "attack=fgsm", *CELL, "tracker=[]", *DDP, RETRY),)}
"""Commands that continue, where they differ: a cell of which a process of DDP died is recorded as failed."""

EARLIER = """\
An earlier run, whose lines were not kept, killed `training` at each of 155 file operations and 29 times at random,
without a failure."""

UNTRACKED = "tracker WandbTracker failed"
PUBLISH = (("publish", "--tracker", "wandb", "results/cells"),)
"""What a run says whose service of W&B was killed, and the command that then publishes the record.

It publishes the training of the system too, which an earlier run without W&B left unpublished.
"""
TRAINING = "-training.wandb"


def left(folder: Path) -> dict[str, Any]:
    """Files that a trial is compared by."""
    systems = folder / "results" / "systems"
    work = folder / "results" / "work"
    runs = {path.name: path.stat().st_size > 0 for path in (folder / "results").glob("wandb/*/run-*.wandb")}
    return {
        "records": records(folder),
        "outcomes and witnesses": files(folder),
        "weights": {str(p.relative_to(systems)): p.read_bytes() for p in sorted(systems.glob("[!.]*/*.safetensors"))},
        "systems": sorted(path.parent.name for path in systems.glob("[!.]*/card.json")),
        "unfinished work": sorted(path.name for path in work.glob("*")) if work.is_dir() else [],
        "runs of W&B": sorted(runs) if all(runs.values()) else "one is empty",
    }


class Trials:
    """Trials of one kind, each a line of a file, so that they go on where they stopped."""

    def __init__(self, kind: str, work: Path, page: Page, log: Path) -> None:
        self.kind, self.work, self.page, self.log = kind, work / kind, page, log
        self.commands: Sequence[Sequence[str]] = KINDS[kind]
        shutil.rmtree(self.work, ignore_errors=True)
        if kind in TRAINED:
            ended(start(self.work / "trained", [("run", "attack=none", *CELL, "tracker=[]")]))
        begun = time.monotonic()
        code, _ = self._run(self.work / "whole")
        self.seconds = time.monotonic() - begun
        if code:
            raise SystemExit(f"{kind}: the uninterrupted run gave {code}: see {self.work / 'whole.txt'}")
        self.operations = page.count
        self.whole = left(self.work / "whole")
        end_all()

    def point(self, at: int) -> bool:
        """Kill the process that is about to make operation number `at`; False if there was none of that number."""
        folder = self.work / f"point-{at}"
        code, what = self._run(folder, at)
        reached = self.page.count >= at
        if reached:
            self._judge(folder, {"point": at, "whom": "", "what": what, "stuck": code is None})
        return reached

    def moment(self, number: int, chance: random.Random) -> bool:
        """Kill at a random moment; False if the run has ended before."""
        folder = self.work / f"moment-{number}"
        process = self._start(folder)
        whom = killed_within(process, self.seconds, chance)
        stuck = ended(process) is None
        if whom:
            self._judge(folder, {"moment": number, "whom": whom, "what": self.page.what, "stuck": stuck})
        else:
            end_all()
            shutil.rmtree(folder)
        return bool(whom)

    def _start(self, folder: Path, at: int = 0, commands: Sequence[Sequence[str]] = ()) -> int:
        systems = self.work / "trained" / "results" / "systems"
        if systems.is_dir() and not folder.is_dir():
            shutil.copytree(systems, folder / "results" / "systems")
        self.page.watch(folder, at)
        return start(folder, commands or self.commands)

    def _run(self, folder: Path, at: int = 0) -> tuple[int | None, str]:
        code = ended(self._start(folder, at))
        return code, self.page.what

    def _judge(self, folder: Path, trial: dict[str, Any]) -> None:
        """Run once more, while orphans of the killed run may still be there, compare, and write the trial down."""
        code = ended(self._start(folder, commands=AGAIN.get(self.kind, ())))
        end_all()
        found = left(folder)
        if found["runs of W&B"] != self.whole["runs of W&B"] and UNTRACKED in folder.with_suffix(".txt").read_text():
            code = ended(self._start(folder, commands=PUBLISH))
            end_all()
            found = left(folder)
            if isinstance(found["runs of W&B"], list):
                found["runs of W&B"] = [name for name in found["runs of W&B"] if not name.endswith(TRAINING)]
        wrong = [name for name, content in found.items() if content != self.whole[name]]
        wrong += ["stuck when run again"] if code is None else [f"exit code {code}"] if code else []
        wrong += ["stuck after the kill"] if trial.pop("stuck") else []
        if not wrong:
            shutil.rmtree(folder)
        with self.log.open("a", encoding="utf-8") as log:
            line = {"kind": self.kind, **trial, "wrong": wrong, "operations": self.operations}
            log.write(json.dumps(line) + "\n")


def tried(trials: Trials, known: list[dict[str, Any]], points: int | None, moments: int) -> None:
    """Kill at `points` operations spread over a run, None for every one, and at random moments; skip known trials."""
    done = {trial.get("point") for trial in known}
    whole = trials.operations
    if points is None:
        at = 1
        while at in done or trials.point(at):
            at += 1
    else:
        for at in sorted({1 + place * whole // points for place in range(points)} - done):
            trials.point(at)
    done = {trial["moment"] for trial in known if "moment" in trial}
    number = 0
    while len(done) < moments:
        if number not in done and trials.moment(number, random.Random(f"{number} {trials.kind}")):
            done.add(number)
        number += 1


def read(log: Path) -> dict[str, list[dict[str, Any]]]:
    """Trials so far, by kind."""
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for line in log.read_text(encoding="utf-8").splitlines() if log.is_file() else ():
        found[json.loads(line)["kind"]].append(json.loads(line))
    return found


def main() -> None:
    """Run the trials and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path, help="folder of the trials, which go on where they stopped")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--points", type=int, help="file operations to be killed at; without it every single one")
    parser.add_argument("--moments", type=int, default=50, help="random kills of each kind")
    parser.add_argument("--log", type=Path, help="file of the trials so far; trials.jsonl in the folder if not given")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    work = options.work.resolve()
    page, log = preloaded(work), (options.log or work / "trials.jsonl").resolve()
    warm()
    for kind in options.kinds:
        tried(Trials(kind, work, page, log), read(log)[kind], options.points, options.moments)
        if options.out:
            write_table(options.out, read(log))
    raise SystemExit(any(trial["wrong"] for trials in read(log).values() for trial in trials))


def _sampled(points: set[int]) -> str:
    """Choice of the operations that were killed at, if not all were."""
    if not points:
        return ""
    first = max(count for count in range(len(points) + 1) if points.issuperset(range(1, count + 1)))
    return f", the first {first}" + (f" and {len(points) - first} spread over the rest" if len(points) > first else "")


def write_table(path: Path, found: dict[str, list[dict[str, Any]]]) -> None:
    """Write the trials of each kind as a page."""
    from benchmarks.timing import machine, table, write

    found = {kind: trials for kind, trials in found.items() if trials}
    rows = []
    for kind, trials in found.items():
        at, whom = {trial["point"] for trial in trials if "point" in trial}, Counter(trial["whom"] for trial in trials)
        whom.pop("", None)
        count = trials[-1]["operations"]
        points = f"{len(at)}" + (", all" if len(at) >= count else _sampled(at))
        told = ", ".join(f"{count} {who}" for who, count in sorted(whom.items()))
        wrong = sum(bool(trial["wrong"]) for trial in trials)
        rows.append((kind, str(count), points, str(whom.total()), told, str(wrong)))
    head = ("cell", "file operations", "killed at", "random kills", "whom", "failures")
    words = "\n".join(f"- {kind}: `{'; '.join(' '.join(words) for words in KINDS[kind])}`" for kind in found)
    failures = "\n".join(
        f"- {kind}, {trial.get('point', 'random')}, before or after {trial['what']}: {', '.join(trial['wrong'])}"
        for kind, trials in found.items() for trial in trials if trial["wrong"]
    )  # fmt: skip
    text = f"# Kills\n\n{__doc__}\n{machine('cpu')}\n\n{table(head, rows)}\n\n{EARLIER}\n\n{words}\n"
    write(path, text + (f"\nFailures:\n\n{failures}\n" if failures else ""))


if __name__ == "__main__":
    main()
