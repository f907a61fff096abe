"""Patches: placement, composition with images, and printability.

A patch is a square or a disc of texels. The pixels that it covers take the texel nearest to their middle, and all
others keep their bits. How many pixels it may cover is the budget of an l0 threat, eps / channels, at any turn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from benchmark.api import ConfigError, Refused, SampleRandom, Threat

from .._base.settings import check_images

__all__ = [
    "LEVELS",
    "PatchShape",
    "Sticker",
    "check_placement",
    "penalty_slope",
    "put",
    "sticker",
    "unprintable",
    "variation",
]

LEVELS = (0.1, 0.5, 0.9)
"""Printable values of each channel, in any mixture. Black ink is not 0 and white paper is not 1."""


class PatchShape(Enum):
    """The outline of a patch."""

    square = "square"
    circle = "circle"


def check_placement(rotation: float, smallest: float) -> None:
    """Refuse rotations and scales out of range.

    Raises:
        ConfigError: naming the field.
    """
    if not 0 <= rotation <= 180:
        raise ConfigError(f"attack.rotation is {rotation}; expected 0 to 180 degrees, the largest turn to either side")
    if not 0 < smallest <= 1:
        raise ConfigError(f"attack.smallest is {smallest}; expected a scale above 0, and 1 at most: the whole patch")


@dataclass(frozen=True)
class Sticker:
    """A patch before anything is on it.

    height, width: of the image. side: of the patch, in pixels and in texels. pixels: how many it may cover.
    rotation: the largest turn, in degrees. smallest: the least scale, 1 is the largest.
    """

    shape: PatchShape
    height: int
    width: int
    side: int
    pixels: int
    rotation: float
    smallest: float

    def places(self, rng: SampleRandom, *, stream: str, draw: int = 0) -> Tensor:
        """Texel that each pixel shows in a random place, turn and size, (B, H, W) int64; -1 where there is none.

        The middle is such that the patch fits into the image when it is upright and of full size.
        """
        drawn = rng.uniform(2, stream=stream, draw=draw)
        turn = (2.0 * drawn[:, 0] - 1.0) * self.rotation
        scale = self.smallest + (1.0 - self.smallest) * drawn[:, 1]
        top = rng.integers(self.height - self.side + 1, 1, stream=stream + "/top", draw=draw).squeeze(1)
        left = rng.integers(self.width - self.side + 1, 1, stream=stream + "/left", draw=draw).squeeze(1)
        return self.laid(turn, scale, top, left)

    def laid(self, turn: Tensor, scale: Tensor, top: Tensor, left: Tensor) -> Tensor:
        """Texels of :meth:`places`, (B, H, W) int64, for given turns in degrees, scales, corners, (B,) each."""
        angle = turn.double() * (math.pi / 180.0)
        cos, sin = (v.float().reshape(-1, 1, 1) for v in (angle.cos(), angle.sin()))
        middle = (self.side - 1) / 2.0
        rows = torch.arange(self.height, device=turn.device)[:, None] - (top.reshape(-1, 1, 1) + middle)
        columns = torch.arange(self.width, device=turn.device) - (left.reshape(-1, 1, 1) + middle)
        # Two texels a side must not fall between pixels, whatever the turn: their middles are 0.71 from the patch's.
        half = (scale.reshape(-1, 1, 1) * (self.side / 2.0)).clamp_min(min(0.75, self.side / 2.0))
        down, right = (cos * rows + sin * columns) / half, (cos * columns - sin * rows) / half
        far = (
            torch.maximum(down.abs(), right.abs())
            if self.shape is PatchShape.square
            else down.square() + right.square()
        )
        inside = far < 1.0
        if int(inside.sum((1, 2)).max()) > self.pixels:  # a turned square may cover a few pixels more than its area
            order = far.flatten(1).argsort(dim=1, stable=True)
            allowed = torch.zeros_like(inside).flatten(1).scatter_(1, order[:, : self.pixels], True)
            inside = inside & allowed.reshape(inside.shape)
        texel = [((v + 1.0) / 2.0 * self.side).long().clamp(0, self.side - 1) for v in (down, right)]
        return torch.where(inside, texel[0] * self.side + texel[1], -1)


def sticker(
    size: tuple[int, ...], threat: Threat, shape: PatchShape, rotation: float, smallest: float, name: str
) -> Sticker | None:
    """The largest patch that the threat allows on images of shape (C, H, W); None if it allows no pixel.

    Raises:
        Refused: where one example is no image, or eps allows fewer features than one pixel has channels.
    """
    height, width = check_images(size, name)
    channels = size[0]
    if 0 < threat.radius < channels:
        raise Refused(
            f"attack.{name} covers pixels of {channels} features, and threat.eps is {threat.eps}; choose at least "
            f"{channels}"
        )
    pixels = min(int(threat.radius) // channels, height * width)
    if pixels == 0:
        return None
    side = math.isqrt(pixels) if shape is PatchShape.square else max(1, int(2.0 * math.sqrt(pixels / math.pi)))
    return Sticker(shape, height, width, min(side, height, width), pixels, rotation, smallest)


def put(x: Tensor, patch: Tensor, places: Tensor, mask: Tensor | None) -> Tensor:
    """(B, C, H, W): `x` with `patch` (B or 1, C, side, side) on it; differentiable in `patch`.

    places: (B, H, W), see :meth:`Sticker.places`. mask: the threat's region, or None.
    """
    there = (places >= 0)[:, None].expand_as(x)
    if mask is not None:
        there = there & mask
    index = places.clamp_min(0).flatten(1)[:, None].expand(-1, x.shape[1], -1)
    shown = patch.flatten(2).expand(len(x), -1, -1).gather(2, index).reshape(x.shape)
    return torch.where(there, shown, x)


def variation(patch: Tensor) -> Tensor:
    """The mean length of the step to the texels below and to the right (total variation), (B,).

    Sharif et al., CCS 2016, section 5.2.2. It keeps what is printed smooth, since a camera loses the rest.
    """
    down = patch[:, :, 1:, :-1] - patch[:, :, :-1, :-1]
    right = patch[:, :, :-1, 1:] - patch[:, :, :-1, :-1]
    return (down.square() + right.square() + 1e-12).sqrt().flatten(1).mean(1)


def unprintable(patch: Tensor) -> Tensor:
    """The mean distance of a texel's colour from the nearest that can be printed (non-printability score), (B,).

    Sharif et al., CCS 2016, section 5.2.3, with the distance to the nearest colour for the product of all distances, as
    Thys et al., CVPR Workshops 2019, arXiv:1904.08653. The colours are all mixtures of :data:`LEVELS`.
    """
    levels = torch.tensor(LEVELS, dtype=patch.dtype, device=patch.device)
    nearest = (patch[..., None] - levels).square().amin(-1)
    return (nearest.sum(1) + 1e-12).sqrt().flatten(1).mean(1)


def penalty_slope(patch: Tensor, tv: float, nps: float) -> Tensor:
    """The gradient of tv * variation + nps * unprintable, each row by itself, (B, C, side, side)."""
    if tv == 0 and nps == 0:
        return torch.zeros_like(patch)
    leaf = patch.detach().requires_grad_(True)
    with torch.enable_grad():
        value = tv * variation(leaf) + nps * unprintable(leaf) if patch.shape[-1] > 1 else nps * unprintable(leaf)
    (slope,) = torch.autograd.grad(value.sum(), leaf)
    return slope
