"""Boosted trees of other libraries: settings, checks and training that are the same for each."""

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
    """Boosted trees over the features of inputs of any shape, grown on one thread.

    package: the library, which is the plugin's name and its extra too. owned: parameters that the harness sets.
    args: parameters of its classifier. mebibytes: room for what it learns.
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
        """The library's classifier."""

    @classmethod
    def taken(cls) -> Mapping[str, Any]:
        """Names of the parameters that the classifier takes."""
        return parameters(cls.classifier())

    @abstractmethod
    def grown(self, x: np.ndarray, y: np.ndarray, seed: int) -> bytes:
        """File of the trees for features (N, D) float32 and labels (N,), in the library's own format."""

    @staticmethod
    @abstractmethod
    def opened(file: bytes) -> Answer:
        """The trees of a file, on one thread."""

    def build(self, spec: DataSpec) -> nn.Module:
        """(B, *S) to (B, K); before :meth:`learn`, every score is 0."""
        return Portable(self.mebibytes * MEBIBYTE, spec.classes, self.opened)

    def learn(self, module: nn.Module, train: Examples, spec: DataSpec, seed: int) -> None:
        """Grow the trees on one thread.

        Raises:
            DataError: if a class has no training example, or there is no room for the trees.
        """
        assert isinstance(module, Portable)
        module.take(self.grown(*table_of(train, spec.classes, self.package), seed))
