"""The comparison with ART's PGD on segmentation and detection, written into tasks.md: `python docs/dense_peers.py`.

Needs the extra `art`. Trains a U-Net and a grid detector on the drawn scenes first.
"""

from __future__ import annotations

import functools
import math
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.attacks.evasion.projected_gradient_descent.projected_gradient_descent_numpy import (
    ProjectedGradientDescentNumpy,
)
from art.estimators import BaseEstimator
from art.estimators.estimator import LossGradientsMixin
from benchmark_leaderboard.ranking.statistics import wilson
from benchmark_leaderboard.words.display import interval, percent
from benchmark_plugins.attacks.dense_adversary import DenseAdversary
from benchmark_plugins.attacks.pgd import PGD
from benchmark_plugins.attacks.segpgd import SegPGD
from benchmark_plugins.datasets.scenes import Scenes
from benchmark_plugins.datasets.scenes_boxes import ScenesBoxes
from benchmark_plugins.models.grid_detector import GridDetector
from benchmark_plugins.models.unet import UNet
from marked import filled
from torch import Tensor

from benchmark.api import (
    Attack,
    Dataset,
    DataSpec,
    DenseTask,
    Goal,
    Model,
    Norm,
    SampleRandom,
    Splits,
    Target,
    Threat,
    train_network,
)
from benchmark.system import System

PAGE = Path(__file__).parent / "tasks.md"
MARK = "peers: python docs/dense_peers.py"
EXAMPLES, STEPS = 100, 20
EPS = {"segmentation": Fraction(2, 255), "detection": Fraction(4, 255)}


@dataclass
class Attacked:
    """A trained network with examples that it gets right, x (N, *S), y (N, S, ...), under `task`."""

    network: torch.nn.Module
    task: DenseTask
    x: Tensor
    y: Tensor
    classes: int

    def broken(self, x_adv: Tensor) -> int:
        """Number of examples that are wrong."""
        with torch.no_grad():
            return int(self.task.wrong(self.task.read(self.network(x_adv)), self.y).sum())

    def score(self, x_adv: Tensor) -> float:
        """Mean share of pixels or objects that are right."""
        with torch.no_grad():
            return float(self.task.score(self.task.read(self.network(x_adv)), self.y).mean())


@functools.cache
def fitted(dataset: Dataset, model: Model) -> tuple[torch.nn.Module, Splits]:
    """A network after 12 epochs of Adam, and its data."""
    splits = dataset.load(Path(), offline=True)
    task = splits.spec.task
    assert isinstance(task, DenseTask)
    network = train_network(
        model,
        splits.train,
        splits.spec,
        epochs=12,
        seed=0,
        learning_rate=0.003,
        loss=lambda net, batch: task.loss(net(batch.x), batch.y),
    )
    return network.eval().requires_grad_(False), splits


def prepared(dataset: Dataset, model: Model, goal: str) -> Attacked:
    """The first test scenes that the network gets right under a goal."""
    network, splits = fitted(dataset, model)
    assert isinstance(splits.spec.task, DenseTask)
    task, x, y = splits.spec.task.under(goal), splits.test.x(), splits.test.y
    right = (~task.wrong(task.read(network(x)), y)).nonzero().squeeze(1)[:EXAMPLES]
    return Attacked(network, task, x[right], y[right], splits.spec.classes)


class Estimator(LossGradientsMixin, BaseEstimator):  # type: ignore[misc]
    """Gradient of the task's attack loss, the mean cross-entropy over sites, as ART's PGD asks for it."""

    estimator_params = BaseEstimator.estimator_params

    def __init__(self, of: Attacked) -> None:
        super().__init__(model=None, clip_values=(0.0, 1.0))
        self.of, self.passes = of, 0

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return tuple(self.of.x.shape[1:])

    def predict(self, x: np.ndarray, **_: Any) -> np.ndarray:
        """Outputs (N, S, ...)."""
        return np.asarray(self.of.network(torch.from_numpy(x)))

    def fit(self, *_: Any, **__: Any) -> None:
        """Nothing: it is trained."""

    def loss_gradient(self, x: np.ndarray, y: np.ndarray, **_: Any) -> np.ndarray:
        """Gradient of the sum over examples, (N, *S); `y` holds the labels, flattened."""
        leaf = torch.from_numpy(x).requires_grad_(True)
        labels = torch.from_numpy(y).reshape(len(x), *self.of.y.shape[1:])
        loss = self.of.task.over_sites(cross_entropy, self.of.network(leaf), labels).sum()
        self.passes += len(x)
        return np.asarray(torch.autograd.grad(loss, leaf)[0])


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Per row, (n,)."""
    return torch.nn.functional.cross_entropy(scores, labels, reduction="none")


def by_art(of: Attacked, eps: float) -> tuple[Tensor, float]:
    """Candidates of ART's PGD from the input, and gradients per example."""
    estimator = Estimator(of)
    attack = ProjectedGradientDescentNumpy(
        estimator, eps=eps, eps_step=2.5 * eps / STEPS, max_iter=STEPS, batch_size=EXAMPLES, verbose=False
    )
    x_adv = attack.generate(of.x.numpy(), y=of.y.numpy())
    return torch.from_numpy(x_adv), estimator.passes / len(of.x)


def by_plugin(attack: Attack, of: Attacked, eps: Fraction) -> tuple[Tensor, float]:
    """Candidates of a plugin, and gradients per example."""
    threat = Threat(Norm.linf, eps, goal=Goal(of.task.goal))
    rng = SampleRandom(0, torch.arange(len(of.x)))
    system = System(of.network, DataSpec(tuple(of.x.shape[1:]), of.classes, task=of.task))
    target = Target(system, rng=rng, classes=of.classes, task=of.task, goal=threat.goal)
    x_adv = attack.perturb(target, of.x, of.y, threat=threat, rng=rng)
    assert bool(threat.around(of.x, rng).audit(x_adv).inside.all())
    return x_adv, float(target.ledger.backwards.double().mean())


def attacks(task: str, eps: float) -> dict[str, Attack | None]:
    """Attacks of at most STEPS steps by name; None for ART's."""
    found: dict[str, Attack | None] = {
        "ART, PGD": None,
        "pgd from the input": PGD(steps=STEPS, random_start=False, stop_on_success=False),
        "pgd": PGD(steps=STEPS),
        "dense_adversary": DenseAdversary(steps=STEPS, gamma=2.5 * eps / STEPS),
    }
    return {**found, "segpgd": SegPGD(steps=STEPS)} if task == "segmentation" else found


def table() -> str:
    """Broken scenes by task and attack, in Markdown."""
    lines = [
        "| task, goal, linf | attack | gradients | broken (95 %) | pixels or objects right |",
        "|---|---|---|---|---|",
    ]
    cases: list[tuple[Dataset, Model, str]] = [(Scenes(), UNet(), "untargeted")]
    cases += [(ScenesBoxes(), GridDetector(), goal) for goal in ("vanishing", "mislabeling", "untargeted")]
    for dataset, model, goal in cases:
        of = prepared(dataset, model, goal)
        eps = EPS[of.task.name]
        for name, attack in attacks(of.task.name, float(eps)).items():
            x_adv, passes = by_art(of, float(eps)) if attack is None else by_plugin(attack, of, eps)
            hits, count = of.broken(x_adv), len(of.x)
            share = f"{percent(hits / count)} ({interval(*wilson(hits, count))})"
            right = percent(of.score(x_adv))
            lines.append(f"| {of.task.name}, {goal}, {eps} | {name} | {math.ceil(passes)} | {share} | {right} |")
            sys.stdout.write(lines[-1] + "\n")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), {MARK: table()}), encoding="utf-8")
