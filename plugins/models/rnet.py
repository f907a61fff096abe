"""R-Net, the second of the three networks of MTCNN. Zhang, Zhang, Li & Qiao, IEEE Signal Processing Letters, 2016.

arXiv:1604.02878, figure 2. It classifies the candidates of a face detector, patches of 24x24 pixels, as face or not.
Its published weights are in the wheel of facenet-pytorch. The package pins an old torch and need not be installed:
download the wheel with `pip download --no-deps facenet-pytorch`, and set `model.weights` to its path.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmark.api import DataError, DataSpec, Model, Refused, hookimpl

from ._normalize import image_shape

MEMBER = "facenet_pytorch/data/rnet.pt"
"""The file of weights in the wheel."""

SHA256 = "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86"
"""sha256 of that file, the same in facenet-pytorch 2.0 to 2.6."""

BOXES = "dense5_2."
"""Name prefix of the box regression layer, which is not used for classification."""

PUBLISHED = DataSpec((3, 24, 24), 2)
"""Data that the published weights are for: label 1 is a face."""


@dataclass(frozen=True)
class RNet(Model):
    """Face classifier without box regression: 99 662 weights.

    Differences from the paper: landmarks and boxes are omitted; other sizes, channels and classes are accepted for
    training.

    weights: the wheel of facenet-pytorch, or its rnet.pt; empty to train from initial weights.
    """

    weights: str = ""

    def build(self, spec: DataSpec) -> nn.Module:
        """Network from (B, C, H, W) to (B, K), for images of at least 14x14 pixels."""
        channels, height, width = image_shape(spec, "rnet", 14)
        return _RNet(channels, _last(height) * _last(width), spec.classes)

    def pretrained(self, spec: DataSpec) -> dict[str, Tensor] | None:
        """The published weights.

        Raises:
            DataError: if the file is missing, or has another checksum.
            Refused: if the weights do not fit the data.
        """
        if not self.weights:
            return None
        if (spec.shape, spec.classes) != (PUBLISHED.shape, PUBLISHED.classes):
            raise Refused(
                f"the weights of model.rnet are for images of shape {PUBLISHED.shape} and {PUBLISHED.classes} "
                f"classes, but the dataset "
                f"has {spec.shape} and {spec.classes}; choose dataset=faces, or leave model.weights out"
            )
        found = torch.load(io.BytesIO(_published(Path(self.weights))), map_location="cpu", weights_only=True)
        return {name: value for name, value in found.items() if not name.startswith(BOXES)}

    def files(self) -> tuple[Path, ...]:
        """The file of weights, or the wheel."""
        return (Path(self.weights),) if self.weights else ()


def _last(side: int) -> int:
    """Side of the last maps: 3x3, pooling that rounds up, 3x3, the same pooling, 2x2."""
    for _ in range(2):
        side = -(-(side - 2 - 3) // 2) + 1
    return side - 1


def _published(path: Path) -> bytes:
    """The bytes of rnet.pt, from the file itself or from a wheel that contains it.

    Raises:
        DataError: if there are none, or they have another checksum.
    """
    try:
        raw = path.read_bytes()
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                raw = wheel.read(MEMBER)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"model.weights is {str(path)!r}, from which {MEMBER} cannot be read ({error}); expected the wheel of "
            "facenet-pytorch (pip download --no-deps facenet-pytorch), or its rnet.pt"
        ) from error
    found = hashlib.sha256(raw).hexdigest()
    if found != SHA256:
        raise DataError(f"rnet.pt in {path} has sha256 {found}, expected {SHA256}; take it from facenet-pytorch 2.6.0")
    return raw


class _RNet(nn.Module):
    """Layers under the names of the published weights. cells: of the last maps."""

    def __init__(self, channels: int, cells: int, classes: int) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(channels, 28, 3), nn.PReLU(28)
        self.conv2, self.prelu2 = nn.Conv2d(28, 48, 3), nn.PReLU(48)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.dense4, self.prelu4 = nn.Linear(64 * cells, 128), nn.PReLU(128)
        self.dense5_1 = nn.Linear(128, classes)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) in [0, 1] to logits (B, K)."""
        maps = self.pool(self.prelu1(self.conv1((255.0 * x - 127.5) / 128.0)))
        maps = self.prelu3(self.conv3(self.pool(self.prelu2(self.conv2(maps)))))
        flat = maps.permute(0, 3, 2, 1).flatten(1)  # columns first: the order of the network that was ported
        logits: Tensor = self.dense5_1(self.prelu4(self.dense4(flat)))
        return logits


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return RNet
