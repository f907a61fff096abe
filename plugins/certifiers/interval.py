"""Interval bounds, layer by layer. Gowal et al., ICCV 2019, arXiv:1810.12715, section 3; Mirman et al., ICML 2018."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from benchmark.api import Certifier, ConfigError, Norm, Supports, Threat, hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.api import SampleRandom, System


@dataclass(frozen=True)
class IntervalBounds(Certifier):
    """The cheapest of the bounds, tight for networks trained with it: two passes per attempt.

    halvings: attempts after the first, which is at the threat's radius; finds radii of up to twice that.
    The last affine layers are merged with the difference of two scores before they are bounded.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.linf}))
    halvings: int = 6

    def __post_init__(self) -> None:
        if self.halvings < 0:
            raise ConfigError(f"certifier.interval.halvings is {self.halvings}; expected 0 or more")

    def certify(self, system: System, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Radius within which intervals keep every other score below that of `y`, (B,) float32.

        Raises:
            Refused: if the system's computation is not understood.
        """
        from ._graph.balls import Around
        from ._graph.boxes import last_intervals, least_differences
        from ._graph.radius import proved_radius
        from ._graph.reading import differences, read

        reading = read(system, x, y, "certifier.interval")
        graph, exact = reading.graph, x.double()

        def holds(rows: Tensor, radius: Tensor) -> Tensor:
            around = Around(exact[rows], radius, threat.norm)
            found = last_intervals(graph, around.low, around.high)
            return (least_differences(graph, found, differences(graph, y[rows])) > reading.slack).all(1)

        right = graph(exact).argmax(1) == y
        return proved_radius(holds, right, threat, self.halvings)


@hookimpl
def benchmark_component() -> type[Certifier]:
    """Register the plugin."""
    return IntervalBounds
