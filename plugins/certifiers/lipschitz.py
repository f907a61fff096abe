"""Lipschitz margins per pair of classes. Tsuzuku, Sato & Sugiyama, NeurIPS 2018, arXiv:1802.04034, section 4.

The difference z_y - z_k of two scores changes by at most L_yk per unit of l2 distance. L_yk is the norm of the last
affine map's row difference times the Lipschitz constant of the layers below, the product of their spectral norms. One
constant for all pairs, margin / (sqrt(2) L), is far weaker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from benchmark.api import Certifier, Norm, Supports, Threat, hookimpl

if TYPE_CHECKING:
    from benchmark.api import SampleRandom, System

ROUNDING = 1e-5
"""Relative reduction of a radius, for the single precision of systems."""


@dataclass(frozen=True)
class LipschitzMargin(Certifier):
    """Free per example; strong for 1-Lipschitz networks, exact for linear ones without the box."""

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.l2}))

    def certify(self, system: System, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Smallest margin divided by the constant of its pair, at most the diameter of the box, (B,) float32.

        Raises:
            Refused: if the system's computation is not understood.
        """
        from ._graph.reading import differences, read
        from ._graph.slopes import pair_constants

        reading = read(system, x, y, "certifier.lipschitz")
        chosen = differences(reading.graph, y)
        margin = (chosen @ reading.graph(x.double())[:, :, None]).squeeze(2) - reading.slack
        radius = margin / pair_constants(reading.graph, chosen).clamp_min(1e-300)
        least = (radius.amin(1) * (1.0 - ROUNDING)).clamp(0.0, x[0].numel() ** 0.5)
        return torch.where((margin > 0).all(1), least, torch.zeros_like(least)).float()


@hookimpl
def benchmark_component() -> type[Certifier]:
    """Register the plugin."""
    return LipschitzMargin
