"""The contract of certifiers."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from benchmark.api.attack import Supports
from benchmark.api.component import Component
from benchmark.threat import Threat

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.sampling import SampleRandom
    from benchmark.system import System

__all__ = ["Certifier"]


@dataclass(frozen=True)
class Certifier(Component):
    """A certified lower bound on the distance to the nearest misclassified input."""

    supports: ClassVar[Supports]

    @abstractmethod
    def certify(self, system: System, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Certified radius of each example, (B,) float32, in the threat's norm; 0 where nothing is proved.

        No input within this distance is misclassified.
        """

    def certify_rows(self, system: System, x: Tensor, y: Tensor, *, rng: SampleRandom) -> Tensor | None:
        """Number of training rows that may be added or removed without changing the correct answer, (B,) int64.

        None for certifiers that prove nothing about training rows.
        """
        return None
