"""Mutation testing of the model as a detector. Wang, Dong, Sun, Wang & Zhang, ICSE 2019, arXiv:1812.05793, section 3.

Mutants are copies of the classifier with some weights changed. They change the label of an adversarial example more
often than that of a normal input. A sequential test determines the number of mutants evaluated (section 4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmark.api import ConfigError, DataSpec, Defense, Examples, Loss, SampleRandom, derive_seed, hookimpl, padded

from ._detectors.attached import attached, over
from ._detectors.mutants import Normal, check_test, label_changes, measure_normal, softened
from ._detectors.references import chosen
from ._detectors.sequential import Hypotheses, Tested

NAME = "model_mutation"
SOFT = 16
"""Number of mutants in the differentiable score."""
TRIED = 4
"""Maximum number of candidates drawn per mutant; if too few keep their accuracy, the accepted ones are reused."""
JUDGED = 200
"""Number of training examples on which a mutant must keep its accuracy."""


class Operator(Enum):
    """Mutation operators of table 1.

    gaussian_fuzzing: noise of the weights' standard deviation on some weights. weight_shuffling: permutes the incoming
    weights of some neurons. neuron_switch: exchanges some neurons of a layer. neuron_inverse: inverts the sign of some
    neurons.
    """

    gaussian_fuzzing = "gaussian_fuzzing"
    weight_shuffling = "weight_shuffling"
    neuron_switch = "neuron_switch"
    neuron_inverse = "neuron_inverse"


@dataclass(frozen=True)
class ModelMutation(Defense):
    """Detect inputs whose label many mutated models change; the score is the label changes per mutant used.

    Mutants keep 90 % of the classifier's accuracy on training examples, as in section 5.1. They are drawn by number, so
    only the numbers of the accepted ones are stored. Gradients are those of the mean probability of other labels under
    16 mutants. Fitted to clean examples only. Costs 1 + as many passes as mutants are used.

    operator, rate: the mutation, and the share of weights or neurons (paper: NAI with 0.01 to 0.05).
    mutations: number of mutants, and maximum used on one input (paper: 500). kept: share of the accuracy.
    factor, margin: the hypotheses are share * factor * (1 -+ margin) (paper: 1.2, 0.1). error: probability of either
    error.
    """

    detects: ClassVar[bool] = True
    shift_invariant: ClassVar[bool] = True

    operator: Operator = Operator.gaussian_fuzzing
    rate: float = 0.05
    mutations: int = 100
    kept: float = 0.9
    factor: float = 1.2
    margin: float = 0.1
    error: float = 0.05

    def __post_init__(self) -> None:
        check_test(NAME, self.mutations, self.factor, self.margin, self.error)
        if not 0.0 < self.rate <= 1.0 or not 0.0 <= self.kept <= 1.0:
            raise ConfigError(
                f"model_mutation has rate {self.rate} and kept {self.kept}; expected a share of weights above 0 and at "
                "most 1, and a share of the accuracy in [0, 1]"
            )

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        """Attach buffers for the mutants' numbers to the classifier."""
        return Models(model, self.mutations)

    def finish(self, model: nn.Module, train: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """Choose mutants that keep their accuracy, and measure the label change rate on training examples."""
        part = attached(model, Models)
        rows = train.take(chosen(train, JUDGED, name=NAME))

        def right(number: int) -> float:
            weights = mutated_weights(part.model, self.operator, self.rate, number)
            logits = over(model, rows, lambda x: functional_call(part.model, weights, (x,)), name=NAME)
            return float((logits.argmax(1) == rows.y).double().mean())

        plain = over(model, rows, part.model, name=NAME)
        least = self.kept * float((plain.argmax(1) == rows.y).double().mean())
        accepted: list[int] = []
        for number in range(TRIED * self.mutations):
            if len(accepted) == self.mutations:
                break
            if right(number) >= least:
                accepted.append(number)
        if not accepted:
            raise ConfigError(
                f"none of {TRIED * self.mutations} mutants keeps {self.kept:.0%} of the accuracy; reduce "
                "defense.model_mutation.rate or kept"
            )
        part.numbers.copy_(torch.tensor(accepted).repeat(-(-self.mutations // len(accepted)))[: self.mutations])
        measure_normal(model, part, train, self._asked(model), self.mutations, name=NAME)

    def tested(self, model: nn.Module, x: Tensor) -> Tested:
        """Outcome of the sequential test on x (B, *S)."""
        normal = float(attached(model, Models).share)
        hypotheses = Hypotheses.around(normal, factor=self.factor, margin=self.margin, error=self.error)
        part = attached(model, Models)
        return label_changes(part.model, x, self._asked(model), mutations=self.mutations, hypotheses=hypotheses)

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """Label changes per mutant used, (B,) float32 in [0, 1]."""
        return self.tested(model, x).share

    def suspicion_surrogate(self, model: nn.Module, x: Tensor) -> Tensor:
        """Mean probability of other labels over mutants, (B,) in [0, 1]."""
        return softened(attached(model, Models).model, x, self._asked(model), min(SOFT, self.mutations))

    def _asked(self, model: nn.Module) -> Callable[[int, Tensor, Tensor], Tensor]:
        part = attached(model, Models)
        numbers = part.numbers.tolist()

        def ask(place: int, x: Tensor, rows: Tensor) -> Tensor:
            weights = mutated_weights(part.model, self.operator, self.rate, numbers[place])
            logits: Tensor = functional_call(part.model, weights, (padded(x),))
            return logits[: len(x)]

        return ask


class Models(Normal):
    """Numbers (M,) int64 of the mutants that keep their accuracy, and the label change rate of normal inputs."""

    numbers: Tensor

    def __init__(self, model: nn.Module, mutations: int) -> None:
        super().__init__(model)
        self.register_buffer("numbers", torch.arange(mutations))


def mutated_weights(classifier: nn.Module, operator: Operator, rate: float, number: int) -> dict[str, Tensor]:
    """Weights of mutant `number` by name, for tensors of two or more dimensions; the classifier is not modified."""
    changed = {}
    for place, (name, weight) in enumerate(classifier.named_parameters()):
        if weight.ndim < 2:
            continue
        ids = torch.tensor([number], device=weight.device)
        rng = SampleRandom(derive_seed(NAME, operator.value, place), ids)
        changed[name] = _mutated(weight.detach(), operator, rate, rng)
    return changed


def _mutated(weight: Tensor, operator: Operator, rate: float, rng: SampleRandom) -> Tensor:
    """One weight tensor (outputs, ...) after the operator."""
    if operator is Operator.gaussian_fuzzing:
        hit = rng.uniform(*weight.shape, stream="where").squeeze(0) < rate
        noise = rng.normal(*weight.shape, stream="noise").squeeze(0).to(weight.dtype)
        return torch.where(hit, weight + weight.std(correction=0) * noise, weight)
    rows = weight.flatten(1)
    hit = (rng.uniform(len(rows), stream="where").squeeze(0) < rate).nonzero().squeeze(1)
    changed = rows.clone()
    if operator is Operator.neuron_inverse:
        changed[hit] = -rows[hit]
    elif operator is Operator.neuron_switch:
        changed[hit] = rows[hit.roll(1)]
    else:
        order = rng.permutation(rows.shape[1], stream="order").squeeze(0)
        changed[hit] = rows[hit][:, order]
    return changed.reshape(weight.shape)


@hookimpl
def benchmark_component() -> type[Defense]:
    """Register the plugin."""
    return ModelMutation
