"""The contract of attacks, and the capabilities that attacks and certifiers declare."""

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
    """Declared capabilities of an attack or a certifier; `benchmark.config.check` refuses anything else before loading.

    norms: supported norms. access: the least access it needs.
    targeted: supports targeted threats. minimal: searches for the smallest perturbation (its candidates may then leave
    the eps-ball, and their distances give a whole accuracy curve). randomized: draws from `rng`.
    bounded: respects the threat's ball; False for a corruption, which no norm bounds: its candidates are judged by the
    box and the region alone.
    top5: can push the label out of the top five (:class:`Target` then ranks the scores).
    trigger: applies the trigger of the system's poison (`target.triggered`); success is then the poison's target label,
    over the examples that the poison is aimed at.
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
    """A test-time evasion attack."""

    supports: ClassVar[Supports]

    def check(self, spec: DataSpec, threat: Threat) -> None:
        """Check requirements that `supports` cannot express, such as colour images; called before training.

        Args:
            spec: shape and classes of the data.
            threat: norm, radius and the attacker's other limits.

        Raises:
            Refused: if the attack cannot work on such examples; one sentence that says what it needs.
        """

    def forwards(self, threat: Threat) -> int | None:
        """Most forward passes per example that its settings allow, for `dry_run=true`; None if only a run can tell."""
        return None

    @abstractmethod
    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Propose inputs that the system misclassifies; the core decides which of them count.

        Args:
            target: the system, as the threat lets an attacker see it; row i is row i of `x`.
            x: (B, *S) float32 in [0, 1]; must not be modified.
            y: (B,) int64, the true labels, or the target labels if `threat.targeted`.
            threat: the attacker's limits; `threat.around(x, rng)` is the set of allowed inputs.
            rng: randomness per example.

        Returns:
            Candidates (B, *S) in the dtype of `x`, each inside the threat for any system. A row without a success may
            hold any allowed input, for example the clean one.
        """


@dataclass(frozen=True)
class PreparedAttack(Attack):
    """An attack with a part prepared once per cell for all examples, such as a universal perturbation.

    `perturb` reads the prepared tensors from `target.prepared`.

    examples: the most training examples to prepare from, balanced over the labels.
    """

    examples: int = 500

    @abstractmethod
    def prepare(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> dict[str, Tensor]:
        """Prepare the tensors that :meth:`perturb` needs, from the attacker's own examples.

        Args:
            target: the system, as the threat lets an attacker see it; row i is row i of `x`. The query budget of the
                threat holds for each of these examples, as for the attacked ones.
            x: (N, *S) float32 in [0, 1]; must not be modified.
            y: (N,) int64, the true labels for every goal: under a targeted threat any label may be the target.
            threat: the attacker's limits. rng: randomness per example.

        Returns:
            Tensors by name. They are stored, and given to all workers.
        """
