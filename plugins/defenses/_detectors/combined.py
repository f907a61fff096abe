"""Combination of several scores: standardised sum, or logistic regression of attacked against clean examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from fractions import Fraction

import torch
from torch import Tensor, nn

from benchmark.api import Attack, Examples, Norm, SampleRandom, Target, Threat, derive_seed, parse_eps, using

from .attached import ROWS, evaluated, over

__all__ = ["Combined", "Fit", "attacked_examples", "fit_combined", "logistic_regression", "training_threat"]

STEPS = 50
RIDGE = 1e-2


class Fit(Enum):
    """Data to which the weights of the combined scores are fitted.

    clean: clean training examples only; scores are standardised on them and summed.
    attack: logistic regression of attacked against clean training examples, as in the paper.
    """

    clean = "clean"
    attack = "attack"


class Combined(nn.Module):
    """bias + sum over scores of weight * (score - mean) / std, all of them buffers."""

    mean: Tensor
    std: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, scores: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(scores))
        self.register_buffer("std", torch.ones(scores))
        self.register_buffer("weight", torch.full((scores,), 1.0 / scores))
        self.register_buffer("bias", torch.zeros(1))

    def forward(self, scores: Tensor) -> Tensor:
        """Map scores (B, scores) to one score (B,)."""
        combined: Tensor = self.bias + ((scores - self.mean) / self.std * self.weight).sum(1)
        return combined

    def standardise(self, clean: Tensor) -> None:
        """Set mean and standard deviation from the scores (N, scores) of clean examples."""
        self.mean.copy_(clean.mean(0))
        self.std.copy_(clean.std(0, correction=0).clamp_min(1e-6))

    def separate(self, clean: Tensor, attacked: Tensor) -> None:
        """Fit the weights of standardised scores to rank attacked examples (M, scores) above clean ones (N, scores)."""
        both = (torch.cat([clean, attacked]) - self.mean) / self.std
        labels = torch.cat([torch.zeros(len(clean)), torch.ones(len(attacked))])
        weight, bias = logistic_regression(both, labels)
        self.weight.copy_(weight)
        self.bias.fill_(bias)


def fit_combined(
    combined: Combined,
    clean: Tensor,
    scores: Callable[[Tensor], Tensor],
    model: nn.Module,
    train: Examples,
    *,
    attacks: Sequence[Attack],
    threat: Threat,
    name: str,
) -> None:
    """Standardise by the scores `clean` (N, scores) of training examples; with an attack, fit weights.

    Args:
        scores: from x (B, *S) to (B, scores).
        attacks: at most one.
        name: of the detector.
    """
    combined.standardise(clean)
    for attack in attacks:
        combined.separate(
            clean, over(model, attacked_examples(model, train, attack, threat, name=name), scores, name=name)
        )


def logistic_regression(x: Tensor, y: Tensor) -> tuple[Tensor, float]:
    """Weights (D,) and bias of ridge-penalised logistic regression, by Newton's method in double precision.

    Both labels have equal total weight, whatever their counts; the bias is not penalised.

    Args:
        x: (N, D), standardised.
        y: (N,) 0 or 1, both present.
    """
    rows = torch.cat([x.double(), torch.ones(len(x), 1, dtype=torch.float64)], 1)
    y = y.double()
    share = torch.where(y == 1, 0.5 / y.sum(), 0.5 / (1 - y).sum())
    ridge = torch.full((rows.shape[1],), RIDGE, dtype=torch.float64)
    ridge[-1] = 1e-9
    found = torch.zeros(rows.shape[1], dtype=torch.float64)
    for _ in range(STEPS):
        p = torch.sigmoid(rows @ found)
        gradient = rows.T @ (share * (p - y)) + ridge * found
        curvature = (rows * (share * p * (1 - p))[:, None]).T @ rows + torch.diag(ridge)
        step = torch.linalg.solve(curvature, gradient)
        found = found - step * min(1.0, 5.0 / float(step.norm().clamp_min(1e-12)))
        if float(step.norm()) < 1e-10:
            break
    return found[:-1].float(), float(found[-1])


def training_threat(norm: Norm, eps: str) -> Threat:
    """The white-box threat under which a detector's training examples are attacked."""
    return Threat(norm=norm, eps=Fraction(parse_eps(eps)))


def attacked_examples(model: nn.Module, train: Examples, attack: Attack, threat: Threat, *, name: str) -> Examples:
    """Attacked training examples under the same ids: those that are misclassified, or all if there are none."""
    kept, x_adv, deceived = [], [], []
    with evaluated(model):
        for at in torch.arange(len(train)).split(ROWS):
            x, y = train.x(at), train.y[at]
            rng = SampleRandom(derive_seed(name, "attack"), train.ids[at])
            with using(rng):
                logits = model(x)
            right = logits.argmax(1) == y
            if not bool(right.any()):
                continue
            rng = rng.rows(right)
            target = Target(model, rng=rng, classes=logits.shape[1])
            made = attack.perturb(target, x[right], y[right], threat=threat, rng=rng).detach()
            with using(rng):
                deceived.append(model(made).argmax(1) != y[right])
            x_adv.append(made)
            kept.append(at[right])
    if not kept:
        return train
    at, wrong = torch.cat(kept), torch.cat(deceived)
    wrong = wrong if bool(wrong.any()) else torch.ones_like(wrong)
    return Examples.of(train.ids[at], torch.cat(x_adv), train.y[at]).take(wrong.nonzero().flatten())
