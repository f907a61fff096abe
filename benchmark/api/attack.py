"""The contract of attacks, and what attacks and certifiers declare of themselves."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from benchmark.api.component import Component
from benchmark.data import DataSpec
from benchmark.threat import Access, Norm, Threat

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.sampling import SampleRandom
    from benchmark.system.target import Target

__all__ = ["Attack", "PreparedAttack", "Supports"]


@dataclass(frozen=True)
class Supports:
    """The abilities of an attack or a certifier; `benchmark.config.check` refuses the rest before anything is loaded.

    norms: the norms it works in. access: the least access it needs.
    targeted: whether it can reach a given label. minimal: whether it looks for the smallest perturbation (then it may
    leave the eps-ball, and its distances make a whole curve). randomized: whether it draws from `rng`.
    bounded: whether it respects the threat's ball; a corruption that answers to no norm does not, and its candidates
    are judged by the box and the region alone.
    top5: whether it can drive the label out of the five best answers (:class:`Target` shows it the scores ranked).
    trigger: whether it shows the trigger of the system's poison (`target.triggered`); then the poison's label is what
    counts, over the examples that the poison is about.
    """

    norms: frozenset[Norm] = frozenset(Norm)
    access: Access = Access.gradients
    targeted: bool = False
    minimal: bool = False
    randomized: bool = False
    bounded: bool = True
    top5: bool = False
    trigger: bool = False


@dataclass(frozen=True)
class Attack(Component):
    """Evasion at test time."""

    supports: ClassVar[Supports]

    def check(self, spec: DataSpec, threat: Threat) -> None:
        """Called when the data is known, and before anything is trained: what `supports` cannot say, such as colours.

        Args:
            spec: shape and classes of the data. threat: norm, radius and the rest of the attacker's limits.

        Raises:
            Refused: with what the attack needs, in one sentence, where it can do nothing with such examples.
        """

    @abstractmethod
    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Propose inputs that the system gets wrong; whether they count is decided by the core.

        Args:
            target: the system, as the threat lets an attacker see it; its rows are the rows of `x`.
            x: (B, *S) float32 in [0, 1]; must not be changed.
            y: (B,) int64, the labels to leave or, if `threat.targeted`, to reach.
            threat: the attacker's limits; `threat.around(x, rng)` is the set of allowed inputs.
            rng: randomness per example.

        Returns:
            (B, *S) in the dtype of `x`: inside the threat, whatever the system does. Rows the attack gave up on may
            be anything allowed, for example the clean input.
        """


@dataclass(frozen=True)
class PreparedAttack(Attack):
    """Evasion by something that is made beforehand, once per cell, and is the same for every example attacked.

    Such as a universal perturbation. `perturb` finds what was made in `target.prepared`.

    examples: of the training split at most, as many of each label as there are: what it is made from.
    """

    examples: int = 500

    @abstractmethod
    def prepare(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> dict[str, Tensor]:
        """Make what :meth:`perturb` needs, from examples that the attacker has.

        Args:
            target: the system, as the threat lets an attacker see it; its rows are the rows of `x`. The threat's query
                budget holds for each of these examples, as for those that are attacked.
            x: (N, *S) float32 in [0, 1]; must not be changed.
            y: (N,) int64, the true labels, whatever the goal: under a targeted threat any label may be one to reach.
            threat: the attacker's limits. rng: randomness per example.

        Returns:
            Tensors by name. They are stored, and given to all workers.
        """
