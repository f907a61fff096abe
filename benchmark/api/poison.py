"""The contract of poisons."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.api.component import Component
from benchmark.data import DataSpec, Examples
from benchmark.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.sampling import SampleRandom

__all__ = ["InstancePoison", "Poison"]


@dataclass(frozen=True)
class Poison(Component):
    """A poisoning attack: changes the training examples before anything is trained on them."""

    rate: float = 0.1

    @abstractmethod
    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        """Poisoned training examples, and the ids (M,) int64 of those that were added or changed.

        The core checks that M is `rate` times the number of clean training examples, rounded down.
        """

    def trigger(self, x: Tensor) -> Tensor | None:
        """Inputs with the backdoor's trigger applied, (B, *S); None if there is no trigger."""
        return None

    def aim(self, y: Tensor) -> Tensor:
        """Label that the poison should cause for a test example of each label `y` (B,), (B,) int64.

        -1 where an example is not targeted and does not count: everywhere by default.
        """
        return y.new_full(y.shape, -1)

    def evokes(self) -> bool:
        """True if the poison targets a label for some test example."""
        import torch

        return bool((self.aim(torch.arange(LABELS)) >= 0).any())


LABELS = 1024
"""Number of labels that are tried to find out if a poison targets one."""


@dataclass(frozen=True)
class InstancePoison(Poison):
    """A poison crafted for given test inputs, which are not changed at test time.

    target: the label that they should get. victims: number of test inputs; the core takes the first of other labels.
    """

    target: int = 0
    victims: int = 1

    @abstractmethod
    def corrupt_for(
        self, train: Examples, victims: Examples, spec: DataSpec, rng: SampleRandom
    ) -> tuple[Examples, Tensor]:
        """Like :meth:`Poison.corrupt`, given the test inputs and their true labels as the attacker knows them."""

    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        """Raise: the poison is crafted for victims, which this method does not get.

        Raises:
            ConfigError: always; the core calls :meth:`corrupt_for`.
        """
        raise ConfigError(f"{type(self).__name__} is crafted for given test inputs; call corrupt_for with them")

    def aim(self, y: Tensor) -> Tensor:
        """`target` for examples of other labels, else -1, (B,) int64; the core counts the victims alone."""
        return y.new_full(y.shape, self.target).where(y != self.target, -1)
