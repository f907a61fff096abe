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

    reviewed: its code belongs to an installed plugin, not to a file or an object of the user's own.
    access: the most access that its systems can give an attacker: scores or labels if there are no gradients. An attack
    that needs more is refused, unless it transfers from a surrogate.
    """

    reviewed: ClassVar[bool] = True
    access: ClassVar[Access] = Access.gradients

    @abstractmethod
    def build(self, spec: DataSpec) -> nn.Module:
        """Module from inputs (B, *S) in [0, 1] to logits (B, K), including the normalisation.

        Initial weights come from torch's generator, which the core has seeded.
        """

    def pretrained(self, spec: DataSpec) -> dict[str, Tensor] | None:
        """Pretrained weights, which replace training; None to train from the initial weights."""
        return None

    def stated_accuracy(self, dataset: str) -> float | None:
        """Clean top-1 accuracy of the pretrained weights in [0, 1] according to their publisher; None if unknown.

        The core measures it when the weights are loaded, and refuses a model that contradicts it.

        Args:
            dataset: name of the dataset plugin.
        """
        return None

    def learn(self, module: nn.Module, train: Examples, spec: DataSpec, seed: int) -> None:
        """Fit `module`, as :meth:`build` made it, in place and without gradients.

        A model that defines this is not trained by the recipe. All that it learns must fit into the state of the module
        as built, which is stored and read back like any weights.

        Args:
            train: with hard labels only.
            seed: below 2**31, for everything random; nothing may be drawn from global generators.
        """
        raise NotImplementedError(f"{type(self).__name__} is trained by gradients and does not define learn()")

    @classmethod
    def learns(cls) -> bool:
        """True for a model that fits itself instead of being trained by gradients."""
        return cls.learn is not Model.learn

    def files(self) -> tuple[Path, ...]:
        """The user's own files and folders, whose change must invalidate cached results; see `Dataset.files`."""
        return ()

    def unreviewed(self) -> str:
        """Description of the code that a model runs if it is not `reviewed`; it depends on the code's content alone."""
        return "code of the user's own"
