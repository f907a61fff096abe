"""P-Net, the first of the three networks of MTCNN. Zhang, Zhang, Li & Qiao, IEEE Signal Processing Letters, 2016.

arXiv:1604.02878, figure 2. It proposes the candidates of a face detector: it is fully convolutional and classifies
patches of 12x12 pixels, at every second pixel of an image in several sizes, as face or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from benchmark.api import DataSpec, Model, hookimpl

from ._mtcnn import PNET, pnet, published


@dataclass(frozen=True)
class PNet(Model):
    """Face classifier without box regression: 6 500 weights. Label 1 is a face.

    Differences from the paper: landmarks and boxes are omitted; other sizes, channels and classes are accepted for
    training, with the mean of the logits over all positions.

    weights: the wheel of facenet-pytorch (`pip download --no-deps facenet-pytorch`), or its pnet.pt; empty to train
    from initial weights.
    """

    weights: str = ""

    def build(self, spec: DataSpec) -> nn.Module:
        """Network from (B, C, H, W) to (B, K), for images of at least 12x12 pixels."""
        return pnet(spec)

    def pretrained(self, spec: DataSpec) -> dict[str, Tensor] | None:
        """The published weights, for three channels, 12x12 pixels and two classes."""
        return published(PNET, self.weights, spec)

    def files(self) -> tuple[Path, ...]:
        """The file of weights, or the wheel."""
        return (Path(self.weights),) if self.weights else ()


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return PNet
