"""Image files as tensors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmark.api import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["pixels", "rgb"]


def rgb(path: Path) -> Image:
    """Image of a file, in colour.

    Raises:
        DataError: if the file is not a readable image.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as an image ({error}); replace or remove it") from error


def pixels(image: Image) -> Tensor:
    """Values of a colour image, (3, H, W) uint8."""
    values = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return values.reshape(image.height, image.width, 3).permute(2, 0, 1)
