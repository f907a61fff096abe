"""Time of a gradient by the number of examples that ask for it, beside one bare pass of just so many rows.

`python -m benchmarks.small_batches --out benchmarks/results/small_batches.md`. Passes of few rows are padded, so that
the bits of an example do not depend on its batch, and passes of many are cut into pieces that fit the caches
(benchmark/system/rows.py): the table shows what that takes, and saves, and what the rest costs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmark import registry
from benchmark.data import DataSpec
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.system.target import Target
from benchmarks.timing import alternate, machine, ratio, table, write

NETWORKS = (
    ("small_cnn", (1, 8, 8), 30),
    ("lenet", (1, 28, 28), 30),
    ("resnet", (3, 32, 32), 3),
)
"""Models with random weights, the shape of their inputs, and rounds of the measurement."""

COUNTS = (1, 2, 3, 4, 5, 8, 13, 16, 32, 33, 45, 128)
LARGE = {"small_cnn": (65, 100, 512, 1024), "lenet": (65, 100, 512, 1024), "resnet": ()}

HEAD = ("network", "examples", "rows computed", "time / bare pass", "goal 1.2", "padding alone", "first pass", "before")
GOAL = 1.2
ENOUGH = 70
"""Passes after which a number of rows itself has been compared with a full pass."""

SAID = """\
A gradient of the loss through a target, with what the harness does around it, by the time of the model's own forward
and backward pass on as many rows. Padding alone: the bare pass of the rows that are computed; the rest is the harness
in Python. First pass: with a new target, which also looks for gradients that are zero. Before: a first pass, with every
pass padded to a multiple of 32 rows, and none cut. Networks have random weights; medians of CPU seconds, taken in turn
but for those of before, whose wide passes empty the caches, after as many passes as make a comparison with a full pass
worth it. Fewer than four rows give other bits than a full pass on this processor, so that one example cannot take less
than a pass of four.
"""


def _loss(logits: Tensor) -> Tensor:
    return logits[:, 0]


def bare(model: nn.Module, x: Tensor) -> Tensor:
    """Gradient of the loss, (B, *S), by the model alone."""
    leaf = x.clone().requires_grad_(True)
    return torch.autograd.grad(_loss(model(leaf)).sum(), leaf)[0]


def several(model: nn.Module, pieces: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of several passes by the model alone."""
    return [bare(model, x) for x in pieces]


def through(target: Target, x: Tensor) -> Tensor:
    """The same through a target."""
    return target.gradient(x, _loss)[0]


def first(system: System, x: Tensor) -> Tensor:
    """The same through a new target."""
    return through(Target(system, rng=SampleRandom(0, torch.arange(len(x))), classes=system.spec.classes), x)


def computed(system: System, x: Tensor) -> list[int]:
    """Rows of each pass for `x` (B, *S), with padding."""
    return [system.rows_of_a_pass(x[:rows]) for rows in system.cut(x)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    lines: list[list[object]] = []
    for name, shape, rounds in NETWORKS:
        spec = DataSpec(shape, 10)
        model = registry.load("model", name)().build(spec).eval().requires_grad_(False)  # type: ignore[attr-defined]
        narrow, wide = System(model, spec), System(model, spec)
        wide._narrow = None
        for count in (*COUNTS, *LARGE[name]):
            x = torch.rand(count, *shape)
            target = Target(narrow, rng=SampleRandom(0, torch.arange(count)), classes=10)
            for _ in range(ENOUGH):
                sizes = computed(narrow, x)
            runs: dict[str, Callable[[], object]] = {
                "bare": partial(bare, model, x),
                "ours": partial(through, target, x),
                "first": partial(first, narrow, x),
                "padding": partial(several, model, [torch.rand(rows, *shape) for rows in sizes]),
            }
            turns = rounds if count <= max(COUNTS) else rounds // 3
            times = alternate(runs, turns)
            ours, *others = (ratio(times, name, "bare") for name in ("ours", "padding", "first"))
            wider = alternate({"bare": runs["bare"], "before": partial(first, wide, x)}, turns)
            others.append(ratio(wider, "before", "bare"))
            shown = " + ".join(str(rows) for rows in sizes) if len(sizes) < 4 else f"{len(sizes)} of {sizes[0]}"
            lines.append([name, count, shown, ours, "met" if ours <= GOAL else "missed", *others])
            print(*lines[-1], sep=" | ", flush=True)
    write(options.out, f"# Gradients of few examples\n\n{SAID}\n{table(HEAD, lines)}\n\n{machine('cpu')}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
