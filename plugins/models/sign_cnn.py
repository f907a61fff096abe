"""LISA-CNN and GTSRB-CNN, the road sign classifiers of Eykholt et al. (RP2), CVPR 2018, arXiv:1707.08945, section 4.1.

LISA-CNN: "three convolutional layers and an FC layer", as in CleverHans's tutorial (Papernot et al., 2016,
arXiv:1610.00768): 8x8 with stride 2 and padding, 6x6 with stride 2, 5x5. GTSRB-CNN: the multi-scale network of V. Yadav
(2016), after Sermanet & LeCun, IJCNN 2011: 1x1 to three maps, then three pairs of 5x5 convolutions, each pair followed
by pooling; all three scales enter two hidden layers of 1024 units.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn

from benchmark.api import ConfigError, DataSpec, Model, hookimpl

from ._normalize import Normalize, image_shape


class SignNetwork(Enum):
    """lisa: of American signs. gtsrb: of German ones."""

    lisa = "lisa"
    gtsrb = "gtsrb"


@dataclass(frozen=True)
class SignCNN(Model):
    """LISA-CNN or GTSRB-CNN.

    width: maps of the first convolution, 64 in LISA-CNN's paper (the others have twice as many) and 32 in GTSRB-CNN
    (doubled at each scale); 0 for these. dropout: of GTSRB-CNN, after each scale and each hidden layer, in training.
    """

    variant: SignNetwork = SignNetwork.lisa
    width: int = 0
    dropout: float = 0.5

    def __post_init__(self) -> None:
        if self.width < 0:
            raise ConfigError(f"model.width is {self.width}; expected at least 1 map, or 0 for the paper's")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"model.dropout is {self.dropout}; expected a share below 1")

    def build(self, spec: DataSpec) -> nn.Module:
        """Network from (B, C, H, W) to (B, K); LISA-CNN for images of at least 28x28 pixels, GTSRB-CNN of 8x8."""
        if self.variant is SignNetwork.gtsrb:
            return nn.Sequential(Normalize(spec), _MultiScale(spec, self.width or 32, self.dropout))
        width = self.width or 64
        channels, *sides = image_shape(spec, "sign_cnn", 28)
        high, wide = (((side // 2) - 6) // 2 + 1 - 4 for side in sides)
        return nn.Sequential(
            Normalize(spec),
            nn.Conv2d(channels, width, 8, stride=2, padding=3),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 6, stride=2),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 5),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * high * wide, spec.classes),
        )


class _MultiScale(nn.Module):
    """GTSRB-CNN without its normalisation."""

    def __init__(self, spec: DataSpec, width: int, dropout: float) -> None:
        super().__init__()
        channels, height, wide = image_shape(spec, "sign_cnn", 8)
        self.colours = nn.Sequential(nn.Conv2d(channels, 3, 1), nn.ReLU())
        given, features, scales = 3, 0, []
        for scale in range(3):
            maps = width * 2**scale
            convolutions = [nn.Conv2d(given, maps, 5, padding=2), nn.ReLU(), nn.Conv2d(maps, maps, 5, padding=2)]
            scales.append(nn.Sequential(*convolutions, nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(dropout)))
            given, height, wide = maps, height // 2, wide // 2
            features += maps * height * wide
        self.scales = nn.ModuleList(scales)
        hidden = [nn.Linear(features, 1024), nn.ReLU(), nn.Dropout(dropout)]
        hidden += [nn.Linear(1024, 1024), nn.ReLU(), nn.Dropout(dropout)]
        self.head = nn.Sequential(*hidden, nn.Linear(1024, spec.classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (B, K)."""
        maps, found = self.colours(x), []
        for scale in self.scales:
            maps = scale(maps)
            found.append(maps.flatten(1))
        logits: Tensor = self.head(torch.cat(found, 1))
        return logits


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return SignCNN
