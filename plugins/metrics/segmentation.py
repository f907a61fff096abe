"""Segmentation: pixel accuracy and mean intersection over union (mIoU), on clean and on attacked inputs.

Everingham et al., The PASCAL visual object classes challenge, IJCV 111, 2015, section 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from benchmark.api import Metric, Segmentation, hookimpl

if TYPE_CHECKING:
    import torchmetrics


@dataclass(frozen=True)
class SegmentationMetric(Metric):
    """`clean_miou` and `attacked_miou` over all examples, `clean_pixel_accuracy` and `attacked_pixel_accuracy`.

    mIoU is the mean over classes of the intersection over union pooled over all examples. Pixels without a label do not
    count. An example not attacked, since its clean answer is wrong as a whole, or not validly attacked enters the
    attacked figures with its clean answer; one on which the attack failed enters with its final candidate. Intervals:
    95 %, percentiles of 200 resamples of the examples.
    """

    tasks: ClassVar[frozenset[str]] = frozenset({Segmentation.name})

    def build(self) -> torchmetrics.Metric:
        """Four measurements."""
        from ._pixels import PixelRates

        return PixelRates()


@hookimpl
def benchmark_component() -> type[Metric]:
    """Registers the metric."""
    return SegmentationMetric
