"""Camera before the system: distance, angle and lighting. Eykholt et al. (RP2), CVPR 2018, arXiv:1707.08945, section 3.

Not a defense, but a model of viewing conditions: the attacker changes an object's surface, and the system receives a
view of it. With random views, any attack becomes EOT over views (Athalye et al., ICML 2018).
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

DISTANCES, ANGLES, LIGHT = (1.0, 4.0), (-60.0, 60.0), 0.3
"""Ranges of the views in training, independent of the settings, so that all cameras share the same weights."""

NEAR = 4.0
"""Distance 1 in units of half the surface's side; it sets the strength of the perspective."""

STEEPEST = 70.0
"""Largest angle in degrees; beyond it, the near side of a surface would lie behind the camera at distance 1."""


@dataclass(frozen=True)
class Camera(Defense):
    """Give the system a view of each surface, cropped to it and resized to the original size, as by an object detector.

    distances: lowest and highest, drawn uniformly; at distance d a camera pixel is the mean of d x d surface pixels.
    angles: between the surface normal and the line of sight, around the vertical axis, in degrees. light: largest
    relative change of brightness. Equal ends and no light make the view deterministic. votes: number of draws in the
    majority vote. Beyond a surface its edge is repeated. In training every input is a view within fixed ranges:
    distances 1 to 4, angles up to 60 degrees, light up to 0.3.
    """

    distances: tuple[float, float] = DISTANCES
    angles: tuple[float, float] = ANGLES
    light: float = LIGHT
    votes: int = 1

    def __post_init__(self) -> None:
        for name, least, most in (("distances", 1.0, math.inf), ("angles", -STEEPEST, STEEPEST)):
            ends = tuple(getattr(self, name))
            object.__setattr__(self, name, ends)
            if len(ends) != 2 or not least <= ends[0] <= ends[1] <= most:
                raise ConfigError(
                    f"camera.{name} is {list(ends)}; expected the lowest and the highest, from {least:g} to {most:g}"
                )
        if not 0.0 <= self.light < 1.0 or self.votes < 1:
            raise ConfigError(
                f"camera.light is {self.light} and camera.votes is {self.votes}; expected a share below 1, and at "
                "least 1 vote"
            )

    @property
    def randomized(self) -> bool:  # type: ignore[override]  # it depends on the setting
        """True unless the view is fixed."""
        return self.light > 0.0 or any(low < high for low, high in (self.distances, self.angles))

    def check(self, spec: DataSpec) -> None:
        """Refuse data other than images."""
        refuse_other_than_images(spec, "defense.camera")

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """The loss of the stack on a view of each input, drawn from the training ranges."""
        return inner(model, replace(batch, x=Camera().seen(batch.x, rng)))

    def protect(self, model: nn.Module) -> nn.Module:
        """Put the camera before the model."""
        return Behind(model, self._through)

    def _through(self, x: Tensor) -> Tensor:
        return self.seen(x, sampling.ambient() if self.randomized else None)

    def seen(self, x: Tensor, rng: SampleRandom | None) -> Tensor:
        """Views of surfaces `x`, both (B, C, H, W) in [0, 1]; `rng` may be None if the view is deterministic."""
        ranges = (self.distances, self.angles, (1.0 - self.light, 1.0 + self.light))
        drawn = x.new_zeros(len(x), 3) if rng is None else rng.uniform(3, stream="camera").to(x.dtype)
        values = [low + (high - low) * drawn[:, k] for k, (low, high) in enumerate(ranges)]
        return clipped(viewed(x, *values))


def viewed(x: Tensor, distance: Tensor, angle: Tensor, light: Tensor) -> Tensor:
    """Views of surfaces `x` (B, C, H, W) at `distance`, `angle` in degrees and `light` (B,); differentiable in `x`."""
    height, width = x.shape[2:]
    radians = angle.double() * (math.pi / 180.0)
    cos, sin = (v.to(x.dtype).reshape(-1, 1, 1) for v in (radians.cos(), radians.sin()))
    nearer = sin / (NEAR * distance.reshape(-1, 1, 1))
    down = (torch.arange(height, dtype=x.dtype, device=x.device)[:, None] + 0.5) * (2.0 / height) - 1.0
    right = (torch.arange(width, dtype=x.dtype, device=x.device) + 0.5) * (2.0 / width) - 1.0
    across = right / (cos - right * nearer)  # of the surface's own plane; the pinhole's equation, solved for it
    along = down * (1.0 + across * nearer)
    rows, columns = ((v + 1.0) * (side / 2.0) - 0.5 for v, side in ((along, height), (across, width)))
    turned = sampled(x, rows, columns.expand_as(rows))
    far = _coarse(height, distance)[:, None] @ turned @ _coarse(width, distance)[:, None].transpose(2, 3)
    return far * light.reshape(-1, 1, 1, 1)


def _coarse(side: int, distance: Tensor) -> Tensor:
    """Matrices that average `side` pixels to camera pixels and interpolate them linearly back, (B, side, side)."""
    size = distance.reshape(-1, 1, 1)
    place = torch.arange(side, dtype=distance.dtype, device=distance.device)
    start = side / 2.0 + (place[:, None] - side / 2.0) * size  # where each camera pixel begins, (B, side, 1)
    low, high = place.clone(), place + 1.0
    low[0], high[-1] = -torch.inf, torch.inf  # the edge goes on
    mean = (torch.minimum(start + size, high) - torch.maximum(start, low)).clamp_min(0.0) / size
    middle = (start + size / 2.0).transpose(1, 2)
    back = (1.0 - ((place + 0.5)[:, None] - middle).abs() / size).clamp_min(0.0)
    return back @ mean


@hookimpl
def benchmark_component() -> type[Defense]:
    """Register the plugin."""
    return Camera
