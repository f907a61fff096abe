"""The contract of models."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from benchmark.api.component import Component
from benchmark.data import DataSpec, Examples
from benchmark.threat import Access

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Model"]


@dataclass(frozen=True)
class Model(Component):
    """An architecture.

    reviewed: whether its code belongs to an installed plugin, and not to a file or an object of the user's own.
    access: the most that its systems can tell an attacker: scores or labels where there are no gradients. An attack
    that needs more is refused, unless it transfers from a surrogate.
    """

    reviewed: ClassVar[bool] = True
    access: ClassVar[Access] = Access.gradients

    @abstractmethod
    def build(self, spec: DataSpec) -> nn.Module:
        """A module from (B, *S) in [0, 1] to logits (B, K), with the normalisation inside.

        Initial weights come from torch's generator, which the core has seeded.
        """

    def pretrained(self, spec: DataSpec) -> dict[str, Tensor] | None:
        """Weights that make training unnecessary, or None to train from the initial ones."""
        return None

    def learn(self, module: nn.Module, train: Examples, spec: DataSpec, seed: int) -> None:
        """Fit `module`, which :meth:`build` made, in place and without gradients: for models that have none.

        A model that defines it is not trained by the recipe. What it learns must fit into the state of the module, as
        built: it is stored and read back like any weights. train: with labels only, none of them soft. seed: below
        2**31, for whatever in it is random; nothing is drawn from global generators.
        """
        raise NotImplementedError(f"{type(self).__name__} is trained by gradients and defines no learn()")

    @classmethod
    def learns(cls) -> bool:
        """True for a model that fits itself and is not trained by gradients."""
        return cls.learn is not Model.learn

    def files(self) -> tuple[Path, ...]:
        """Files and folders of the user's own whose change must invalidate a cached result; see `Dataset.files`."""
        return ()

    def unreviewed(self) -> str:
        """Code that a model which is not `reviewed` runs, in words that its content alone decides."""
        return "code of the user's own"
