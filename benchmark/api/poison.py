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
    """Changes the training examples before anything is trained on them."""

    rate: float = 0.1

    @abstractmethod
    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        """The poisoned training examples, and (M,) int64 ids of those that were added or changed.

        The core checks that M is `rate` times the number of clean training examples, rounded down.
        """

    def trigger(self, x: Tensor) -> Tensor | None:
        """Inputs with the backdoor's trigger, (B, *S); None where there is none."""
        return None

    def aim(self, y: Tensor) -> Tensor:
        """Label that the poison is to evoke for a test example of each label `y` (B,), of shape (B,) int64.

        -1 where the poison is not about such an example, so that it does not count: by default nowhere.
        """
        return y.new_full(y.shape, -1)

    def evokes(self) -> bool:
        """Tell a poison with a label to evoke in some test example from one without."""
        import torch

        return bool((self.aim(torch.arange(LABELS)) >= 0).any())


LABELS = 1024
"""Number of labels that a poison is asked about to know if it evokes one."""


@dataclass(frozen=True)
class InstancePoison(Poison):
    """A poison that is crafted for given test inputs, which are not changed at test time.

    target: the label that they are to get. victims: how many test inputs; the core takes the first of other labels.
    """

    target: int = 0
    victims: int = 1

    @abstractmethod
    def corrupt_for(
        self, train: Examples, victims: Examples, spec: DataSpec, rng: SampleRandom
    ) -> tuple[Examples, Tensor]:
        """As :meth:`Poison.corrupt`, with the test inputs and their true labels as the attacker knows them."""

    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        """Refuse: without victims there is nothing to craft.

        Raises:
            ConfigError: always; the core calls :meth:`corrupt_for`.
        """
        raise ConfigError(f"{type(self).__name__} is crafted for given test inputs; call corrupt_for with them")

    def aim(self, y: Tensor) -> Tensor:
        """(B,) int64: `target` for examples of other labels, else -1; the core counts the victims alone."""
        return y.new_full(y.shape, self.target).where(y != self.target, -1)
