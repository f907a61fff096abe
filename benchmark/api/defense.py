"""The contract of defenses: the stages of training and inference that one may change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from benchmark.api.attack import Attack
from benchmark.api.component import Component
from benchmark.data import Batch, DataSpec, Examples
from benchmark.threat import Threat

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmark.sampling import SampleRandom

__all__ = ["Averaging", "Defense", "Loss"]

Loss = Callable[["nn.Module", Batch], "Tensor"]
"""A training loss: the mean over the batch, a scalar."""


@dataclass(frozen=True)
class Averaging:
    """A running average of the weights, deployed in place of the last ones.

    decay: of an exponential average; None weighs all alike. start: share of the epochs after which it begins.
    each_epoch: whether weights enter it at the end of an epoch, and not after each step.
    restate: whether the running statistics of normalisation layers are taken anew, with the averaged weights on clean
    training inputs; otherwise they are averaged like the weights.
    """

    decay: float | None = None
    start: float = 0.0
    each_epoch: bool = False
    restate: bool = False


@dataclass(frozen=True)
class Defense(Component):
    """Any subset of the stages below; the defaults change nothing.

    randomized: whether predictions of the protected model are random (through `benchmark.sampling.ambient`).
    differentiable: whether gradients of the protected model are meaningful (a declared surrogate counts).
    detects: whether `suspicion` is defined.
    shift_invariant: whether `suspicion` ignores a constant added to all logits, as probabilities do.
    optimizes: whether a pass of the protected model solves an optimisation problem for its input.
    neutral: settings at which the defense changes nothing, bit for bit; empty where there are none.
    trains_alone: whether it trains the networks by itself in `finish`, so that no other defense can change how.
    """

    trains_alone: ClassVar[bool] = False
    randomized: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    detects: ClassVar[bool] = False
    shift_invariant: ClassVar[bool] = False
    optimizes: ClassVar[bool] = False
    neutral: ClassVar[Mapping[str, Any]] = {}

    @property
    def votes(self) -> int:
        """Number of fresh draws whose majority is the answer of a randomised system; where it can be set, a field."""
        return 1

    def check(self, spec: DataSpec) -> None:
        """Called when the data is known, and before anything is trained.

        Args:
            spec: shape and classes of the data.

        Raises:
            Refused: with what the defense needs, in one sentence, where it can do nothing with such examples.
        """

    def prepare(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> Examples:
        """The training examples to use instead: augmented, relabelled, filtered."""
        return train

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        """The architecture to use instead; `build(self, model)` will do for a defense that needs no `spec`."""
        return model

    def start(
        self, model: nn.Module, train: Examples, spec: DataSpec, fit: Callable[[nn.Module, Examples, Loss], None]
    ) -> Defense:
        """Before training: the defense to train with, with whatever it has trained for that, such as a teacher.

        Called again where training was interrupted, and must then give the same.

        Args:
            model: with its initial weights; not to be changed. train: as prepared by the whole stack.
            fit: trains a module by the run's recipe, in place.
        """
        return self

    def at_epoch(self, epoch: int, epochs: int) -> Defense:
        """The defense as it is in one epoch of `epochs`, the first being 0: for schedules and what lasts an epoch."""
        return self

    def replays(self) -> int:
        """Steps taken in a row on each batch; an epoch then takes fewer batches, and no more steps."""
        return 1

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """The training loss, a scalar; `inner` is the loss of the stack below."""
        return inner(model, batch)

    def training_threat(self) -> Threat | None:
        """The threat that training defends against, under which the core then selects between epochs."""
        return None

    def after_step(self, model: nn.Module) -> None:
        """Called after each optimiser step, under no_grad: may change the weights in place (projections)."""

    def averaging(self) -> Averaging | None:
        """The average of the weights that is deployed, None for the last ones; of a stack the last one that has any."""
        return None

    def finish(self, model: nn.Module, train: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """Train further after the run's own training, in place; `fit` trains a module by the run's recipe.

        Whatever needs weights of its own (a purifier, a detector's network) is created in `build`, so that a cached
        system can be rebuilt from its weights.
        """

    def repair(self, model: nn.Module, clean: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """Repair the model in place after every `finish`, with examples known to be clean: the select split.

        For defenses that need a few clean examples, since only the training split is poisoned. `fit`: as in `finish`.
        """

    def protect(self, model: nn.Module) -> nn.Module:
        """At inference: the module that is deployed, from inputs in [0, 1] to logits."""
        return model

    def passes(self, below: int) -> int:
        """Passes that one pass of the protected module counts as, where one of the module below counts as `below`.

        An ensemble of n members counts n * below; a purifier that takes n steps of a network of its own, below + n.
        """
        return below

    def smoother(self) -> tuple[Defense, ...]:
        """Smoother or weaker settings of the same stage, with the same architecture and weights.

        An attacker who knows the defense finds adversarial examples on these, where gradients tell more, and transfers
        them to the deployed setting.
        """
        return ()

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """(B,) float32: higher is more suspicious. The core calibrates the threshold on clean examples."""
        raise NotImplementedError(f"{type(self).__name__} declares detects=True and defines no suspicion()")

    def suspicion_surrogate(self, model: nn.Module, x: Tensor) -> Tensor | None:
        """Differentiable stand-in for a suspicion that has no useful gradient of its own, else None, (B,) float32.

        An attacker who knows the detector follows its gradient; the verdict is made by `suspicion`.
        """
        return None

    def fitted_on(self) -> tuple[Attack, ...]:
        """Attacks whose examples a detector was fitted on; empty if it saw clean examples alone."""
        return ()
