"""R-Net, the second of the three networks of MTCNN. Zhang, Zhang, Li & Qiao, IEEE Signal Processing Letters, 2016.

arXiv:1604.02878, figure 2. It classifies the candidates of a face detector, patches of 24x24 pixels, as face or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from benchmark.api import DataSpec, Model, hookimpl

from ._mtcnn import RNET, published, rnet


@dataclass(frozen=True)
class RNet(Model):
    """Face classifier without box regression: 99 662 weights. Label 1 is a face.

    Differences from the paper: landmarks and boxes are omitted; other sizes, channels and classes are accepted for
    training.

    weights: the wheel of facenet-pytorch (`pip download --no-deps facenet-pytorch`), or its rnet.pt; empty to train
    from initial weights.
    """

    weights: str = ""

    def build(self, spec: DataSpec) -> nn.Module:
        """Network from (B, C, H, W) to (B, K), for images of at least 14x14 pixels."""
        return rnet(spec)

    def pretrained(self, spec: DataSpec) -> dict[str, Tensor] | None:
        """The published weights, for three channels, 24x24 pixels and two classes."""
        return published(RNET, self.weights, spec)

    def files(self) -> tuple[Path, ...]:
        """The file of weights, or the wheel."""
        return (Path(self.weights),) if self.weights else ()


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return RNet
