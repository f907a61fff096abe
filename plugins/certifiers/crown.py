"""CROWN: linear relaxations with optimised slopes. Zhang et al., NeurIPS 2018; Xu et al., ICLR 2021, arXiv:2011.13824.

Bounds before each kink come from relaxations of the layers below it, or from intervals where these are tighter; the
slopes of the lines below kinks are then optimised for each score difference by projected gradients (alpha-CROWN,
Xu et al., section 3.1). Difference from it: slopes are optimised for the last bound only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from benchmark.api import Certifier, ConfigError, Norm, Supports, Threat, hookimpl

if TYPE_CHECKING:
    from benchmark.api import SampleRandom, System

    from ._graph.balls import Around
    from ._graph.graph import Graph
    from ._graph.nodes import Node
    from ._graph.relaxations import Kink

ROWS = 64
"""Number of examples bounded at once."""


@dataclass(frozen=True)
class Crown(Certifier):
    """Bounds between intervals and the exact radius, for networks of thousands of units.

    steps: of the slopes' optimisation (0 is CROWN). step_size: of Adam on slopes between 0 and 1.
    halvings: attempts after the first, which is at the threat's radius; finds radii of up to twice that.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.linf, Norm.l2, Norm.l1}))
    steps: int = 10
    step_size: float = 0.2
    halvings: int = 6

    def __post_init__(self) -> None:
        if min(self.steps, self.halvings) < 0 or self.step_size <= 0:
            raise ConfigError(
                f"certifier.crown.steps is {self.steps}, halvings {self.halvings} and step_size {self.step_size}; "
                "expected 0 or more, and a positive step"
            )

    def certify(self, system: System, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Radius within which relaxations keep every other score below that of `y`, (B,) float32.

        Raises:
            Refused: if the system's computation is not understood.
        """
        from ._graph.balls import Around
        from ._graph.radius import proved_radius
        from ._graph.reading import differences, read

        reading = read(system, x, y, "certifier.crown")
        graph, exact = reading.graph, x.double()

        def holds(rows: Tensor, radius: Tensor) -> Tensor:
            around = Around(exact[rows], radius, threat.norm)
            proved = ~broken(graph, around, y[rows])
            for part in proved.nonzero().squeeze(1).split(ROWS):
                chosen = differences(graph, y[rows[part]])
                least = least_differences(graph, around.rows(part), chosen, self.steps, self.step_size, reading.slack)
                proved[part] = (least > reading.slack).all(1)
            return proved

        right = graph(exact).argmax(1) == y
        return proved_radius(holds, right, threat, self.halvings)


def broken(graph: Graph, around: Around, y: Tensor) -> Tensor:
    """True where one step to a corner of the linf ball is adversarial, so that no bound is needed, (B,) bool."""
    from ._graph.reading import uphill

    if around.norm is not Norm.linf:
        return torch.zeros_like(y, dtype=torch.bool)
    step = uphill(graph, around.x, y)
    corner = torch.where(step > 0, around.high, torch.where(step < 0, around.low, around.x))
    with torch.no_grad():
        return graph(corner).argmax(1) != y


def least_differences(
    graph: Graph,
    around: Around,
    coefficients: Tensor,
    steps: int = 0,
    step_size: float = 0.2,
    enough: float = torch.inf,
) -> Tensor:
    """Lower bounds of combinations of the scores over a ball, never below those of intervals, (B, M).

    Args:
        coefficients: (B, M, K). steps, step_size: of the slopes' optimisation. enough: stop improving a bound above it.
    """
    from ._graph import boxes
    from ._graph.relaxations import kinks, lower_bound

    found = boxes.intervals(graph, around.low, around.high)
    best = boxes.least_differences(graph, found, coefficients)
    rows = (best <= enough).any(1).nonzero().squeeze(1)
    if not len(rows):
        return best
    around, coefficients = around.rows(rows), coefficients[rows]
    relaxed = kinks(graph, around)
    plain = lower_bound(graph, {graph.logits: coefficients}, relaxed, around)
    best[rows] = torch.maximum(best[rows], plain)
    left = (best[rows] <= enough).any(1).nonzero().squeeze(1)
    if steps and len(left):
        fewer = {node: kink.rows(left) for node, kink in relaxed.items()}
        improved = _optimised(graph, around.rows(left), coefficients[left], fewer, steps, step_size)
        best[rows[left]] = torch.maximum(best[rows[left]], improved)
    return best


def _optimised(
    graph: Graph, around: Around, coefficients: Tensor, relaxed: dict[Node, Kink], steps: int, step_size: float
) -> Tensor:
    """Best bound over slopes optimised by Adam, projected to [0, 1], (B, M)."""
    from ._graph.relaxations import lower_bound

    count = coefficients.shape[1]
    slopes = {
        node: kink.below.expand(-1, count, *kink.below.shape[2:]).clone().requires_grad_()
        for node, kink in relaxed.items()
    }
    best = coefficients.new_full(coefficients.shape[:2], -torch.inf)
    if not slopes:
        return best
    optimiser = torch.optim.Adam(slopes.values(), lr=step_size)
    with torch.enable_grad():
        for _ in range(steps):
            kinks = {node: kink.sloped(slopes[node]) for node, kink in relaxed.items()}
            bound = lower_bound(graph, {graph.logits: coefficients}, kinks, around)
            best = torch.maximum(best, bound.detach())
            optimiser.zero_grad()
            (-bound.sum()).backward()
            optimiser.step()
            with torch.no_grad():
                for slope in slopes.values():
                    slope.clamp_(0.0, 1.0)
    kinks = {node: kink.sloped(slopes[node].detach()) for node, kink in relaxed.items()}
    return torch.maximum(best, lower_bound(graph, {graph.logits: coefficients}, kinks, around))


@hookimpl
def benchmark_component() -> type[Certifier]:
    """Register the plugin."""
    return Crown
