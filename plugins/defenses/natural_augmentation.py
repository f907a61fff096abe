"""Training on natural variations: cropping, rotation, scale, resolution, compression, brightness.

Engstrom et al., ICML 2019, arXiv:1712.02779, section 4, train against rotations and translations; Pei et al., 2017,
arXiv:1712.01785, section 6, against the longer list of VeriVis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.api import Batch, ConfigError, DataSpec, Defense, Loss, Refused, SampleRandom, hookimpl

from .._jpeg import codable, compressed
from .._warp import transformed
from ._training.mixing import chosen


class Variation(Enum):
    """A change of an image; beyond its edge the edge is repeated.

    crop: a window of at least `crop` of the side, resized to the original size. rotation, scale: around the centre.
    downsampling: averaged to at least `resolution` of the side, and upsampled. jpeg: a quality from `quality` to 95.
    brightness: all values shifted.
    """

    crop = "crop"
    rotation = "rotation"
    scale = "scale"
    downsampling = "downsampling"
    jpeg = "jpeg"
    brightness = "brightness"


@dataclass(frozen=True)
class NaturalAugmentation(Defense):
    """Replace a share of the images of each batch by newly drawn variations.

    share: exactly round(share B) rows of a batch. variations: one is drawn uniformly per image.
    crop, resolution: smallest share of the side. rotation: largest angle in either direction, in degrees. scale:
    largest relative change of size. quality: lowest JPEG quality. brightness: largest shift, in units of the [0, 1]
    range.
    """

    neutral: ClassVar[Mapping[str, Any]] = {"share": 0.0}

    share: float = 0.5
    variations: tuple[Variation, ...] = tuple(Variation)
    crop: float = 0.75
    rotation: float = 15.0
    scale: float = 0.2
    resolution: float = 0.5
    quality: int = 50
    brightness: float = 0.2

    def __post_init__(self) -> None:
        object.__setattr__(self, "variations", tuple(self.variations))
        for name, low in (("share", 0.0), ("crop", 1e-6), ("scale", 0.0), ("resolution", 1e-6), ("brightness", 0.0)):
            if not low <= getattr(self, name) <= 1.0:
                raise ConfigError(f"natural_augmentation.{name} is {getattr(self, name)}; expected a share up to 1")
        if not self.variations or not 1 <= self.quality <= 95 or not 0.0 <= self.rotation <= 180.0:
            raise ConfigError(
                f"natural_augmentation has {len(self.variations)} variations, quality {self.quality} and rotation "
                f"{self.rotation}; expected at least 1 variation, a quality of 1 to 95 and an angle of 0 to 180 degrees"
            )

    def check(self, spec: DataSpec) -> None:
        """Refuse inputs that the variations do not support.

        Raises:
            Refused: if they are not images, or have neither 1 nor 3 channels and one of the variations is JPEG.
        """
        if not spec.image:
            raise Refused(
                f"defense.natural_augmentation needs images of shape (C, H, W), but one input has {spec.shape}"
            )
        if Variation.jpeg in self.variations:
            codable(spec.shape, "defense.natural_augmentation with the variation jpeg")

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """The loss of the stack on the varied batch."""
        if self.share == 0.0:
            return inner(model, batch)
        who = chosen(rng, self.share, stream="natural_augmentation")
        x = batch.x.index_copy(0, who, self.varied(batch.x[who], rng.rows(who)))
        return inner(model, replace(batch, x=x))

    def varied(self, x: Tensor, rng: SampleRandom) -> Tensor:
        """Each image in one of the variations, (B, C, H, W)."""
        kind = rng.integers(len(self.variations), stream="natural_augmentation/kind")
        drawn = rng.uniform(3, stream="natural_augmentation/setting").to(x)
        result = x
        for place, variation in enumerate(self.variations):
            at = (kind == place).nonzero().squeeze(1)
            if len(at):
                result = result.index_copy(0, at, self.apply(variation, x[at], drawn[at]).clamp(0.0, 1.0))
        return result

    def apply(self, variation: Variation, x: Tensor, drawn: Tensor) -> Tensor:
        """Images in a variation, (B, C, H, W); drawn (B, 3) in [0, 1) sets the strength, from none to the maximum."""
        first, either = drawn[:, 0], 2.0 * drawn - 1.0
        none, still = torch.zeros_like(first), x.new_zeros(len(x), 2)
        if variation is Variation.rotation:
            return transformed(x, self.rotation * either[:, 0], none + 1.0, still)
        if variation is Variation.scale:
            return transformed(x, none, 1.0 + self.scale * either[:, 0], still)
        if variation is Variation.crop:
            window = 1.0 - (1.0 - self.crop) * first
            room = (1.0 / window - 1.0)[:, None] * torch.tensor(x.shape[2:], device=x.device) / 2.0
            return transformed(x, none, 1.0 / window, room * either[:, 1:])
        if variation is Variation.brightness:
            return x + (self.brightness * either[:, 0]).reshape(-1, 1, 1, 1)
        settings = 1.0 - (1.0 - self.resolution) * first
        if variation is Variation.downsampling:
            return torch.cat([_coarser(row, float(s)) for row, s in zip(x.split(1), settings, strict=True)])
        quality = (self.quality + (96 - self.quality) * first).long().clamp_max(95).tolist()
        rows = [
            compressed(r, q, owner="defense.natural_augmentation") for r, q in zip(x.split(1), quality, strict=True)
        ]
        return torch.cat(rows)


def _coarser(x: Tensor, resolution: float) -> Tensor:
    """An image averaged down to a share of the side and upsampled by repetition, (1, C, H, W)."""
    size = (max(1, round(x.shape[2] * resolution)), max(1, round(x.shape[3] * resolution)))
    return F.interpolate(F.adaptive_avg_pool2d(x, size), size=x.shape[2:], mode="nearest")


@hookimpl
def benchmark_component() -> type[NaturalAugmentation]:
    """Register the plugin."""
    return NaturalAugmentation
