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
    """Proves a lower bound on the distance to the nearest misclassified input."""

    supports: ClassVar[Supports]

    @abstractmethod
    def certify(self, system: System, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """(B,) float32: no point within this distance is misclassified; 0 where nothing can be said."""

    def certify_rows(self, system: System, x: Tensor, y: Tensor, *, rng: SampleRandom) -> Tensor | None:
        """Training rows that could be added or removed without changing the right answer, (B,) int64.

        None for certifiers that prove nothing about training rows.
        """
        return None
