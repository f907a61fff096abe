"""Label change rate of an input under mutation, and the sequential test of that rate."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmark.api import ConfigError, Examples

from .attached import Attached, over
from .references import chosen
from .sequential import Hypotheses, Tested, sequential_test

__all__ = ["Normal", "check_test", "label_changes", "measure_normal", "softened"]

Mutated = Callable[[int, Tensor, Tensor], Tensor]
"""Logits (b, K) of a mutant, given its number, the inputs (b, *S) and their rows in the pass, (b,) int64."""

FITTED = 500
"""Largest number of clean training examples on which the label change rate of normal inputs is measured."""


class Normal(Attached):
    """Label change rate of clean training examples, `share` (1,)."""

    share: Tensor

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.register_buffer("share", torch.zeros(1))


def check_test(owner: str, mutations: int, factor: float, margin: float, error: float) -> None:
    """Refuse settings for which the sequential test is undefined."""
    if mutations < 1 or not factor > 0.0 or not 0.0 < margin < 1.0 or not 0.0 < error < 0.5:
        raise ConfigError(
            f"{owner} has mutations {mutations}, factor {factor}, margin {margin} and error {error}; expected at least "
            "1 mutation, a positive factor, a margin in (0, 1) and an error rate in (0, 0.5)"
        )


def label_changes(
    model: nn.Module, x: Tensor, mutated: Mutated, *, mutations: int, hypotheses: Hypotheses | None
) -> Tested:
    """Evaluate mutants on `x` (B, *S) until the test decides, and count label changes.

    Args:
        mutated: evaluates a mutant.
        mutations: maximum number of mutants.
        hypotheses: None to use all mutants.
    """
    labels = model(x).argmax(1)

    def changed(mutant: int, rows: Tensor) -> Tensor:
        changes: Tensor = mutated(mutant, x[rows], rows).argmax(1) != labels[rows]
        return changes

    return sequential_test(len(x), mutations, hypotheses, changed, x.device)


def softened(model: nn.Module, x: Tensor, mutated: Mutated, mutations: int) -> Tensor:
    """Mean over mutants of the probability of all labels but the model's, (B,); differentiable.

    It is the sum of these probabilities, not one minus that of the label, which has no gradient once it rounds to one.
    """
    rows = torch.arange(len(x), device=x.device)
    labels = model(x).argmax(1, keepdim=True)
    left = [mutated(mutant, x, rows).softmax(1).scatter(1, labels, 0.0).sum(1) for mutant in range(mutations)]
    return torch.stack(left).mean(0)


def measure_normal(
    model: nn.Module, part: Normal, train: Examples, mutated: Mutated, mutations: int, *, name: str
) -> None:
    """Set the label change rate from clean training examples; it is at least that of half a change in total."""
    rows = train.take(chosen(train, FITTED, name=name))
    shares = over(
        model, rows, lambda x: label_changes(model, x, mutated, mutations=mutations, hypotheses=None).share, name=name
    )
    least = 0.5 / (mutations * len(rows))
    part.share.fill_(min(max(float(shares.double().mean()), least), 0.5))
