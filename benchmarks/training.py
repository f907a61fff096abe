"""The cost of training a defense, in bare passes of its network, and its memory beside plain training's.

`python -m benchmarks.training --out benchmarks/results/training.md` trains by Lightning as a run does, epochs in turn
with the bare passes of the same batches, each recipe in a process of its own; ends with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark import registry
from benchmark.data import Examples
from benchmark.stages.devices import largest_resident
from benchmark.stages.fit import build_model
from benchmark.stages.fitting import Fitting
from benchmark.stages.load import load_data
from benchmark.stages.training import train
from benchmarks.subjects import configured
from benchmarks.timing import machine, table, write

HEAD = (
    "network",
    "recipe",
    "epoch / bare passes",
    "at most",
    "peak memory / plain",
    "at most",
    "bare passes of a batch",
)
MOST_MEMORY = 1.5
STEPS = 10


@dataclass(frozen=True)
class Recipe:
    """A defense and its passes over a batch.

    slopes: gradients with respect to the input, in evaluation mode. forwards: passes without a gradient. steps: forward
    and backward passes with gradients of the weights. small, large: most that an epoch may take of its bare passes, on
    the small network and on ResNet-18; None to measure only.
    """

    defenses: tuple[tuple[str, dict[str, Any]], ...]
    slopes: int
    forwards: int
    steps: int
    small: float | None = None
    large: float | None = None


def _pgd() -> Any:
    made: Any = registry.load("attack", "pgd")
    return made(steps=STEPS, stop_on_success=False)


RECIPES: dict[str, Callable[[], Recipe]] = {
    "plain": lambda: Recipe((), 0, 0, 1),
    "PGD, 10 steps": lambda: Recipe(
        (("adversarial_training", {"attack": _pgd(), "ratio": 1.0}),), STEPS, 0, 1, 1.25, 1.10
    ),
    "TRADES, 10 steps": lambda: Recipe(
        (("adversarial_training", {"objective": "trades", "steps": STEPS}),), STEPS, 1, 2, 1.25, 1.10
    ),
    "fast (RS-FGSM)": lambda: Recipe((("adversarial_training", {"maximization": "rs_fgsm", "ratio": 1.0}),), 1, 0, 1),
    "PGD with weight perturbation": lambda: Recipe(
        (("adversarial_training", {"attack": _pgd(), "ratio": 1.0}), ("weight_perturbation", {})), STEPS, 0, 2
    ),
    "intervals (IBP)": lambda: Recipe((("certified_training", {"ramp": 0}),), 0, 0, 1, 2.5, None),
}

NETWORKS: dict[str, tuple[tuple[str, ...], int, int]] = {
    "small_cnn": (("dataset=digits", "model=small_cnn"), 64, 12),
    "ResNet-18": (
        ("dataset=synthetic", "dataset.shape=[3,32,32]", "dataset.train=32", "dataset.select=4", "dataset.test=4",
         "model=resnet", "training.batch_size=16"),
        16,
        4,
    ),
}  # fmt: skip
"""How each network is configured, rows of a batch, and epochs."""


def _made(name: str, settings: dict[str, Any]) -> Any:
    """A defense from its name and settings; options are given by the names of their values."""
    kind: Any = registry.load("defense", name)
    module = sys.modules[kind.__module__]
    options = {"objective": "Objective", "maximization": "Maximization"}
    return kind(**{k: getattr(module, options[k])(v) if k in options else v for k, v in settings.items()})


def measure(network: str, recipe: str, bare_too: bool) -> dict[str, float]:
    """In one process: median CPU seconds of an epoch and of its bare passes, and the highest memory in MiB."""
    torch.set_num_threads(1)
    overrides, rows, count = NETWORKS[network]
    plan = RECIPES[recipe]()
    with tempfile.TemporaryDirectory() as folder:
        config = configured(Path(folder), *overrides, f"training.epochs={count if bare_too else 2}")
        loaded = load_data(config.dataset, config.store, config.examples)
        model = build_model(config.system_spec, loaded.splits.spec)
        defenses = tuple(_made(*entry) for entry in plan.defenses)
        for defense in defenses:
            model = defense.build(model, loaded.splits.spec)
        ends: list[float] = []
        alone: list[float] = []

        def between(_values: dict[str, float]) -> None:
            begun = time.process_time()
            ends.append(begun)
            if bare_too:
                _bare(model, loaded.splits.train, rows, plan)
            alone.append(time.process_time() - begun)

        before = largest_resident()
        threats = [t for t in (d.training_threat() for d in defenses) if t is not None]
        fitting = Fitting(
            model, loaded.splits.spec, loaded.splits.train, None, config.training, defenses,
            threats[-1] if threats else None, 0, Path(folder) / "training",
        )  # fmt: skip
        train(fitting, config.trainer, between)
        highest = largest_resident()
    whole = [b - a - taken for a, b, taken in zip(ends, ends[1:], alone, strict=False)]
    return {
        "epoch": statistics.median(whole),
        "bare": statistics.median(alone[:-1]),
        "mib": (highest - before) / 2**20,
    }


def _bare(model: nn.Module, examples: Examples, rows: int, plan: Recipe) -> None:
    """The passes of an epoch, and one optimiser step for each batch that changes nothing."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0)
    for at in torch.arange(len(examples)).split(rows):
        x, y = examples.x(at), examples.y[at]
        model.eval()
        for _ in range(plan.slopes):
            leaf = x.clone().requires_grad_()
            torch.autograd.grad(_loss(model, leaf, y), leaf)
        with torch.no_grad():
            for _ in range(plan.forwards):
                model(x)
        model.train()
        optimizer.zero_grad()
        for _ in range(plan.steps):
            _loss(model, x, y).backward()
        optimizer.step()


def _loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x), y)


def child(network: str, recipe: str, bare_too: bool) -> dict[str, float]:
    """`measure` in a fresh process."""
    code = f"import json, benchmarks.training as t; print(json.dumps(t.measure{(network, recipe, bare_too)!r}))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    values: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return values


def rows_of(network: str) -> list[tuple[list[object], bool]]:
    """Rows of the table for a network, each with whether it meets its targets."""
    made = []
    plain = child(network, "plain", False)["mib"]
    for name, recipe in RECIPES.items():
        plan = recipe()
        cost, memory = child(network, name, True), child(network, name, False)["mib"]
        most = plan.small if network == "small_cnn" else plan.large
        ratio, share = cost["epoch"] / cost["bare"], memory / plain
        passes = " + ".join(
            f"{count} {what}"
            for count, what in (
                (plan.slopes, "input gradient"),
                (plan.forwards, "forward"),
                (plan.steps, "weight gradient"),
            )
            if count
        )
        limit = MOST_MEMORY if network != "small_cnn" else None
        good = (most is None or ratio <= most) and (limit is None or share <= limit)
        row: list[object] = [
            network,
            name,
            ratio,
            "-" if most is None else most,
            share,
            "-" if limit is None else limit,
            passes,
        ]
        print(*row, f"{cost['epoch']:.2f} s, {memory:.0f} and {plain:.0f} MiB", sep=" | ", flush=True)
        made.append((row, good))
    return made


SAID = """\
An epoch by Lightning, as a run trains, divided by the forward and backward passes of the same batches and an optimiser
step each; median of epochs in turn, CPU time of one thread, without the choice between epochs. Memory is the highest
above the start of training, of a process that makes no bare passes; on the small network it is a few MiB of buffers,
and has no target. Intervals: the bare pass is the clean one."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=tuple(NETWORKS), default=tuple(NETWORKS))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = [row for network in options.only for row in rows_of(network)]
    rows = [row for row, _ in found]
    write(options.out, f"# The cost of training a defense\n\n{SAID}\n\n{table(HEAD, rows)}\n\n{machine('cpu')}")
    return 0 if all(good for _, good in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
