"""JPEG compression of images, as a defense or as a camera's processing."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmark.api import Refused

__all__ = ["codable", "compressed"]


def codable(shape: tuple[int, ...], owner: str) -> None:
    """Refuse inputs whose `shape` is not that of a greyscale or colour image.

    Raises:
        Refused: naming `owner`.
    """
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise Refused(f"{owner} codes images of 1 or 3 channels, but one input has shape {tuple(shape)}")


def compressed(x: Tensor, quality: int, *, owner: str) -> Tensor:
    """Images (B, C, H, W) in [0, 1] after JPEG compression, C 1 or 3; values are multiples of 1/255.

    Args:
        quality: 1 to 100, as in libjpeg. owner: the plugin named in errors.

    Raises:
        Refused: if `x` is not a batch of greyscale or colour images.
    """
    codable(tuple(x.shape[1:]), owner)
    pixels = (x * 255.0).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    if len(pixels) == 0:
        return x
    coded = [_round_trip(one, quality) for one in pixels]
    return torch.from_numpy(np.stack(coded)).permute(0, 3, 1, 2).to(x.device).to(x.dtype) / 255.0


def _round_trip(pixels: np.ndarray, quality: int) -> np.ndarray:
    """One (H, W, C) uint8 image, coded and decoded."""
    grey = pixels.shape[2] == 1
    stream = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if grey else pixels).save(stream, "JPEG", quality=quality)
    decoded = np.asarray(Image.open(stream), dtype=np.uint8)
    return decoded[:, :, None] if grey else decoded
