"""Exact robustness: the distance to the nearest misclassified input. Tjeng et al., ICLR 2019, arXiv:1711.07356.

Linear classifiers have closed forms under every norm; piecewise linear networks are solved as mixed-integer linear
programs under linf and l1 (section 4). The programs are made from the deployed system's computation, traced
operator by operator and checked against its outputs, not from a list of its layers. The radius is both the largest that
can be certified and a lower bound for attacks, which a perfect attack reaches (the metric optimality_gap).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from benchmark.api import Certifier, Refused, Supports, Threat, hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.api import SampleRandom, System

ROUNDING = 1e-5
"""Relative reduction of a radius, for the single precision of systems."""


@dataclass(frozen=True)
class Exact(Certifier):
    """Exact radius for small systems: about a second per example at two hidden layers of 16 units.

    Regions are not used: the radius holds in every one.
    """

    supports: ClassVar[Supports] = Supports()

    def certify(self, system: System, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Exact distance, reduced by a factor of 1 - 1e-5, (B,) float32.

        Raises:
            Refused: if an operator of the system is not understood, if it is random or has a detector, or if it is too
                large; for networks with hidden layers also under l2 and l0, which have no linear program.
            DataError: if a program was not solved.
        """
        from benchmark.oracles.relu import SOLVED

        from ._graph.chain import chain
        from ._graph.reading import read

        net = chain(read(system, x, y, "certifier.exact").graph, "certifier.exact")
        if len(net.weights) > 1 and threat.norm not in SOLVED:
            raise Refused(
                f"certifier.exact solves networks with hidden layers under {', '.join(n.value for n in SOLVED)}, but "
                f"threat.norm is {threat.norm.value}; choose another norm, a linear model, or no certifier"
            )
        far = net.distance(x.cpu(), y.cpu(), threat.norm) * (1.0 - ROUNDING)
        whole = float(x[0].numel())  # no change in the box is larger, under any norm
        return far.clamp_max(whole).float().to(x.device)


@hookimpl
def benchmark_component() -> type[Certifier]:
    """Register the plugin."""
    return Exact
