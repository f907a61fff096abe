"""The contract of defenses: the stages of training and inference that a defense may change."""

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

    decay: of an exponential average; None weighs all equally. start: fraction of the epochs after which it begins.
    each_epoch: average at the end of each epoch, instead of after each step.
    restate: recompute the running statistics of normalisation layers with the averaged weights, on clean training
    inputs; otherwise they are averaged like the weights.
    """

    decay: float | None = None
    start: float = 0.0
    each_epoch: bool = False
    restate: bool = False


@dataclass(frozen=True)
class Defense(Component):
    """A defense: it overrides any subset of the stages below; the defaults change nothing.

    randomized: predictions of the protected model are random (through `benchmark.sampling.ambient`).
    differentiable: gradients of the protected model are meaningful (a declared surrogate counts).
    detects: `suspicion` is defined.
    shift_invariant: `suspicion` ignores a constant added to all logits, as probabilities do.
    optimizes: each pass of the protected model solves an optimisation problem for its input.
    neutral: settings at which the defense changes nothing, bit for bit; empty if there are none.
    trains_alone: trains the networks itself in `finish`, so that no other defense can change how.
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
        """Number of draws in the majority vote of a randomised system; a field where it can be configured."""
        return 1

    def check(self, spec: DataSpec) -> None:
        """Check the requirements on the data; called before anything is trained.

        Args:
            spec: shape and classes of the data.

        Raises:
            Refused: if the defense cannot work on such examples; one sentence that says what it needs.
        """

    def prepare(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> Examples:
        """Training examples to use instead: augmented, relabelled or filtered."""
        return train

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        """Architecture to use instead; `build(self, model)` is enough for a defense that needs no `spec`."""
        return model

    def start(
        self, model: nn.Module, train: Examples, spec: DataSpec, fit: Callable[[nn.Module, Examples, Loss], None]
    ) -> Defense:
        """Prepare training, including further models such as a teacher, and return the defense to train with.

        Called again when an interrupted training resumes; must then return the same.

        Args:
            model: with its initial weights; must not be modified. train: as prepared by the whole stack.
            fit: trains a module by the run's recipe, in place.
        """
        return self

    def at_epoch(self, epoch: int, epochs: int) -> Defense:
        """The defense during epoch `epoch` of `epochs`, counted from 0: for schedules and state of one epoch."""
        return self

    def replays(self) -> int:
        """Consecutive steps on each batch; an epoch then has fewer batches, and no more steps."""
        return 1

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """Training loss, a scalar; `inner` is the loss of the stack below."""
        return inner(model, batch)

    def training_threat(self) -> Threat | None:
        """Threat that training defends against; the core selects the epoch under it."""
        return None

    def after_step(self, model: nn.Module) -> None:
        """Change the weights in place after an optimiser step, such as by a projection; called under no_grad."""

    def averaging(self) -> Averaging | None:
        """Weight average to deploy, None for the last weights; in a stack, the last one defined wins."""
        return None

    def finish(self, model: nn.Module, train: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """Train further after the run's own training, in place; `fit` trains a module by the run's recipe.

        Anything with weights of its own (a purifier, a detector's network) is created in `build`, so that a cached
        system can be rebuilt from its weights.
        """

    def repair(self, model: nn.Module, clean: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """Repair the model in place after every `finish`, with examples known to be clean: the select split.

        For defenses that need a few clean examples, since only the training split is poisoned. `fit`: as in `finish`.
        """

    def protect(self, model: nn.Module) -> nn.Module:
        """Deployed module for inference, from inputs in [0, 1] to logits."""
        return model

    def passes(self, below: int) -> int:
        """Cost of one pass of the protected module in passes, where one pass of the module below costs `below`.

        An ensemble of n members costs n * below; a purifier that takes n steps of its own network, below + n.
        """
        return below

    def smoother(self) -> tuple[Defense, ...]:
        """Smoother or weaker settings of the same stage, with the same architecture and weights.

        A defense-aware attacker searches on these, where gradients are more informative, and transfers the adversarial
        examples to the deployed setting.
        """
        return ()

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """Suspicion score, (B,) float32, larger if more suspicious; the core calibrates the threshold."""
        raise NotImplementedError(f"{type(self).__name__} declares detects=True but does not define suspicion()")

    def suspicion_surrogate(self, model: nn.Module, x: Tensor) -> Tensor | None:
        """Differentiable surrogate of a suspicion score without a useful gradient, (B,) float32, or None.

        A defense-aware attacker follows its gradient; `suspicion` makes the decision.
        """
        return None

    def fitted_on(self) -> tuple[Attack, ...]:
        """Attacks whose examples the detector was fitted on; empty if it saw clean examples alone."""
        return ()
