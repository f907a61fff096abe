"""Cost of the guards of a cell: probes of the system, the leak check, and the examples that are attacked again.

`python -m benchmarks.guards --out benchmarks/results/guards.md`; a cell is run whole, with the time and the rows that
pass through its system noted inside the guards and in all. The system is trained beforehand.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmark import run as running
from benchmark.run import run
from benchmark.stages import slopes
from benchmark.system import System, passes
from benchmark.system import system as plain
from benchmark.system.rows import padded
from benchmarks.subjects import configured
from benchmarks.timing import clock, machine, table, write

HEAD = (
    "cell",
    "rows asked",
    "by guards",
    "at most 5 %",
    "further cell",
    "CPU s",
    "with / without guards",
    "at most",
)

DIGITS = ("dataset=digits", "model=small_cnn", "threat.eps=1/10")
RESNET = ("dataset=synthetic", "dataset.shape=[3,32,32]", "dataset.classes=2", "dataset.train=240", "dataset.select=20",
          "model=resnet", "training.epochs=3", "threat.eps=1/255")  # fmt: skip
CELLS: tuple[tuple[str, tuple[str, ...], float], ...] = (
    ("digits, FGSM", (*DIGITS, "attack=fgsm"), 1.25),
    ("digits, PGD", (*DIGITS, "attack=pgd"), 1.25),
    ("digits, APGD towards classes", (*DIGITS, "attack=apgd_margin_targeted"), 1.25),
    ("digits, FMN", (*DIGITS, "attack=fmn"), 1.25),
    ("digits, Square", (*DIGITS, "attack=square", "attack.queries=1000"), 1.25),
    ("ResNet-18, FGSM, 64 examples", (*RESNET, "dataset.test=64", "attack=fgsm"), 1.05),
    ("ResNet-18, PGD of 10 steps, 256", (*RESNET, "dataset.test=256", "attack=pgd", "attack.steps=10"), 1.05),
)
"""Cells by name, how they are configured, and the share of the time without guards that they may take."""


SAID = """\
Rows are counted as they are asked for, forward, as the ledger of an attack counts them; padding is not. The probes
are made in the first cell of a system and list of examples; its further cells take their outcome from the store, and
only attack a sample again: 2 % of the examples, eight at least. Digits: 500 examples.

Time counts padding: to a multiple of four rows where the operators of a network are exact (benchmark/system/rows.py),
else of 32. What is tried to know it (a pass of 32 rows, and one of each number of rows, for each architecture and
process) counts among the guards where a guard is the first to ask. Shares fade with the examples and their passes:
eight examples attacked again are an eighth of 64, however cheap.
"""


@dataclass
class Meter:
    """Rows that passed through systems, and seconds: in all, and inside the guards."""

    rows: int = 0
    guarded_rows: int = 0
    seconds: float = 0.0
    guarded_seconds: float = 0.0

    @property
    def share(self) -> float:
        """The guards' part of the rows."""
        return self.guarded_rows / self.rows


@contextmanager
def metered() -> Iterator[Meter]:
    """Note what cells cost meanwhile."""
    meter, now = Meter(), clock("cpu")
    whole, guards = System.forward, running._findings
    asked: list[int] = []

    def noting(x: torch.Tensor, rows: int | None = None) -> torch.Tensor:
        if x.ndim > 1:  # the numbers of the rows are padded too
            asked[:] = [len(x)]
        return padded(x, rows)

    def passing(system: System, x: torch.Tensor) -> torch.Tensor:
        meter.rows += asked.pop() if asked else len(x)
        return whole(system, x)

    def guarding(*arguments: Any) -> Any:
        rows, begun = meter.rows, now()
        found = guards(*arguments)
        meter.guarded_rows += meter.rows - rows
        meter.guarded_seconds += now() - begun
        return found

    with ExitStack() as stack:
        for module in (plain, passes, slopes):
            stack.enter_context(mock.patch.object(module, "padded", noting))
        stack.enter_context(mock.patch.object(System, "forward", passing))
        stack.enter_context(mock.patch.object(running, "_findings", guarding))
        begun = now()
        yield meter
        meter.seconds = now() - begun


def measured(store: Path, name: str, overrides: tuple[str, ...], limit: float) -> tuple[list[object], bool]:
    """A line of the table, and whether its limits are kept, by the first cell of a system."""
    plain = [word for word in overrides if not word.startswith("attack")]
    run(configured(store, *plain, "attack=none"))  # trains, and warms up
    meters = []
    for known in (store / "systems").glob("*/probed-*.json"):
        known.unlink()
    for further in ((), ("threat.eps=1/50",)):
        with metered() as meter:
            result = run(configured(store, *overrides, *further))
        assert result.status == "complete", result.error
        meters.append(meter)
    first, other = meters
    longer = first.seconds / (first.seconds - first.guarded_seconds)
    kept = first.share <= 0.05, longer <= limit
    line: list[object] = [name, first.rows, f"{100 * first.share:.1f} %", "yes" if kept[0] else "no"]
    line += [f"{100 * other.share:.1f} %", f"{first.seconds:.1f}", f"{longer:.3f}"]
    return [*line, f"{limit} {'yes' if kept[1] else 'no'}"], all(kept)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--only", nargs="+", default=[""])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines, good = [], True
    with tempfile.TemporaryDirectory() as folder:
        for name, overrides, limit in CELLS:
            if any(part in name for part in options.only):
                line, kept = measured(options.store or Path(folder), name, overrides, limit)
                print(*line, sep=" | ", flush=True)
                lines.append(line)
                good = good and kept
    write(options.out, f"# What the guards cost\n\n{SAID}\n{table(HEAD, lines)}\n\n{machine('cpu')}")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
