"""Random noise inside the threat: a baseline without search, and a check on all other attacks.

As the baseline beside gradient attacks in Goodfellow, Shlens & Szegedy, ICLR 2015, arXiv:1412.6572, section 4: an
attack that uses gradients and does worse than noise is broken, or its gradients are.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import (
    EVERY_TASK,
    Access,
    Attack,
    Ball,
    Norm,
    SampleRandom,
    Supports,
    Target,
    Threat,
    hookimpl,
    rows_norm,
)

from ._base.settings import check_at_least
from ._base.survivors import holds


class NoiseKind(Enum):
    """Distribution of the noise.

    ball: uniform in the ball. uniform, gaussian: each feature from U(-1, 1) or N(0, 1), times eps under linf, scaled to
    length eps under l2 and l1, unscaled under l0 (where the eps largest changes are kept).
    """

    ball = "ball"
    uniform = "uniform"
    gaussian = "gaussian"


@dataclass(frozen=True)
class Noise(Attack):
    """Adds noise and projects the result into ball, box and region.

    kind: see :class:`NoiseKind`. restarts: most draws per example, of which the first success is kept.
    """

    tasks: ClassVar[frozenset[str]] = EVERY_TASK
    supports: ClassVar[Supports] = Supports(access=Access.labels, targeted=True, top5=True, randomized=True)

    kind: NoiseKind = NoiseKind.ball
    restarts: int = 1

    def __post_init__(self) -> None:
        check_at_least(1, restarts=self.restarts)

    def forwards(self, threat: Threat) -> int:
        """One per draw but the last."""
        return self.restarts - 1

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """First of `restarts` draws that succeeds, else the last; at most `restarts` - 1 forward passes."""
        ball = threat.around(x, rng)
        return noise(target, y, ball=ball, kind=self.kind, restarts=self.restarts, targeted=threat.targeted, rng=rng)


def noise(
    target: Target, y: Tensor, *, ball: Ball, kind: NoiseKind, restarts: int, targeted: bool, rng: SampleRandom
) -> Tensor:
    """First successful draw of each example, (B, *S), else the last, which is not evaluated."""
    result = draw_noise(ball, kind, rng, draw=0)
    index = torch.arange(len(result), device=result.device)
    for draw in range(1, restarts):
        view = target.rows(index)
        left = view.remaining()
        if left is not None:
            index = index[left > 0]
            view = target.rows(index)
        if len(index) == 0:
            break
        index = index[(holds(view, view.labels(result[index]), y[index]) == targeted).logical_not()]
        if len(index) == 0:
            break
        result[index] = draw_noise(ball.rows(index), kind, rng.rows(index), draw=draw)
    return result


def draw_noise(ball: Ball, kind: NoiseKind, rng: SampleRandom, *, draw: int) -> Tensor:
    """Centre of the ball plus noise, projected into the threat, (B, *S)."""
    if kind is NoiseKind.ball:
        return ball.random(rng, stream="noise", draw=draw)
    shape = ball.x.shape[1:]
    if kind is NoiseKind.uniform:
        delta = rng.uniform(*shape, stream="noise", draw=draw, low=-1.0, high=1.0)
    else:
        delta = rng.normal(*shape, stream="noise", draw=draw)
    if ball.norm is not Norm.l0:
        delta = delta * ball.eps
    if ball.norm in (Norm.l2, Norm.l1):
        length = rows_norm(delta, ball.norm) / ball.eps if ball.eps else torch.ones(len(delta), device=delta.device)
        delta = delta / length.reshape(-1, *([1] * len(shape)))
    return ball.project(ball.x + delta.to(ball.x.dtype))


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return Noise
