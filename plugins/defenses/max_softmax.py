"""Maximum softmax probability as a detector. Hendrycks & Gimpel, ICLR 2017, arXiv:1610.02136, section 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from benchmark.api import Defense, hookimpl


@dataclass(frozen=True)
class MaxSoftmax(Defense):
    """Detect inputs whose predicted label has a low probability. Fits nothing; costs one pass.

    The score is -log of the largest probability, which has the same order and does not saturate.
    """

    detects: ClassVar[bool] = True
    shift_invariant: ClassVar[bool] = True

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """-log of the largest probability, (B,) float32, from 0 to log K."""
        return uncertainty(model(x))


def uncertainty(logits: Tensor) -> Tensor:
    """-log max_k softmax(logits)_k of logits (B, K), (B,)."""
    return -logits.log_softmax(1).amax(1)


@hookimpl
def benchmark_component() -> type[Defense]:
    """Register the plugin."""
    return MaxSoftmax
