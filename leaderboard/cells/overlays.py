"""A system's predictions drawn over an image: a colour per class of each pixel, or boxes around detections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ANSWERS", "COLOURS", "drawable", "overlaid"]

ANSWERS = ("clean_sites", "adv_sites")
"""Arrays of a gallery with the predictions per site on clean and attacked input."""

SMALL = 48
"""Smallest side of a drawn image, in pixels: smaller ones are enlarged, so that lines do not hide them."""

COVER = 0.55
"""Opacity of the colour of a class over the image."""

COLOURS = np.array(
    [[230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178], [213, 94, 0], [204, 121, 167],
     [170, 68, 153], [136, 204, 238], [153, 153, 51]],
    np.float64,
) / 255.0  # fmt: skip
"""Colours of the classes 1, 2, ..., used cyclically; the first seven are the colour-blind safe ones of Okabe & Ito."""


def drawable(answers: Mapping[str, NDArray[Any]], images: tuple[int, ...]) -> bool:
    """True if `answers` are label maps int16 (M, H * W), or boxes float32 (M, S, 6), of images (M, C, H, W)."""
    if {*answers} != {*ANSWERS}:
        return False

    def fits(values: NDArray[Any]) -> bool:
        if values.dtype == np.int16:
            return values.shape == (images[0], images[2] * images[3])
        boxes = values.dtype == np.float32 and values.ndim == 3 and values.shape[2] == 6
        return boxes and len(values) == images[0] and bool(np.isfinite(values).all())

    return all(fits(values) for values in answers.values())


def overlaid(image: NDArray[np.float32], answer: NDArray[Any]) -> NDArray[np.float64]:
    """Image (C, H, W) in colour and enlarged, with its predictions drawn over it, (3, H', W')."""
    height, width = image.shape[1:]
    times = max(1, SMALL // max(height, width))
    colour = np.broadcast_to(image if len(image) == 3 else image[:1], (3, height, width)).astype(np.float64)
    if answer.ndim == 1:
        label = answer.reshape(height, width).astype(np.int64)
        there = np.broadcast_to(label > 0, colour.shape)
        painted = np.moveaxis(COLOURS[(label - 1) % len(COLOURS)], 2, 0)
        colour = np.where(there, (1 - COVER) * colour + COVER * painted, colour)
        return colour.repeat(times, 1).repeat(times, 2)
    colour = colour.repeat(times, 1).repeat(times, 2)
    for row in answer:
        if row[0] > 0:
            _outline(colour, row[2:] * times, COLOURS[(int(row[0]) - 1) % len(COLOURS)])
    return colour


def _outline(image: NDArray[np.float64], box: NDArray[Any], colour: NDArray[np.float64]) -> None:
    """Draw the outline of a box (x0, y0, x1, y1), one pixel wide, clipped to the image (3, H, W)."""
    height, width = image.shape[1:]
    x0, x1 = (int(np.clip(round(float(v)), 0, width - 1)) for v in (box[0], box[2] - 1))
    y0, y1 = (int(np.clip(round(float(v)), 0, height - 1)) for v in (box[1], box[3] - 1))
    image[:, [y0, y1], x0 : x1 + 1] = colour[:, None, None]
    image[:, y0 : y1 + 1, [x0, x1]] = colour[:, None, None]
