"""Turntable before the system: a can seen from any side. Athalye, Engstrom, Ilyas & Kwok, ICML 2018, arXiv:1707.07397.

Section 3.2: the distribution of views of a textured solid. Not a defense, but a model of viewing conditions, like
`camera`: the attacker changes the print of an object, and the system receives one view of the object. With random views
any attack becomes EOT over views.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from benchmark import sampling
from benchmark.api import Batch, ConfigError, DataSpec, Defense, Loss, SampleRandom, clipped, hookimpl

from .._warp import sampled
from ._transforms.behind import Behind, refuse_other_than_images

LIGHT = 0.3
"""Range of the brightness in training, independent of the settings, so that all turntables share the same weights."""

FINER = 4
"""Samples per column of a view: near its rim a can shows many columns of its print in one."""


@dataclass(frozen=True)
class Turntable(Defense):
    """Give the system a view of an upright can that has the image printed `copies` times around it, without gaps.

    Parallel projection, so that the can fills the view; the surface is darker the more it is turned away (half as
    bright at the rim, in proportion to the cosine). At angle 0 a copy faces the viewer; 360 / `copies` degrees on, the
    view is the same. Training is with views from every side and light up to 0.3.

    angles: lowest and highest, drawn uniformly, in degrees. light: largest relative change of brightness. Equal ends
    and no light make the view deterministic. votes: number of draws in the majority vote.
    """

    angles: tuple[float, float] = (-60.0, 60.0)
    copies: int = 3
    light: float = LIGHT
    votes: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "angles", tuple(self.angles))
        if len(self.angles) != 2 or not -180.0 <= self.angles[0] <= self.angles[1] <= 180.0:
            raise ConfigError(
                f"turntable.angles is {list(self.angles)}; expected the lowest and the highest, from -180 to 180"
            )
        if not 0.0 <= self.light < 1.0 or self.votes < 1 or self.copies < 1:
            raise ConfigError(
                f"turntable.light is {self.light}, turntable.votes is {self.votes} and turntable.copies is "
                f"{self.copies}; expected a share below 1, at least 1 vote and at least 1 copy"
            )

    @property
    def randomized(self) -> bool:  # type: ignore[override]  # it depends on the setting
        """True unless the view is fixed."""
        return self.light > 0.0 or self.angles[0] < self.angles[1]

    def check(self, spec: DataSpec) -> None:
        """Refuse data other than images."""
        refuse_other_than_images(spec, "defense.turntable")

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """The loss of the stack on a view of each input from any side."""
        half = 180.0 / self.copies
        anywhere = Turntable((-half, half), self.copies)
        return inner(model, replace(batch, x=anywhere.seen(batch.x, rng)))

    def protect(self, model: nn.Module) -> nn.Module:
        """Put the turntable before the model."""
        return Behind(model, self._through)

    def _through(self, x: Tensor) -> Tensor:
        return self.seen(x, sampling.ambient() if self.randomized else None)

    def seen(self, x: Tensor, rng: SampleRandom | None) -> Tensor:
        """Views of cans with prints `x`, both (B, C, H, W) in [0, 1]; `rng` may be None if the view is fixed."""
        drawn = x.new_zeros(len(x), 2) if rng is None else rng.uniform(2, stream="turntable").to(x.dtype)
        low, high = self.angles
        angle, light = low + (high - low) * drawn[:, 0], 1.0 + self.light * (2.0 * drawn[:, 1] - 1.0)
        light = light if rng is not None else torch.ones_like(light)
        return clipped(turned(x, angle, self.copies) * light.reshape(-1, 1, 1, 1))


def turned(x: Tensor, angle: Tensor, copies: int) -> Tensor:
    """Views of cans with prints `x` (B, C, H, W), turned by `angle` (B,) in degrees; differentiable in `x`."""
    height, width = x.shape[2:]
    across = (torch.arange(FINER * width, dtype=torch.float64, device=x.device) + 0.5) * (2.0 / (FINER * width)) - 1.0
    azimuth = across.asin()
    share = ((azimuth + angle.double()[:, None] * (math.pi / 180.0)) * (copies / (2.0 * math.pi)) + 0.5) % 1.0
    columns = (share * width - 0.5).to(x.dtype)[:, None, :].expand(-1, height, -1)
    rows = torch.arange(height, dtype=x.dtype, device=x.device)[:, None].expand_as(columns)
    around = torch.cat([x[..., -1:], x, x[..., :1]], 3)
    fine = sampled(around, rows, columns + 1.0).unflatten(3, (width, FINER))
    shade = (0.5 + 0.5 * azimuth.cos()).to(x.dtype).reshape(width, FINER)
    seen: Tensor = (fine * shade).mean(4)
    return seen


@hookimpl
def benchmark_component() -> type[Defense]:
    """Register the plugin."""
    return Turntable
