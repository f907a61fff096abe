"""Object detection: COCO's average precision, and missed, misclassified and false objects, clean and attacked.

Lin et al., Microsoft COCO, ECCV 2014, arXiv:1405.0312, section 5, and its evaluation code (pycocotools).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from benchmark.api import Detection, Metric, hookimpl

if TYPE_CHECKING:
    import torchmetrics


@dataclass(frozen=True)
class DetectionMap(Metric):
    """`clean_map`, `clean_map50`, shares of `objects_gone` and `objects_misnamed`, and `false_objects` per scene.

    The same with `attacked_`. map is the mean over classes and the overlaps 0.5, 0.55, ..., 0.95; map50 that at 0.5. An
    object is gone if no detection has an overlap of 0.5, misnamed if the highest-scoring one of these has another
    class; a false object is a detection that overlaps none. An example not attacked, or not validly, enters the
    attacked figures with its clean answer. Intervals: 95 %, percentiles of 200 resamples of the examples.
    """

    tasks: ClassVar[frozenset[str]] = frozenset({Detection.name})

    def build(self) -> torchmetrics.Metric:
        """Ten measurements."""
        from ._objects import ObjectRates

        return ObjectRates()


@hookimpl
def benchmark_component() -> type[Metric]:
    """Registers the metric."""
    return DetectionMap
