"""Tree ensembles, by the boxes of their leaves. Chen et al., NeurIPS 2019, arXiv:1906.03849, section 3.

Within a radius each tree can return only the leaves whose box is that near, and the sum over trees of the worst of them
is a bound. A best-first search refines it to the distance of the nearest adversarial example (Kantchelian, Tygar &
Joseph, ICML 2016, solve the same problem as a mixed-integer linear program).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from benchmark.api import Certifier, ConfigError, Norm, SampleRandom, Supports, Threat, hookimpl

if TYPE_CHECKING:
    from benchmark.api import System

    from ._trees.search import Wrong

ROUNDING = 1e-6
"""Smallest difference of scores that counts, in units of the scores, and relative reduction of a radius."""


@dataclass(frozen=True)
class TreeBoxes(Certifier):
    """Certificate for tree ensembles without a defense at inference, in every norm: boosted trees and forests.

    boxes: splits of the search per example, of 0.1 ms for small ensembles and 7 ms for 16,000 leaves. The radius is the
    exact distance where the search ends before; elsewhere it is the largest radius that is proved by then.
    Regions are not used: the radius holds in every one.
    """

    supports: ClassVar[Supports] = Supports()
    boxes: int = 500

    def __post_init__(self) -> None:
        if self.boxes < 0:
            raise ConfigError(f"certifier.tree.boxes is {self.boxes}; expected at least 0")

    def certify(self, system: System, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Radius within which the score of `y` stays the highest, (B,) float32.

        Raises:
            Refused: if the deployed module is no tree ensemble, if its outputs differ from its leaves', or if leaves
                times features are more than 2**24.
        """
        from ._trees.reading import read
        from ._trees.search import nearest

        leaves, differs = read(system, x)
        rows, labels = x.flatten(1).cpu().numpy(), y.tolist()
        scale = float(np.abs(leaves.value).max()) * len(set(leaves.tree.tolist())) + float(np.abs(leaves.start).max())
        slack = max(ROUNDING * (1.0 + scale), 8.0 * differs)
        found = [
            nearest(leaves, row, label, threat.norm, wrong=_wrong(system, x, label), boxes=self.boxes, slack=slack)[0]
            for row, label in zip(rows, labels, strict=True)
        ]
        return torch.tensor([_within(far, threat.norm, rows.shape[1]) for far in found], device=x.device)


def _wrong(system: System, x: Tensor, y: int) -> Wrong:
    """Return a test of inputs (D,): True if the system gives another class than `y`. x: its rows have the shape."""

    def wrong(point: np.ndarray) -> bool:
        logits = system.logits(
            torch.from_numpy(point).to(x.device).reshape(x[:1].shape), SampleRandom(0, torch.arange(1))
        )
        return int(logits.argmax()) != y

    return wrong


def _within(far: float, norm: Norm, features: int) -> float:
    """Largest radius below the distance of a success; without one, a radius that holds the whole box."""
    if norm is Norm.l0:
        return min(max(far - 1.0, 0.0), float(features))
    return min(far * (1.0 - ROUNDING), 1.0 if norm is Norm.linf else float(features))


@hookimpl
def benchmark_component() -> type[Certifier]:
    """Register the plugin."""
    return TreeBoxes
