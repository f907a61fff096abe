"""The families of ImageNet-C and their five severities. Hendrycks & Dietterich, ICLR 2019, arXiv:1903.12261.

To read one family (appendix B), read its row of :data:`FAMILIES` and the function that the row calls. The settings are
those of the authors' public programs: of CIFAR-10-C for small images, of ImageNet-C for others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from torch import Tensor

from benchmark.api import SampleRandom

from ..._jpeg import codable, compressed
from .._base.settings import check_images
from .blurs import defocused, gaussian_blurred, moved, through_glass, zoom_blurred
from .colours import brightened, contrasted, saturated
from .noises import gaussian_noise, impulse_noise, shot_noise, speckle_noise, uniform_noise
from .shapes import elastic, pixelated
from .variations import check_colour
from .weather import foggy, frosted, snowed, spattered

__all__ = ["BENCHMARK", "FAMILIES", "SMALL_SIDE", "Corruption", "Family"]


class Corruption(Enum):
    """The 15 families of the benchmark, its four extra ones, and uniform noise."""

    gaussian_noise = "gaussian_noise"
    shot_noise = "shot_noise"
    impulse_noise = "impulse_noise"
    defocus_blur = "defocus_blur"
    glass_blur = "glass_blur"
    motion_blur = "motion_blur"
    zoom_blur = "zoom_blur"
    snow = "snow"
    frost = "frost"
    fog = "fog"
    brightness = "brightness"
    contrast = "contrast"
    elastic_transform = "elastic_transform"
    pixelate = "pixelate"
    jpeg_compression = "jpeg_compression"
    speckle_noise = "speckle_noise"
    gaussian_blur = "gaussian_blur"
    spatter = "spatter"
    saturate = "saturate"
    uniform_noise = "uniform_noise"


BENCHMARK = tuple(Corruption)[:15]
"""The families that the mean corruption error is taken over."""

SMALL_SIDE = 64
"""Up to this many pixels a side an image is small."""

Settings = tuple[tuple[float, ...], ...]


def _each(*values: float) -> Settings:
    return tuple((value,) for value in values)


def _check_codable(shape: tuple[int, ...], name: str) -> None:
    check_images(shape, name)
    codable(shape, f"attack.{name}")


@dataclass(frozen=True)
class Family:
    """One family of corruptions.

    draw: from (B, *S), one severity's settings, the number of pixels that a length of 1 is, and randomness, to (B, *S)
    before clipping. small, large: settings of the severities 1 to 5, of images of at most `SMALL_SIDE` pixels a side
    and of others; lengths are pixels of an image of 32, and of 224. amount: range of the setting where there is one
    only. check: refuses shapes (Refused); None where inputs need not be images.
    """

    draw: Callable[[Tensor, Sequence[float], float, SampleRandom], Tensor]
    small: Settings
    large: Settings
    amount: tuple[float, float] | None = None
    check: Callable[[tuple[int, ...], str], object] | None = check_images


FAMILIES: dict[Corruption, Family] = {
    Corruption.gaussian_noise: Family(
        lambda x, s, px, rng: gaussian_noise(x, s[0], rng),
        _each(0.04, 0.06, 0.08, 0.09, 0.10),
        _each(0.08, 0.12, 0.18, 0.26, 0.38),
        amount=(0.0, math.inf),
        check=None,
    ),
    Corruption.shot_noise: Family(
        lambda x, s, px, rng: shot_noise(x, s[0], rng),
        _each(500, 250, 100, 75, 50),
        _each(60, 25, 12, 5, 3),
        amount=(1e-3, math.inf),
        check=None,
    ),
    Corruption.impulse_noise: Family(
        lambda x, s, px, rng: impulse_noise(x, s[0], rng),
        _each(0.01, 0.02, 0.03, 0.05, 0.07),
        _each(0.03, 0.06, 0.09, 0.17, 0.27),
        amount=(0.0, 1.0),
        check=None,
    ),
    Corruption.defocus_blur: Family(
        lambda x, s, px, rng: defocused(x, s[0] * px, s[1] * px),
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    ),
    Corruption.glass_blur: Family(
        lambda x, s, px, rng: through_glass(x, s[0] * px, max(1, round(s[1] * px)), int(s[2]), rng),
        ((0.4, 1, 1), (0.25, 1, 1), (0.05, 1, 1), (0.4, 1, 2), (0.25, 1, 2)),
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    ),
    Corruption.motion_blur: Family(
        lambda x, s, px, rng: moved(x, s[0] * px, s[1] * px, rng),
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    ),
    Corruption.zoom_blur: Family(
        lambda x, s, px, rng: zoom_blurred(x, s[0], s[1]),
        ((1.05, 0.01), (1.1, 0.01), (1.15, 0.01), (1.2, 0.01), (1.25, 0.01)),
        ((1.1, 0.01), (1.15, 0.01), (1.2, 0.02), (1.24, 0.02), (1.3, 0.03)),
    ),
    Corruption.snow: Family(
        lambda x, s, px, rng: snowed(x, s[0], s[1], s[2] * px, s[3], s[4] * px, s[5] * px, s[6], rng),
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        ),
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    Corruption.frost: Family(
        lambda x, s, px, rng: frosted(x, s[0], s[1], rng),
        ((1, 0.2), (1, 0.3), (0.85, 0.4), (0.9, 0.4), (0.75, 0.45)),
        ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    ),
    Corruption.fog: Family(
        lambda x, s, px, rng: foggy(x, s[0], s[1], rng),
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    ),
    Corruption.brightness: Family(
        lambda x, s, px, rng: brightened(x, x.new_full((len(x),), s[0])),
        _each(0.05, 0.1, 0.15, 0.2, 0.3),
        _each(0.1, 0.2, 0.3, 0.4, 0.5),
        amount=(-1.0, 1.0),
    ),
    Corruption.contrast: Family(
        lambda x, s, px, rng: contrasted(x, x.new_full((len(x),), s[0])),
        _each(0.75, 0.5, 0.4, 0.3, 0.15),
        _each(0.4, 0.3, 0.2, 0.1, 0.05),
        amount=(0.0, math.inf),
    ),
    Corruption.elastic_transform: Family(
        lambda x, s, px, rng: elastic(x, s[0], s[1], s[2], rng),
        (
            (0.05, 0.2, 0.07),
            (0.08, 0.06, 0.06),
            (0, 0, 0.08),
            (0.1, 0.03, 0.03),
            (0.1, 0.04, 0.05),
        ),
        (
            (2, 0.7, 0.1),
            (2, 0.08, 0.2),
            (0.05, 0.01, 0.02),
            (0.07, 0.01, 0.02),
            (0.12, 0.01, 0.02),
        ),
    ),
    Corruption.pixelate: Family(
        lambda x, s, px, rng: pixelated(x, s[0]),
        _each(0.95, 0.9, 0.85, 0.75, 0.6),
        _each(0.6, 0.5, 0.4, 0.3, 0.25),
        amount=(1e-3, 1.0),
    ),
    Corruption.jpeg_compression: Family(
        lambda x, s, px, rng: compressed(x, int(s[0]), owner="attack.corruption"),
        _each(80, 65, 58, 50, 40),
        _each(25, 18, 15, 10, 7),
        amount=(1.0, 100.0),
        check=_check_codable,
    ),
    Corruption.speckle_noise: Family(
        lambda x, s, px, rng: speckle_noise(x, s[0], rng),
        _each(0.06, 0.1, 0.12, 0.16, 0.2),
        _each(0.15, 0.2, 0.35, 0.45, 0.6),
        amount=(0.0, math.inf),
        check=None,
    ),
    Corruption.gaussian_blur: Family(
        lambda x, s, px, rng: gaussian_blurred(x, s[0] * px),
        _each(0.4, 0.6, 0.7, 0.8, 1.0),
        _each(1, 2, 3, 4, 6),
        amount=(0.0, math.inf),
    ),
    Corruption.spatter: Family(
        lambda x, s, px, rng: spattered(x, s[0], s[1], s[2] * px, s[3], s[4] * (px if s[5] else 1.0), bool(s[5]), rng),
        (
            (0.62, 0.1, 0.7, 0.7, 0.5, 0),
            (0.65, 0.1, 0.8, 0.7, 0.5, 0),
            (0.65, 0.3, 1, 0.69, 0.5, 0),
            (0.65, 0.1, 0.7, 0.69, 0.6, 1),
            (0.65, 0.1, 0.5, 0.68, 0.6, 1),
        ),
        (
            (0.65, 0.3, 4, 0.69, 0.6, 0),
            (0.65, 0.3, 3, 0.68, 0.6, 0),
            (0.65, 0.3, 2, 0.68, 0.5, 0),
            (0.65, 0.3, 1, 0.65, 1.5, 1),
            (0.67, 0.4, 1, 0.65, 1.5, 1),
        ),
    ),
    Corruption.saturate: Family(
        lambda x, s, px, rng: saturated(x, s[0], s[1]),
        ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
        ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
        check=check_colour,
    ),
    Corruption.uniform_noise: Family(
        lambda x, s, px, rng: uniform_noise(x, s[0], rng),
        _each(0.07, 0.10, 0.14, 0.16, 0.17),
        _each(0.14, 0.21, 0.31, 0.45, 0.66),
        amount=(0.0, math.inf),
        check=None,
    ),
}
"""Of glass, snow, frost and elastic the five settings for small images stand in the order of the mean squared change of
digits, which is not the order of the authors; a mean over the severities is the same. The last pixelation is 0.6 for
their 0.65, for images of 8 pixels.
"""
