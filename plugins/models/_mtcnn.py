"""The three networks of MTCNN under the names of their published weights, and how these are read. Zhang et al., 2016.

arXiv:1604.02878, figure 2. Inputs are images in [0, 1]. Box corrections are shares of the sides of a patch, to be added
to its corners x0, y0, x1, y1. The published weights are in the wheel of facenet-pytorch. The package pins an old torch
and need not be installed: download the wheel with `pip download --no-deps facenet-pytorch`. Landmarks are left out.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmark.api import DataError, DataSpec, Refused

from ._normalize import image_shape

LANDMARKS = "dense6_3."
"""Name prefix of O-Net's layer of facial landmarks, which is not used."""


@dataclass(frozen=True)
class Published:
    """A network of the wheel. side: of its patches in pixels. sha256: of its file, the same in versions 2.0 to 2.6.

    boxes: name prefix of the layer of box regression. threshold: probability from which the cascade accepts a patch.
    """

    name: str
    side: int
    sha256: str
    boxes: str
    threshold: float

    @property
    def file(self) -> str:
        """Name of the file of weights in the wheel."""
        return f"facenet_pytorch/data/{self.name}.pt"


PNET = Published("pnet", 12, "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f", "conv4_2.", 0.6)
RNET = Published("rnet", 24, "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86", "dense5_2.", 0.7)
ONET = Published("onet", 48, "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d", "dense6_2.", 0.7)


def published(network: Published, weights: str, spec: DataSpec) -> dict[str, Tensor] | None:
    """Weights of a classifier of patches, without box regression; None if `weights` is empty.

    Raises:
        DataError: if the file is missing, or has another checksum.
        Refused: if the weights do not fit the data.
    """
    if not weights:
        return None
    shape = (3, network.side, network.side)
    if (spec.shape, spec.classes) != (shape, 2):
        raise Refused(
            f"the weights of model.{network.name} are for images of shape {shape} and 2 classes, but the dataset "
            f"has {spec.shape} and {spec.classes}; choose dataset=faces dataset.size={network.side}, or leave "
            "model.weights out"
        )
    found = read_weights(network, Path(weights))
    return {name: value for name, value in found.items() if not name.startswith(network.boxes)}


def read_weights(network: Published, path: Path) -> dict[str, Tensor]:
    """Weights from their own file or from the wheel, without landmarks.

    Raises:
        DataError: if there are none, or they have another checksum.
    """
    try:
        raw = path.read_bytes()
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                raw = wheel.read(network.file)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"model.weights is {str(path)!r}, from which {network.file} cannot be read ({error}); expected the wheel "
            f"of facenet-pytorch (pip download --no-deps facenet-pytorch), or its {network.name}.pt"
        ) from error
    found = hashlib.sha256(raw).hexdigest()
    if found != network.sha256:
        raise DataError(
            f"{network.name}.pt in {path} has sha256 {found}, expected {network.sha256}; take it from "
            "facenet-pytorch 2.6.0"
        )
    state = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    return {name: value for name, value in state.items() if not name.startswith(LANDMARKS)}


class ProposalNetwork(nn.Module):
    """Fully convolutional: 12x12 pixels give one position. Logits are the mean over all positions."""

    def __init__(self, channels: int, classes: int, *, boxes: bool = False) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(channels, 10, 3), nn.PReLU(10)
        self.conv2, self.prelu2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
        self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
        self.conv4_1 = nn.Conv2d(32, classes, 1)
        self.conv4_2 = nn.Conv2d(32, 4, 1) if boxes else None
        self.pool = nn.MaxPool2d(2, 2, ceil_mode=True)

    def both(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (B, K, h, w) and box corrections (B, 4, h, w) at each position; None without boxes."""
        maps = self.prelu2(self.conv2(self.pool(self.prelu1(self.conv1(_centred(x))))))
        maps = self.prelu3(self.conv3(maps))
        return self.conv4_1(maps), None if self.conv4_2 is None else self.conv4_2(maps)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) in [0, 1] to logits (B, K)."""
        return self.both(x)[0].mean((2, 3))


class RefinementNetwork(nn.Module):
    """Two pairs of convolution and pooling, a convolution, a dense layer. height, width: of the images."""

    def __init__(self, channels: int, classes: int, height: int, width: int, *, boxes: bool = False) -> None:
        super().__init__()
        cells = _last_rnet(height) * _last_rnet(width)
        self.conv1, self.prelu1 = nn.Conv2d(channels, 28, 3), nn.PReLU(28)
        self.conv2, self.prelu2 = nn.Conv2d(28, 48, 3), nn.PReLU(48)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.dense4, self.prelu4 = nn.Linear(64 * cells, 128), nn.PReLU(128)
        self.dense5_1 = nn.Linear(128, classes)
        self.dense5_2 = nn.Linear(128, 4) if boxes else None
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)

    def both(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (B, K) and box corrections (B, 4); None without boxes."""
        maps = self.pool(self.prelu1(self.conv1(_centred(x))))
        maps = self.prelu3(self.conv3(self.pool(self.prelu2(self.conv2(maps)))))
        hidden = self.prelu4(self.dense4(_columns_first(maps)))
        return self.dense5_1(hidden), None if self.dense5_2 is None else self.dense5_2(hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) in [0, 1] to logits (B, K)."""
        return self.both(x)[0]


class OutputNetwork(nn.Module):
    """Three pairs of convolution and pooling, a convolution, a dense layer. height, width: of the images."""

    def __init__(self, channels: int, classes: int, height: int, width: int, *, boxes: bool = False) -> None:
        super().__init__()
        cells = _last_onet(height) * _last_onet(width)
        self.conv1, self.prelu1 = nn.Conv2d(channels, 32, 3), nn.PReLU(32)
        self.conv2, self.prelu2 = nn.Conv2d(32, 64, 3), nn.PReLU(64)
        self.conv3, self.prelu3 = nn.Conv2d(64, 64, 3), nn.PReLU(64)
        self.conv4, self.prelu4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
        self.dense5, self.prelu5 = nn.Linear(128 * cells, 256), nn.PReLU(256)
        self.dense6_1 = nn.Linear(256, classes)
        self.dense6_2 = nn.Linear(256, 4) if boxes else None
        self.pool, self.pool3 = nn.MaxPool2d(3, 2, ceil_mode=True), nn.MaxPool2d(2, 2, ceil_mode=True)

    def both(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (B, K) and box corrections (B, 4); None without boxes."""
        maps = self.pool(self.prelu2(self.conv2(self.pool(self.prelu1(self.conv1(_centred(x)))))))
        maps = self.prelu4(self.conv4(self.pool3(self.prelu3(self.conv3(maps)))))
        hidden = self.prelu5(self.dense5(_columns_first(maps)))
        return self.dense6_1(hidden), None if self.dense6_2 is None else self.dense6_2(hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) in [0, 1] to logits (B, K)."""
        return self.both(x)[0]


def pnet(spec: DataSpec) -> nn.Module:
    """P-Net for images of at least 12x12 pixels."""
    channels, _, _ = image_shape(spec, "pnet", PNET.side)
    return ProposalNetwork(channels, spec.classes)


def rnet(spec: DataSpec) -> nn.Module:
    """R-Net for images of at least 14x14 pixels."""
    channels, height, width = image_shape(spec, "rnet", 14)
    return RefinementNetwork(channels, spec.classes, height, width)


def onet(spec: DataSpec) -> nn.Module:
    """O-Net for images of at least 28x28 pixels."""
    channels, height, width = image_shape(spec, "onet", 28)
    return OutputNetwork(channels, spec.classes, height, width)


def _centred(x: Tensor) -> Tensor:
    """The published networks' input, from images in [0, 1]."""
    return (255.0 * x - 127.5) / 128.0


def _columns_first(maps: Tensor) -> Tensor:
    """(B, n): the order of the network that was ported."""
    return maps.permute(0, 3, 2, 1).flatten(1)


def _halved(side: int, window: int) -> int:
    """Side after pooling with stride 2 that rounds up; the last window starts inside the maps."""
    return -(-(side - window) // 2) + 1


def _last_rnet(side: int) -> int:
    """Side of R-Net's last maps."""
    for _ in range(2):
        side = _halved(side - 2, 3)
    return side - 1


def _last_onet(side: int) -> int:
    """Side of O-Net's last maps."""
    for _ in range(2):
        side = _halved(side - 2, 3)
    return _halved(side - 2, 2) - 1
