"""Label changes under mutation: how often mutants change a label, and the sequential test of that share."""

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
"""Logits (b, K) of a mutant, given its number, the inputs (b, *S), and (b,) int64 rows of the pass that they are."""

FITTED = 500
"""Clean training examples from which the share of normal inputs is taken, at most."""


class Normal(Attached):
    """The share of mutants that change the label of a clean training example, `share` (1,)."""

    share: Tensor

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.register_buffer("share", torch.zeros(1))


def check_test(owner: str, mutations: int, factor: float, margin: float, error: float) -> None:
    """Refuse settings with which there is no test."""
    if mutations < 1 or not factor > 0.0 or not 0.0 < margin < 1.0 or not 0.0 < error < 0.5:
        raise ConfigError(
            f"{owner} has mutations {mutations}, factor {factor}, margin {margin} and error {error}; expected at least "
            "1 mutation, a positive factor, a margin in (0, 1) and an error rate in (0, 0.5)"
        )


def label_changes(
    model: nn.Module, x: Tensor, mutated: Mutated, *, mutations: int, hypotheses: Hypotheses | None
) -> Tested:
    """Ask mutants about `x` (B, *S) until the test decides, and count those that change the label.

    Args:
        mutated: asks a mutant. mutations: the most that are used. hypotheses: None to use all of them.
    """
    labels = model(x).argmax(1)

    def changed(mutant: int, rows: Tensor) -> Tensor:
        changes: Tensor = mutated(mutant, x[rows], rows).argmax(1) != labels[rows]
        return changes

    return sequential_test(len(x), mutations, hypotheses, changed, x.device)


def softened(model: nn.Module, x: Tensor, mutated: Mutated, mutations: int) -> Tensor:
    """Mean over mutants of the probability that a mutant gives to other labels, (B,); differentiable."""
    rows = torch.arange(len(x), device=x.device)
    labels = model(x).argmax(1, keepdim=True)
    kept = [mutated(mutant, x, rows).softmax(1).gather(1, labels).squeeze(1) for mutant in range(mutations)]
    return 1.0 - torch.stack(kept).mean(0)


def measure_normal(
    model: nn.Module, part: Normal, train: Examples, mutated: Mutated, mutations: int, *, name: str
) -> None:
    """Take the share of label changes from clean training examples; at least half a change in all that were asked."""
    rows = train.take(chosen(train, FITTED, name=name))
    shares = over(
        model, rows, lambda x: label_changes(model, x, mutated, mutations=mutations, hypotheses=None).share, name=name
    )
    least = 0.5 / (mutations * len(rows))
    part.share.fill_(min(max(float(shares.double().mean()), least), 0.5))
