"""Universal adversarial perturbation. Moosavi-Dezfooli, Fawzi, Fawzi & Frossard, CVPR 2017, arXiv:1610.08401."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Ball, ConfigError, Norm, PreparedAttack, SampleRandom, Supports, Target, Threat, hookimpl

from ._base.active import Active
from ._base.budget import can_ask
from ._base.projections import within
from ._base.settings import check_at_least
from .deepfool import deepfool


@dataclass(frozen=True)
class UAP(PreparedAttack):
    """One perturbation for all examples: accumulated minimal perturbations of unbroken examples (algorithm 1).

    For one example after the other, DeepFool searches for the smallest change that takes the perturbed example to
    another label than the clean prediction; the sum is projected onto the ball. Differences from the paper: examples
    are not shuffled, the step to a boundary accounts for the box [0, 1], and the perturbation with the most fooled
    examples at the end of an epoch is kept.

    epochs: most passes over the examples. fooling: share of fooled examples at which to stop.
    steps, overshoot, candidates: of DeepFool, see there.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.linf, Norm.l2}))

    examples: int = 200
    epochs: int = 3
    fooling: float = 0.8
    steps: int = 10
    overshoot: float = 0.02
    candidates: int = 10

    def __post_init__(self) -> None:
        check_at_least(1, examples=self.examples, epochs=self.epochs, steps=self.steps)
        check_at_least(2, candidates=self.candidates)
        if not 0 < self.fooling <= 1:
            raise ConfigError(f"attack.fooling is {self.fooling}; expected a share of the examples above 0, at most 1")
        if not self.overshoot >= 0:
            raise ConfigError(f"attack.overshoot is {self.overshoot}; expected a share of at least 0, such as 0.02")

    def prepare(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> dict[str, Tensor]:
        """Per example one forward pass, and per epoch two more and DeepFool's if it is not fooled, sequentially."""
        index = can_ask(target).nonzero().squeeze(1)
        delta = torch.zeros_like(x[0])
        if len(index) == 0:
            return {"delta": delta}
        ball, wide = threat.around(x, rng), threat.unbounded().around(x, rng)
        clean = target.rows(index).logits(x[index]).argmax(1)
        best, most = delta, -1.0
        for _ in range(self.epochs):
            delta = self._gone_through(target, wide, index, clean, delta, ball)
            left = can_ask(target.rows(index))
            index, clean = index[left], clean[left]
            if len(index) == 0:
                return {"delta": delta if most < 0 else best}
            answers = target.rows(index).logits(ball.rows(index).project(x[index] + delta)).argmax(1)
            fooled = float((answers != clean).float().mean())
            if fooled > most:
                best, most = delta, fooled
            if most >= self.fooling:
                break
        return {"delta": best}

    def _gone_through(
        self, target: Target, wide: Ball, index: Tensor, clean: Tensor, delta: Tensor, ball: Ball
    ) -> Tensor:
        """Perturbation (*S) after each of the examples `index` (b,), with labels `clean` (b,), in turn."""
        radius = torch.full((1,), ball.eps, dtype=delta.dtype, device=delta.device)
        for row, label in zip(index.split(1), clean.split(1), strict=True):
            here = ball.rows(row).project(wide.x[row] + delta)
            moved = deepfool(
                Active.of(
                    target.rows(row), Ball(here, ball.norm, wide.eps, wide.rows(row).mask), label, targeted=False
                ),
                steps=self.steps,
                overshoot=self.overshoot,
                candidates=self.candidates,
                halved=0,
                search_steps=0,
            )
            delta = within((delta + (moved - here)[0])[None], radius, ball.norm)[0]
        return delta

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Examples plus the perturbation, in box and region. No pass through the system."""
        return threat.around(x, rng).project(x + target.prepared["delta"].to(x.dtype))


@hookimpl
def benchmark_component() -> type[PreparedAttack]:
    """The plugin."""
    return UAP
