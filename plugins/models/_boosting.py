"""Boosted trees of other libraries: shared settings, checks and training."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from torch import nn

from benchmark.api import Access, DataSpec, Examples, Model

from ._portable import MEBIBYTE, Answer, Portable, checked, needs, parameters, table_of

__all__ = ["Boosting"]


@dataclass(frozen=True)
class Boosting(Model):
    """Boosted trees over the features of inputs of any shape, fitted on one thread.

    package: the library, which is also the name of the plugin and of its extra. owned: parameters set by the harness.
    args: parameters of the library's classifier. mebibytes: capacity for the fitted trees.
    """

    access: ClassVar[Access] = Access.scores
    package: ClassVar[str]
    owned: ClassVar[tuple[str, ...]]

    args: dict[str, Any] = field(default_factory=dict)
    mebibytes: int = 8

    def __post_init__(self) -> None:
        needs(self.package, f"pip install 'adversarial-benchmark[{self.package}]'", self.package)
        checked(self.args, self.taken(), self.owned, f"{self.package}'s {self.classifier().__name__}")

    def __hash__(self) -> int:
        return hash((repr(self.args), self.mebibytes))

    @classmethod
    @abstractmethod
    def classifier(cls) -> Any:
        """The library's classifier class."""

    @classmethod
    def taken(cls) -> Mapping[str, Any]:
        """Parameters that the classifier accepts, by name."""
        return parameters(cls.classifier())

    @abstractmethod
    def grown(self, x: np.ndarray, y: np.ndarray, seed: int) -> bytes:
        """File of the trees fitted to features (N, D) float32 and labels (N,), in the library's format."""

    @staticmethod
    @abstractmethod
    def opened(file: bytes) -> Answer:
        """Prediction function of the trees in a file, on one thread."""

    def build(self, spec: DataSpec) -> nn.Module:
        """Network from (B, *S) to scores (B, K), which are 0 before :meth:`learn`."""
        return Portable(self.mebibytes * MEBIBYTE, spec.classes, self.opened)

    def learn(self, module: nn.Module, train: Examples, spec: DataSpec, seed: int) -> None:
        """Fit the trees on one thread.

        Raises:
            DataError: if a class has no training example, or the trees exceed `mebibytes`.
        """
        assert isinstance(module, Portable)
        module.take(self.grown(*table_of(train, spec.classes, self.package), seed))
