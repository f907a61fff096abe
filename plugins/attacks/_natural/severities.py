"""The families of ImageNet-C and their five severities. Hendrycks & Dietterich, ICLR 2019, arXiv:1903.12261.

The settings are those of the authors' public programs: of CIFAR-10-C for small images, of ImageNet-C for others.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["AMOUNTS", "BENCHMARK", "LARGE", "SMALL", "SMALL_SIDE", "Corruption"]


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

AMOUNTS: dict[Corruption, tuple[float, float]] = {
    Corruption.gaussian_noise: (0.0, float("inf")),
    Corruption.uniform_noise: (0.0, float("inf")),
    Corruption.shot_noise: (1e-3, float("inf")),
    Corruption.impulse_noise: (0.0, 1.0),
    Corruption.speckle_noise: (0.0, float("inf")),
    Corruption.gaussian_blur: (0.0, float("inf")),
    Corruption.brightness: (-1.0, 1.0),
    Corruption.contrast: (0.0, float("inf")),
    Corruption.pixelate: (1e-3, 1.0),
    Corruption.jpeg_compression: (1.0, 100.0),
}
"""The families that have one setting, and the range of it."""

Settings = tuple[tuple[float, ...], ...]


def _each(*values: float) -> Settings:
    return tuple((value,) for value in values)


SMALL: dict[Corruption, Settings] = {
    Corruption.gaussian_noise: _each(0.04, 0.06, 0.08, 0.09, 0.10),
    Corruption.shot_noise: _each(500, 250, 100, 75, 50),
    Corruption.impulse_noise: _each(0.01, 0.02, 0.03, 0.05, 0.07),
    Corruption.defocus_blur: ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)),
    Corruption.glass_blur: ((0.4, 1, 1), (0.25, 1, 1), (0.05, 1, 1), (0.4, 1, 2), (0.25, 1, 2)),
    Corruption.motion_blur: ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    Corruption.zoom_blur: ((1.05, 0.01), (1.1, 0.01), (1.15, 0.01), (1.2, 0.01), (1.25, 0.01)),
    Corruption.snow: (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
    ),
    Corruption.frost: ((1, 0.2), (1, 0.3), (0.85, 0.4), (0.9, 0.4), (0.75, 0.45)),
    Corruption.fog: ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    Corruption.brightness: _each(0.05, 0.1, 0.15, 0.2, 0.3),
    Corruption.contrast: _each(0.75, 0.5, 0.4, 0.3, 0.15),
    Corruption.elastic_transform: (
        (0.05, 0.2, 0.07),
        (0.08, 0.06, 0.06),
        (0, 0, 0.08),
        (0.1, 0.03, 0.03),
        (0.1, 0.04, 0.05),
    ),
    Corruption.pixelate: _each(0.95, 0.9, 0.85, 0.75, 0.6),
    Corruption.jpeg_compression: _each(80, 65, 58, 50, 40),
    Corruption.speckle_noise: _each(0.06, 0.1, 0.12, 0.16, 0.2),
    Corruption.gaussian_blur: _each(0.4, 0.6, 0.7, 0.8, 1.0),
    Corruption.spatter: (
        (0.62, 0.1, 0.7, 0.7, 0.5, 0),
        (0.65, 0.1, 0.8, 0.7, 0.5, 0),
        (0.65, 0.3, 1, 0.69, 0.5, 0),
        (0.65, 0.1, 0.7, 0.69, 0.6, 1),
        (0.65, 0.1, 0.5, 0.68, 0.6, 1),
    ),
    Corruption.saturate: ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
    Corruption.uniform_noise: _each(0.07, 0.10, 0.14, 0.16, 0.17),
}
"""Lengths are pixels of an image of 32; larger images take them in proportion, smaller ones as they are.

Of glass, snow, frost and elastic the five settings stand in the order of the mean squared change of digits, which is
not the order of the authors; a mean over the severities is the same. The last pixelation is 0.6 for their 0.65, for
images of 8 pixels.
"""

LARGE: dict[Corruption, Settings] = {
    Corruption.gaussian_noise: _each(0.08, 0.12, 0.18, 0.26, 0.38),
    Corruption.shot_noise: _each(60, 25, 12, 5, 3),
    Corruption.impulse_noise: _each(0.03, 0.06, 0.09, 0.17, 0.27),
    Corruption.defocus_blur: ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    Corruption.glass_blur: ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    Corruption.motion_blur: ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    Corruption.zoom_blur: ((1.1, 0.01), (1.15, 0.01), (1.2, 0.02), (1.24, 0.02), (1.3, 0.03)),
    Corruption.snow: (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
    Corruption.frost: ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    Corruption.fog: ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    Corruption.brightness: _each(0.1, 0.2, 0.3, 0.4, 0.5),
    Corruption.contrast: _each(0.4, 0.3, 0.2, 0.1, 0.05),
    Corruption.elastic_transform: (
        (2, 0.7, 0.1),
        (2, 0.08, 0.2),
        (0.05, 0.01, 0.02),
        (0.07, 0.01, 0.02),
        (0.12, 0.01, 0.02),
    ),
    Corruption.pixelate: _each(0.6, 0.5, 0.4, 0.3, 0.25),
    Corruption.jpeg_compression: _each(25, 18, 15, 10, 7),
    Corruption.speckle_noise: _each(0.15, 0.2, 0.35, 0.45, 0.6),
    Corruption.gaussian_blur: _each(1, 2, 3, 4, 6),
    Corruption.spatter: (
        (0.65, 0.3, 4, 0.69, 0.6, 0),
        (0.65, 0.3, 3, 0.68, 0.6, 0),
        (0.65, 0.3, 2, 0.68, 0.5, 0),
        (0.65, 0.3, 1, 0.65, 1.5, 1),
        (0.67, 0.4, 1, 0.65, 1.5, 1),
    ),
    Corruption.saturate: ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    Corruption.uniform_noise: _each(0.14, 0.21, 0.31, 0.45, 0.66),
}
"""Lengths are pixels of an image of 224; others take them in proportion."""
