"""Parseval networks. Cisse et al., ICML 2017, arXiv:1704.08847, section 4.2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from benchmark.api import ConfigError, Defense, hookimpl

from ._training.operators import matrices


@dataclass(frozen=True)
class Parseval(Defense):
    """After each step move the singular values of every weight towards 1: W <- (1 + beta) W - beta W W^T W.

    A kernel is taken as a matrix of outputs by inputs x kh x kw and scaled by sqrt(kh kw), so that a layer of norm 1
    has a Lipschitz constant of at most 1. Differences from the paper: all rows are used, not a sample of them, and the
    layers that add branches are unchanged, not made convex.

    beta: 0.0001 to 0.0003 in the paper. Singular values beyond sqrt((1 + beta) / beta), here 57, would grow.
    """

    neutral: ClassVar[Mapping[str, Any]] = {"beta": 0.0}

    beta: float = 3e-4

    def __post_init__(self) -> None:
        if not 0.0 <= self.beta <= 0.5:
            raise ConfigError(
                f"parseval.beta is {self.beta}; expected 0 to 0.5, beyond which singular values overshoot 1"
            )

    def after_step(self, model: nn.Module) -> None:
        """Apply the update once to every weight tensor of two or more dimensions."""
        if self.beta == 0.0:
            return
        for weight, matrix in matrices(model):
            scale = weight[0, 0].numel() ** 0.5
            weight.copy_((retracted(scale * matrix, self.beta) / scale).reshape(weight.shape))


def retracted(matrix: Tensor, beta: float) -> Tensor:
    """Matrix (n, m) whose singular values s have become (1 + beta) s - beta s^3."""
    if matrix.shape[0] <= matrix.shape[1]:
        return (1.0 + beta) * matrix - beta * (matrix @ matrix.T) @ matrix
    return (1.0 + beta) * matrix - beta * matrix @ (matrix.T @ matrix)


@hookimpl
def benchmark_component() -> type[Parseval]:
    """Register the plugin."""
    return Parseval
