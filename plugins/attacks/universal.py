"""Universal perturbation by gradients over many examples. Shafahi et al., AAAI 2020, arXiv:1811.11304, algorithm 2."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Ball, Norm, PreparedAttack, SampleRandom, Supports, Target, Threat, hookimpl

from ._ascent.universal import batches, cross_entropy, epochs_within, goals
from ._base.projections import within
from ._base.settings import check_at_least, check_positive


@dataclass(frozen=True)
class Universal(PreparedAttack):
    """One perturbation for all examples, prepared from examples of the training split.

    Steepest ascent of the mean cross-entropy, clipped so that no single example dominates it; under a targeted threat
    one perturbation for each label, by descent of its cross-entropy. Difference from the paper: examples are not
    shuffled.

    epochs: passes over the examples. batch: examples averaged per step.
    step_size: in the threat's norm; None for eps / 10. clip: cross-entropy above which an example no longer
    contributes; None for 1.3 times that of a uniform prediction, which is the paper's 9 for 1000 classes.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.linf, Norm.l2}), targeted=True)

    epochs: int = 20
    batch: int = 50
    step_size: float | None = None
    clip: float | None = None

    def __post_init__(self) -> None:
        check_at_least(1, examples=self.examples, epochs=self.epochs, batch=self.batch)
        check_positive(step_size=self.step_size, clip=self.clip)

    def prepare(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> dict[str, Tensor]:
        """`epochs` forward and backward passes per example, under a targeted threat per target label."""
        wanted = goals(target, threat)
        epochs = epochs_within(target, self.epochs, len(wanted))
        train = partial(
            universal,
            target,
            y,
            ball=threat.around(x, rng),
            epochs=epochs,
            batch=self.batch,
            step_size=self.step_size or threat.radius / 10.0,
            clip=self.clip or 1.3 * math.log(target.classes),
        )
        return {"delta": torch.stack([train(goal=goal) for goal in wanted])}

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Examples plus the perturbation, in box and region. No pass through the system."""
        delta = target.prepared["delta"].to(x.dtype)
        return threat.around(x, rng).project(x + (delta[y] if threat.targeted else delta))


def universal(
    target: Target,
    y: Tensor,
    *,
    ball: Ball,
    goal: int | None,
    epochs: int,
    batch: int,
    step_size: float,
    clip: float,
) -> Tensor:
    """Perturbation (*S) in the ball of the norm that makes examples leave their labels `y` (N,), or reach `goal`."""
    delta = torch.zeros_like(ball.x[:1])
    radius = torch.full((1,), ball.eps, dtype=delta.dtype, device=delta.device)
    labels = y if goal is None else torch.full_like(y, goal)
    for _ in range(epochs):
        for index in batches(y, goal, batch):
            here = ball.rows(index)
            loss = partial(_gain, labels[index], clip, goal is not None)
            gradient, _, _ = target.rows(index).gradient(here.project(here.x + delta), loss)
            mean = gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).mean(0, keepdim=True)
            step = Ball(delta, ball.norm, ball.eps).steepest(mean)
            delta = within(delta + step_size * step, radius, ball.norm)
    return delta[0]


def _gain(y: Tensor, clip: float, targeted: bool, logits: Tensor) -> Tensor:
    """Cross-entropy of `y`, at most `clip`, (B,); the negative of it if `y` is a target."""
    value = cross_entropy(logits, y)
    return -value if targeted else value.clamp_max(clip)


@hookimpl
def benchmark_component() -> type[PreparedAttack]:
    """The plugin."""
    return Universal
