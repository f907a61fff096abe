"""Semidefinite bound for one hidden layer. Raghunathan, Steinhardt & Liang, ICLR 2018, arXiv:1801.09344, section 3.

Within linf distance eps a score difference v . relu(W x + b) increases by at most eps / 4 times the maximum of <M, P>
over matrices P >= 0 with diagonal at most 1, where M contains W^T v and W^T diag(v). The dual bounds that maximum for
any c: D max(0, lambda_max(M - diag c)) + sum max(c, 0), with D the size of M. It depends only on weights and classes.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from benchmark.api import Certifier, ConfigError, Norm, Refused, Supports, Threat, hookimpl

if TYPE_CHECKING:
    from benchmark.api import SampleRandom, System

ROUNDING = 1e-5
"""Relative reduction of a radius, for the single precision of systems."""


@dataclass(frozen=True)
class Semidefinite(Certifier):
    """Semidefinite relaxation of one hidden ReLU layer: one eigenvalue problem per pair of classes and step.

    steps: subgradient steps on the dual; more give a tighter bound, which is valid after any number.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.linf}))
    steps: int = 50

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ConfigError(f"certifier.semidefinite.steps is {self.steps}; expected 0 or more")

    def certify(self, system: System, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Minimum of 4 (z_y - z_k) / bound over the other classes, at most 1, (B,) float32.

        Raises:
            Refused: if the system's computation is not understood, or does not have exactly one hidden layer.
        """
        from ._graph.chain import chain
        from ._graph.reading import differences, read

        reading = read(system, x, y, "certifier.semidefinite")
        net = chain(reading.graph, "certifier.semidefinite")
        if len(net.weights) != 2:
            raise Refused(
                "certifier.semidefinite bounds networks with one hidden layer, but this one has "
                f"{len(net.weights) - 1}; use certifier=crown"
            )
        first, last = net.weights
        table = _table(first.shape, last.shape, first.tobytes(), last.tobytes(), self.steps).to(x.device)
        chosen = differences(reading.graph, y)
        margin = (chosen @ reading.graph(x.double())[:, :, None]).squeeze(2) - reading.slack
        rise = table[y[:, None], chosen.argmin(2)]
        radius = (4.0 * margin / rise.clamp_min(1e-300)).amin(1) * (1.0 - ROUNDING)
        return torch.where((margin > 0).all(1), radius.clamp(0.0, 1.0), torch.zeros_like(radius)).float()


@functools.lru_cache(maxsize=8)
def _table(one: tuple[int, int], two: tuple[int, int], first: bytes, last: bytes, steps: int) -> Tensor:
    """Bound of <M, P> by pair of classes, (K, K) float64, symmetric."""
    weight, scores = np.frombuffer(first).reshape(one), np.frombuffer(last).reshape(two)
    up, down = np.triu_indices(len(scores), 1)
    matrices = torch.stack(
        [quadratic(torch.tensor(weight), torch.tensor(scores[k] - scores[j])) for j, k in zip(up, down, strict=True)]
    )
    table = torch.zeros(len(scores), len(scores), dtype=torch.float64)
    table[up, down] = table[down, up] = optimised_bound(matrices, steps)
    return table


def quadratic(weight: Tensor, direction: Tensor) -> Tensor:
    """M for hidden `weight` W (H, D) and a score difference v (H,), (1 + H + D, 1 + H + D)."""
    hidden, inputs = weight.shape
    size = 1 + hidden + inputs
    matrix = torch.zeros(size, size, dtype=torch.float64)
    cross = weight.T * direction  # (D, H): W^T diag(v)
    matrix[1 + hidden :, 0] = cross.sum(1)
    matrix[1 + hidden :, 1 : 1 + hidden] = cross
    return matrix + matrix.T


def dual_bound(matrices: Tensor, dual: Tensor) -> Tensor:
    """Upper bound of max <M, P> over P >= 0 with diagonal at most 1, for any `dual` c (N, size), (N,)."""
    top = torch.linalg.eigvalsh(matrices - torch.diag_embed(dual))[:, -1]
    bound: Tensor = matrices.shape[1] * top.clamp_min(0.0) * (1.0 + 1e-9) + dual.clamp_min(0.0).sum(1)
    return bound


def optimised_bound(matrices: Tensor, steps: int) -> Tensor:
    """Smallest bound along `steps` subgradient steps, which start at the largest eigenvalue, (N,)."""
    size = matrices.shape[1]
    top = torch.linalg.eigvalsh(matrices)[:, -1:].clamp_min(1e-12)
    dual = top.expand(-1, size).clone()
    best = dual_bound(matrices, torch.zeros_like(dual))
    for step in range(steps):
        values, vectors = torch.linalg.eigh(matrices - torch.diag_embed(dual))
        largest = values[:, -1].clamp_min(0.0)
        best = torch.minimum(best, size * largest * (1.0 + 1e-9) + dual.clamp_min(0.0).sum(1))
        slope = (dual > 0).double() - size * vectors[:, :, -1].square() * (values[:, -1:] > 0)
        dual = (
            dual
            - top * 0.3 / (1.0 + step) ** 0.5 * slope / slope.norm(dim=1, keepdim=True).clamp_min(1e-12) * size**0.5
        )
    return torch.minimum(best, dual_bound(matrices, dual))


@hookimpl
def benchmark_component() -> type[Certifier]:
    """Register the plugin."""
    return Semidefinite
