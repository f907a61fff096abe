"""Mutation testing of the model as a detector. Wang, Dong, Sun, Wang & Zhang, ICSE 2019, arXiv:1812.05793, section 3.

Mutants are copies of the classifier with some weights changed. They change the label of an adversarial example more
often than that of a normal input. How many mutants must be asked is decided by a sequential test (section 4).
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
"""Mutants in the score that gradients are taken of."""
TRIED = 4
"""Candidates drawn per mutant, at most; if fewer keep their accuracy, the accepted ones are used in turn."""
JUDGED = 200
"""Training examples on which a mutant must keep its accuracy."""


class Operator(Enum):
    """Mutation operators of table 1.

    gaussian_fuzzing: noise of the weights' own standard deviation on some weights. weight_shuffling: the incoming
    weights of some neurons in another order. neuron_switch: some neurons of a layer exchanged. neuron_inverse: the
    sign of some neurons turned.
    """

    gaussian_fuzzing = "gaussian_fuzzing"
    weight_shuffling = "weight_shuffling"
    neuron_switch = "neuron_switch"
    neuron_inverse = "neuron_inverse"


@dataclass(frozen=True)
class ModelMutation(Defense):
    """Suspect inputs whose label many mutated models change; the score is their share among the mutants used.

    Mutants keep 90 % of the classifier's accuracy on training examples, as in section 5.1. They are drawn by number,
    so nothing but the numbers of the accepted ones is kept. Gradients are those of the mean probability that 16 mutants
    give to other labels. Fitted to clean examples alone. Costs 1 + as many passes as mutants are used.

    operator, rate: what is changed, and the share of weights or neurons (paper: NAI with 0.01 to 0.05).
    mutations: mutants made, and the most that are used on one input (paper: 500). kept: share of the accuracy.
    factor, margin: the hypotheses are share * factor * (1 -+ margin) (paper: 1.2, 0.1). error: of either kind.
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
        """The classifier with the numbers of mutants to be chosen."""
        return Models(model, self.mutations)

    def finish(self, model: nn.Module, train: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """Choose mutants that keep their accuracy, and measure the share of label changes on training examples."""
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
                f"none of {TRIED * self.mutations} mutants keeps {self.kept:.0%} of the accuracy; lower "
                "defense.model_mutation.rate or kept"
            )
        part.numbers.copy_(torch.tensor(accepted).repeat(-(-self.mutations // len(accepted)))[: self.mutations])
        measure_normal(model, part, train, self._asked(model), self.mutations, name=NAME)

    def tested(self, model: nn.Module, x: Tensor) -> Tested:
        """The outcome of the test on x (B, *S): label changes, mutants used, and whether they sufficed."""
        normal = float(attached(model, Models).share)
        hypotheses = Hypotheses.around(normal, factor=self.factor, margin=self.margin, error=self.error)
        part = attached(model, Models)
        return label_changes(part.model, x, self._asked(model), mutations=self.mutations, hypotheses=hypotheses)

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """Label changes per mutant used, (B,) float32 in [0, 1]."""
        return self.tested(model, x).share

    def suspicion_surrogate(self, model: nn.Module, x: Tensor) -> Tensor:
        """Mean probability of other labels, (B,) in [0, 1]."""
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
    """The numbers (M,) int64 of the mutants that keep their accuracy, and the share of normal inputs."""

    numbers: Tensor

    def __init__(self, model: nn.Module, mutations: int) -> None:
        super().__init__(model)
        self.register_buffer("numbers", torch.arange(mutations))


def mutated_weights(classifier: nn.Module, operator: Operator, rate: float, number: int) -> dict[str, Tensor]:
    """Weights of mutant `number`, by name, in place of those with two or more dimensions; none is changed in place."""
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
        return torch.where(hit, weight + weight.std() * noise, weight)
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
