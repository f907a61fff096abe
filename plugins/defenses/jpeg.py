"""JPEG compression of the input. Dziugaite, Ghahramani & Roy, 2016, arXiv:1608.00853; Das et al., arXiv:1705.02900."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmark import hookimpl
from benchmark.api import Defense
from benchmark.errors import ConfigError, Refused
from benchmark.system import straight_through


@dataclass(frozen=True)
class Jpeg(Defense):
    """Compress and decompress each input before it is classified.

    quality: 1 to 95, as in libjpeg. Images of 1 channel are coded as grey, of 3 as YCbCr with 4:2:0 subsampling.
    The surrogate for gradients is the identity (BPDA, Athalye et al., ICML 2018, section 4.1).
    """

    quality: int = 75

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 95:
            raise ConfigError(f"jpeg.quality is {self.quality}; expected 1 to 95")

    def protect(self, model: nn.Module) -> nn.Module:
        """The model behind the compression."""
        return _Compressed(model, self.quality)


class _Compressed(nn.Module):
    def __init__(self, model: nn.Module, quality: int) -> None:
        super().__init__()
        self.model = model
        self.quality = quality

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(straight_through(compressed(x.detach(), self.quality), x))
        return logits


def compressed(x: Tensor, quality: int) -> Tensor:
    """(B, C, H, W) in [0, 1] after a round trip through JPEG, with C 1 or 3; values are multiples of 1/255.

    Raises:
        Refused: if `x` is no batch of grey or colour images.
    """
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise Refused(f"defense.jpeg codes images of 1 or 3 channels, and one input has shape {tuple(x.shape[1:])}")
    pixels = (x * 255.0).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    coded = [_round_trip(image, quality) for image in pixels]
    return torch.from_numpy(np.stack(coded)).permute(0, 3, 1, 2).to(x.device).to(x.dtype) / 255.0


def _round_trip(pixels: np.ndarray, quality: int) -> np.ndarray:
    """One (H, W, C) uint8 image through the codec."""
    grey = pixels.shape[2] == 1
    stream = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if grey else pixels).save(stream, "JPEG", quality=quality)
    decoded = np.asarray(Image.open(stream), dtype=np.uint8)
    return decoded[:, :, None] if grey else decoded


@hookimpl
def benchmark_component() -> type[Jpeg]:
    """Register the plugin."""
    return Jpeg
