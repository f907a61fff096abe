"""Time of a gradient by the number of examples that ask for it, beside one bare pass of just so many rows.

`python -m benchmarks.small_batches --out benchmarks/results/small_batches.md`. Passes of few rows are padded, so that
the bits of an example do not depend on its batch, and passes of many are cut into pieces that fit the caches
(benchmark/system/rows.py): the table shows what that takes, and saves.
"""

from __future__ import annotations

import argparse
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
    ("resnet", (3, 32, 32), 5),
)
"""Models with random weights, the shape of their inputs, and rounds of the measurement."""

COUNTS = (1, 2, 3, 4, 8, 13, 16, 32, 128)
LARGE = {"small_cnn": (512, 1024), "lenet": (512, 1024), "resnet": ()}

HEAD = ("network", "examples", "rows computed at once", "time / bare pass", "before")

SAID = """\
A gradient of the loss through a target, with what the harness does around it, by the time of the model's own forward
and backward pass on as many rows. Before: with every pass padded to a multiple of 32 rows, and none cut. Networks have
random weights; medians of CPU seconds, taken in turn.
"""


def _loss(logits: Tensor) -> Tensor:
    return logits[:, 0]


def bare(model: nn.Module, x: Tensor) -> Tensor:
    """Gradient of the loss, (B, *S), by the model alone."""
    leaf = x.clone().requires_grad_(True)
    return torch.autograd.grad(_loss(model(leaf)).sum(), leaf)[0]


def asked(system: System, x: Tensor) -> Tensor:
    """The same through a target."""
    target = Target(system, rng=SampleRandom(0, torch.arange(len(x))), classes=system.spec.classes)
    return target.gradient(x, _loss)[0]


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
            runs = {
                "bare": partial(bare, model, x),
                "ours": partial(asked, narrow, x),
                "before": partial(asked, wide, x),
            }
            times = alternate(runs, rounds if count <= max(COUNTS) else rounds // 3)
            at_once = narrow.rows_of_a_pass(x[: narrow.rows_at_once(x)])
            lines.append([name, count, at_once, ratio(times, "ours", "bare"), ratio(times, "before", "bare")])
            print(*lines[-1], sep=" | ", flush=True)
    write(options.out, f"# Gradients of few examples\n\n{SAID}\n{table(HEAD, lines)}\n\n{machine('cpu')}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
