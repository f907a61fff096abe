"""Our attacks beside every library that has them: how strong, how fast, how many passes.

python -m benchmarks.attacks [--out FILE] [--device cuda] [--only NAME ...] [--missing] [--rounds 3] ends with 1 if ours
is weaker than a peer whose algorithm is right, or a target is missed. Rows are kept in the store, so that the page is
made of all that were measured, in however many parts.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.stages.judge import judge
from benchmark.threat import Goal
from benchmarks.attack_cases import SYSTEMS, Case, cases
from benchmarks.inside import FEW, SHARES, inside_the_model, queries
from benchmarks.passes import again, noted
from benchmarks.peers import Attacker, offers
from benchmarks.subjects import Batch, Subject, subject
from benchmarks.timing import alternate, clock, machine, ratio, table, write

PATIENCE = 2.0
"""Seconds: what takes longer is timed once."""
QUICK, OFTEN = 0.5, 4
"""Where ours takes less than so many seconds, there are so many times the rounds."""
HEAD = (
    "attack",
    "norm",
    "system",
    "ours",
    "trusted peers",
    "other peers",
    "as strong",
    "time / fastest trusted",
    "target",
    "met",
    "time / own passes",
    "target",
    "met",
    "passes",
    "defined",
    "measured (UTC)",
)


@dataclass
class Strength:
    """The strength of an attack, run by run: a share of robust examples or a median distance.

    outside: how many candidates were not allowed. missed: how many had no distance, being no success.
    """

    values: list[float] = field(default_factory=list)
    outside: int = 0
    missed: int = 0

    @property
    def value(self) -> float:
        return statistics.mean(self.values) if all(map(math.isfinite, self.values)) else math.inf

    def words(self, *, far: bool) -> str:
        value = f"{self.value:.4f}" if far else f"{self.value:.1%}"
        more = [f"{self.missed} failed"] * bool(self.missed) + [f"{self.outside} outside"] * bool(self.outside)
        return value + (f" ({', '.join(more)})" if more else "")


def strength(subject: Subject, batch: Batch, case: Case, goal: Tensor | None, found: Sequence[Tensor]) -> Strength:
    """Judge the candidates of several runs."""
    far, result = case.mine.supports.minimal, Strength()
    ball = case.threat.around(batch.x, batch.rng)
    for x_adv in found:
        verdict = judge(
            subject.system,
            ball,
            x_adv.detach().to(batch.x),
            batch.y,
            goal,
            batch.rng,
            minimal=far,
            bounded=case.mine.supports.bounded,
        )
        if far:
            result.values.append(float(verdict.distances[case.norm].double().median()))
            result.missed = max(result.missed, int((~verdict.adversarial).sum()))
        else:
            result.values.append(float((~verdict.broken).double().mean()))
        result.outside = max(result.outside, int((~verdict.valid).sum()))
    return result


def row(case: Case, place: int, name: str, subject: Subject, rounds: int, device: str) -> tuple[list[object], bool]:
    """A line of the table, and whether it is as it should be."""
    batch = subject.first(case.examples, correct=True)
    classes = subject.system.spec.classes
    goal = None if case.goal is Goal.untargeted else (batch.y + 1) % classes
    candidates: dict[str, list[Tensor]] = {}
    spent: list[tuple[float, float]] = []
    notes: list[str] = []

    def mine() -> Tensor:
        target = subject.target(batch)
        rng = batch.rng.child("round", len(spent))
        x_adv = case.mine.perturb(target, batch.x, batch.y if goal is None else goal, threat=case.threat, rng=rng)
        ledger = target.ledger
        spent.append((float(ledger.forwards.double().mean()), float(ledger.backwards.double().mean())))
        return x_adv

    def kept(label: str, make: Callable[[], Tensor]) -> Callable[[], object]:
        return lambda: candidates.setdefault(label, []).append(make())

    runs = {"ours": kept("ours", mine)}
    offered: dict[str, Attacker] = {}
    for library, build in offers(case.attack, case.norm).items():
        try:
            offered[library] = build(subject.system, case.budget)
            torch.manual_seed(0)
            offered[library](batch.x[:2].clone(), batch.y[:2].clone())
        except Exception as error:
            notes.append(f"{library} raised {type(error).__name__}")
            offered.pop(library, None)
    for library, attacker in offered.items():
        runs[library] = kept(library, lambda attacker=attacker: attacker(batch.x.clone(), batch.y.clone()))  # type: ignore[misc]
    seconds = clock(device)
    begun = seconds()
    with noted(subject.system) as passes:
        mine()
    runs["passes"] = again(subject.system, batch.x, passes)
    rounds *= OFTEN if seconds() - begun < QUICK else 1
    times = alternate(runs, rounds, device, PATIENCE)
    subject.system.eval()

    far = case.mine.supports.minimal
    found = {label: strength(subject, batch, case, goal, made) for label, made in candidates.items()}
    trusted = [library for library in offered if library in case.trusted]
    others = [library for library in offered if library not in case.trusted]
    best = min((found[library].value for library in trusted), default=math.inf)
    slack = 1 / len(batch.y) * (2 if case.random else 1)
    strong = found["ours"].value <= (best * 1.01 + 1e-9 if far else best + slack + 1e-9)
    forwards, backwards = (statistics.mean(values) for values in zip(*spent, strict=True))
    own = ratio(times, "ours", "passes")
    fastest = min(trusted, key=lambda library: ratio(times, library, "ours"), default=None)
    against = math.nan if fastest is None else ratio(times, "ours", fastest)
    target = case.most[place]
    good = (
        strong and (target is None or fastest is None or against <= target) and (case.bare is None or own <= case.bare)
    )

    def words(library: str) -> str:
        return f"{library} {found[library].words(far=far)} x{ratio(times, library, 'ours'):.2f}"

    cells: list[object] = [
        f"{case.name} ({len(batch.y)})",
        case.norm,
        name,
        found["ours"].words(far=far),
        ", ".join(map(words, trusted)) or "-",
        ", ".join([*map(words, others), *notes]) or "-",
        "-" if not trusted else "yes" if strong else "NO",
        "-" if fastest is None else f"{against:.2f}",
        "-" if target is None else f"{target:.2f}",
        "-" if target is None or fastest is None else "yes" if against <= target else "NO",
        f"{own:.2f}",
        "-" if case.bare is None else f"{case.bare:.2f}",
        "-" if case.bare is None else "yes" if own <= case.bare else "NO",
        f"{forwards:.0f}+{backwards:.0f}",
        "-" if case.passes is None else f"{case.passes[0]:.0f}+{case.passes[1]:.0f}",
    ]
    return cells, good


class Kept:
    """Rows as they were last measured, in a file. A row is a table's name and its own: its cells and verdict."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.rows = self._read()

    def _read(self) -> dict[str, dict[str, Any]]:
        """The rows in the file now: another process may measure other rows."""
        rows: dict[str, dict[str, Any]] = json.loads(self._file.read_text("utf-8")) if self._file.is_file() else {}
        return rows

    def add(self, key: str, cells: list[object], good: bool) -> None:
        """Print a row and keep it, with the time."""
        cells = [*cells, datetime.now(UTC).strftime("%Y-%m-%d %H:%M")]
        print(*cells, sep=" | ", flush=True)
        self.rows = self._read()
        self.rows[key] = {"cells": [str(cell) for cell in cells], "good": good}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(self.rows, indent=1), "utf-8")

    def of(self, keys: Sequence[str]) -> list[dict[str, Any]]:
        """The measured ones of these rows, in this order."""
        return [self.rows[key] for key in keys if key in self.rows]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=Path("results"))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="cases whose name contains one of these")
    parser.add_argument("--missing", action="store_true", help="measure only what the store has no row of")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = Kept(options.store / "benchmarks" / f"attacks_{options.device}.json")

    def wanted(name: str, key: str) -> bool:
        named = not options.only or any(word.lower() in name.lower() for word in options.only)
        return named and not (options.missing and key in kept.rows)

    compared = [(f"{case.name}/{case.norm}/{name}", case, name) for case in cases() for name in case.systems]
    trained = {name: subject(options.store, options.device, *words) for name, words in SYSTEMS.items()}
    for key, case, name in compared:
        if wanted(case.name, key):
            place = 1 if name == "adv" else 0
            kept.add(key, *row(case, place, name, trained[name], options.rounds, options.device))
    todo = (options.store, options.device, lambda name: wanted(name, f"inside/{name}"))
    for name, cells, good in inside_the_model(*todo):
        kept.add(f"inside/{name}", cells, good)
    rows, shares = kept.of([key for key, *_ in compared]), kept.of([f"inside/{name}" for name in queries()])
    write(
        options.out,
        PAGE.format(
            rounds=options.rounds,
            often=options.rounds * OFTEN,
            quick=QUICK,
            patience=PATIENCE,
            few=FEW,
            rows=table(HEAD, [kept_row["cells"] for kept_row in rows]),
            shares=table(SHARES, [kept_row["cells"] for kept_row in shares]),
            machine=machine(options.device),
        ),
    )
    return 0 if all(kept_row["good"] for kept_row in (*rows, *shares)) else 1


PAGE = """# Our attacks and the peers'

`small_cnn` on 8 x 8 digits, undefended (std) and adversarially trained (adv), or on made-up colour images of that size
(colour): same weights, same inputs (the first that the system gets right; their number is in brackets), same budget.
Strength is the harness's own verdict on every candidate: the share that stays right (radius, unless said: linf 1/10,
l2 1/2, l1 2, l0 1), or the median distance where the smallest perturbation is sought, as means over the runs, with
other random numbers in each; candidates outside box or ball count as failures. "as strong": not weaker than the best
trusted peer by more than one example (two where the attack is random), or one percent of the distance. A peer is
trusted where its algorithm is right; others are shown for comparison. "x": its time divided by ours. Times are medians
of {rounds} runs ({often} where ours takes less than {quick} s) that take turns in one process after a warm-up; what
takes longer than {patience:.0f} s is run once. "own passes": the passes that ours made, again without the attack, in
batches of the same sizes: what is left of a batch when most of its examples are finished costs more per example than
the whole. "passes": forward + backward, per example; "defined": by the attack's definition, for an example that is
never broken.

{machine}

{rows}

## Query attacks on ResNet-18, 3 x 32 x 32

The share of their time inside the model: batches of 16, random weights, at most {few} queries each, one run.

{shares}"""


if __name__ == "__main__":
    raise SystemExit(main())
