"""RP2: stickers that are robust to changes of view. Eykholt et al., CVPR 2018, arXiv:1707.08945, section 3.3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Attack, DataSpec, Norm, SampleRandom, Supports, Target, Threat, hookimpl, rows_norm

from ._base.active import Active, AttackLoss
from ._base.settings import check_at_least, check_images, check_positive
from ._base.vectors import adam
from ._physical.patches import penalty_slope


@dataclass(frozen=True)
class RP2(Attack):
    """Minimises with Adam, inside the threat's region: loss over views, size of the paint, unprintable colours.

    The mask is the threat's region, and the expectation over views is the system's, `threat.eot` views per step:
    `defense=[camera]`. With linf 1 the paint in the mask may have any colour. Differences from the paper: smoothness
    is a term, as in its sequel (Song et al., WOOT 2018, arXiv:1807.07769); colours are penalised by their distance from
    the nearest printable one; iterates are projected into the ball.

    steps: iterations. step_size: Adam's. loss: to maximise. size: weight of the l2 norm of the paint. tv, nps: as in
    `patch`.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.linf, Norm.l2}), targeted=True)

    steps: int = 100
    step_size: float = 0.05
    loss: AttackLoss = AttackLoss.ce
    size: float = 0.0
    tv: float = 1.0
    nps: float = 5.0

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps)
        check_positive(step_size=self.step_size)
        check_at_least(0, size=self.size, tv=self.tv, nps=self.nps)

    def check(self, spec: DataSpec, threat: Threat) -> None:
        """Refuse data other than images."""
        check_images(spec.shape, "rp2")

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """`steps` forward and backward passes per example, each over the threat's draws."""
        active = Active.of(target, threat.around(x, rng), y, targeted=threat.targeted)
        x_adv, first, second = x.clone(), torch.zeros_like(x), torch.zeros_like(x)
        for step in range(self.steps):
            (active,) = active.keep(active.affordable())
            if len(active) == 0:
                break
            at, ball = active.index, active.ball
            slope, _, _ = active.gradient(x_adv[at], self.loss)
            slope = slope.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0) - self._penalties(x_adv[at], ball.x)
            if ball.mask is not None:
                slope = slope.where(ball.mask, 0.0)
            change, first[at], second[at] = adam(slope, first[at], second[at], step)
            x_adv[at] = ball.project(x_adv[at] + self.step_size * change)
        return x_adv

    def _penalties(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Gradient of the terms that do not depend on the system, (B, C, H, W)."""
        paint = x_adv - x
        length = rows_norm(paint, Norm.l2).clamp_min(1e-12).reshape(-1, 1, 1, 1)
        return self.size * paint / length + penalty_slope(x_adv, self.tv, self.nps)


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return RP2
