"""Examples that an attack has not broken yet, as far as it can tell."""

from __future__ import annotations

from torch import Tensor

from benchmark.api import DenseTask, Target

__all__ = ["REFUSED", "holds"]

REFUSED = -1
"""Label of an input that a detector refuses, as `Target.labels` gives it."""


def holds(target: Target, labels: Tensor, y: Tensor) -> Tensor:
    """True where the answers `labels` (b, ...) of :meth:`Target.labels` are the label `y` (b, ...), (b,) bool.

    Of examples with several sites: where there is no error that the threat's goal is about.
    """
    task = target.task
    return ~task.wrong(labels, y) if isinstance(task, DenseTask) else labels == y
