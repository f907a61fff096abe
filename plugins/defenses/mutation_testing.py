"""Mutation testing of inputs as a detector. Wang, Sun, Wang & Zhang, 2018, arXiv:1805.05010, section III.

An adversarial example lies close to the decision boundary that it crossed, so small random changes change its label
more often than that of a normal input. A sequential test determines the number of mutants evaluated (Wang et al., ICSE
2019, arXiv:1812.05793, section 4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import torch
from torch import Tensor, nn

from benchmark.api import ConfigError, DataSpec, Defense, Examples, Loss, SampleRandom, clipped, derive_seed, hookimpl

from ._detectors.attached import asked_again, attached
from ._detectors.mutants import Normal, check_test, label_changes, measure_normal, softened
from ._detectors.sequential import Hypotheses, Tested

NAME = "mutation_testing"
SOFT = 16
"""Number of mutants in the differentiable score."""


class Mutation(Enum):
    """Random change of an input: noise on each value, one shift of all values, or one factor around their mean."""

    noise = "noise"
    brightness = "brightness"
    contrast = "contrast"


@dataclass(frozen=True)
class MutationTesting(Defense):
    """Detect inputs whose label many mutants change; the score is the label changes per mutant used.

    The test stops once it is decided, with error rates of 5 %, whether the share is above or below `factor` times that
    of clean training examples. Mutants are the same for every input, so that the score is deterministic. Gradients are
    those of the mean probability of other labels under 16 mutants. Fitted to clean examples only. Costs 1 + as many
    passes as mutants are used.

    mutation, strength: type, and standard deviation of the noise or shift, in units of the [0, 1] input range, or of
    the factor. mutations: maximum number used on one input (paper: 500).
    factor, margin: the hypotheses are share * factor * (1 -+ margin) (paper: 1.2, 0.1). error: probability of either
    error.
    """

    detects: ClassVar[bool] = True
    shift_invariant: ClassVar[bool] = True

    mutation: Mutation = Mutation.noise
    strength: float = 0.1
    mutations: int = 100
    factor: float = 1.2
    margin: float = 0.1
    error: float = 0.05

    def __post_init__(self) -> None:
        check_test(NAME, self.mutations, self.factor, self.margin, self.error)
        if not self.strength > 0.0:
            raise ConfigError(f"mutation_testing.strength is {self.strength}; expected a positive standard deviation")

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        """Attach a buffer for the label change rate of normal inputs to the classifier."""
        return Inputs(model)

    def finish(self, model: nn.Module, train: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """Measure the label change rate on clean training examples."""
        measure_normal(model, attached(model, Inputs), train, self._asked(model), self.mutations, name=NAME)

    def tested(self, model: nn.Module, x: Tensor) -> Tested:
        """Outcome of the sequential test on x (B, *S)."""
        normal = float(attached(model, Inputs).share)
        hypotheses = Hypotheses.around(normal, factor=self.factor, margin=self.margin, error=self.error)
        return label_changes(model, x, self._asked(model), mutations=self.mutations, hypotheses=hypotheses)

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """Label changes per mutant used, (B,) float32 in [0, 1]."""
        return self.tested(model, x).share

    def suspicion_surrogate(self, model: nn.Module, x: Tensor) -> Tensor:
        """Mean probability of other labels over mutants, (B,) in [0, 1]."""
        return softened(model, x, self._asked(model), min(SOFT, self.mutations))

    def _asked(self, model: nn.Module) -> Callable[[int, Tensor, Tensor], Tensor]:
        return lambda number, x, rows: asked_again(model, mutated(x, self.mutation, self.strength, number), rows)


class Inputs(Normal):
    """Classifier with the label change rate of normal inputs under mutation."""


def mutated(x: Tensor, mutation: Mutation, strength: float, number: int) -> Tensor:
    """Mutant `number` of each input, (B, *S) in [0, 1], with the same random numbers for all inputs."""
    rng = SampleRandom(derive_seed(NAME), torch.tensor([number], device=x.device))
    if mutation is Mutation.noise:
        return clipped(x + strength * rng.normal(*x.shape[1:], stream="noise").to(x.dtype))
    drawn = strength * rng.normal(1, stream=mutation.value).to(x.dtype).squeeze()
    if mutation is Mutation.brightness:
        return clipped(x + drawn)
    mean = x.flatten(1).mean(1).reshape(-1, *([1] * (x.ndim - 1)))
    return clipped(mean + (1.0 + drawn) * (x - mean))


@hookimpl
def benchmark_component() -> type[Defense]:
    """Register the plugin."""
    return MutationTesting
