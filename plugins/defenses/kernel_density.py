"""Kernel density and Bayesian uncertainty as a detector. Feinman, Curtin, Shintre & Gardner, 2017, arXiv:1703.00410."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from benchmark.api import (
    Attack,
    ConfigError,
    DataSpec,
    Defense,
    Examples,
    Loss,
    Norm,
    SampleRandom,
    derive_seed,
    hookimpl,
    inner,
)

from ._detectors.attached import attached, over
from ._detectors.combined import Combined, Fit, fit_combined, training_threat
from ._detectors.features import Hidden, Reader, features, hidden_layers
from ._detectors.references import chosen, pairwise

NAME = "kernel_density"


@dataclass(frozen=True)
class KernelDensity(Defense):
    """Detect inputs far from the training examples of their predicted label, or whose prediction changes under dropout.

    Section 5.1: the density of the last hidden features under a Gaussian kernel estimate per label. Section 5.2: the
    variance of the softmax over passes with dropout, here before the last layer for any architecture, with the same
    masks for every input, so that the score is deterministic. Without hidden layers, the logits are the features and
    there is no dropout. Costs 1 + draws passes.

    bandwidth: of the kernel; in the paper 1.2 for MNIST, 0.26 for CIFAR-10, 1.0 for SVHN.
    references: maximum number of training examples per label in the density estimate.
    draws: passes with dropout (paper: 50); 0 omits the uncertainty. dropout: share of features dropped.
    fit: attack, as in the paper, is a logistic regression of attacked against clean training examples; clean adds the
    standardised scores. attack, norm, eps: of the attacked examples; eps in units of the [0, 1] input range.
    """

    detects: ClassVar[bool] = True

    bandwidth: float = 1.2
    references: int = 100
    draws: int = 20
    dropout: float = 0.5
    fit: Fit = Fit.attack
    attack: Attack = inner("pgd_10")
    norm: Norm = Norm.linf
    eps: str = "1/10"

    def __post_init__(self) -> None:
        if not self.bandwidth > 0.0 or self.references < 1 or self.draws < 0 or not 0.0 <= self.dropout < 1.0:
            raise ConfigError(
                f"kernel_density has bandwidth {self.bandwidth}, references {self.references}, draws {self.draws} and "
                f"dropout {self.dropout}; expected a positive width, at least 1 reference, 0 or more draws, and a "
                "probability below 1"
            )
        training_threat(self.norm, self.eps)

    def fitted_on(self) -> tuple[Attack, ...]:
        """The training attack, if there is one."""
        return (self.attack,) if self.fit is Fit.attack else ()

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        """Attach buffers for the reference features to the classifier."""
        return Densities(model, hidden_layers(model, spec), spec.classes, self.references)

    def finish(self, model: nn.Module, train: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """Store the reference features of each label, then fit the combination of density and uncertainty."""
        part = attached(model, Densities)
        for label in range(len(part.counts)):
            rows = train.take(chosen(train, self.references, name=NAME, label=label))
            if len(rows):
                part.features[label, : len(rows)] = over(
                    model, rows, lambda x: features(model, part, x)[0][0], name=NAME
                )
            part.counts[label] = len(rows)
        clean = over(model, train, lambda x: self._scores(model, x), name=NAME)
        fit_combined(
            part.combined, clean, lambda x: self._scores(model, x), model, train,
            attacks=self.fitted_on(), threat=training_threat(self.norm, self.eps), name=NAME,
        )  # fmt: skip

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """Combination of the two scores, in standard deviations of the clean ones, (B,) float32."""
        suspicion: Tensor = attached(model, Densities).combined(self._scores(model, x))
        return suspicion

    def _scores(self, model: nn.Module, x: Tensor) -> Tensor:
        """Negative log-density at the predicted label, and uncertainty, (B, 2)."""
        part = attached(model, Densities)
        (found,), logits = features(model, part, x)
        density = log_density(found, part.features, part.counts, logits.argmax(1), self.bandwidth)
        return torch.stack([-density, self._uncertainty(model, part, x, found.shape[1])], 1)

    def _uncertainty(self, model: nn.Module, part: Reader, x: Tensor, size: int) -> Tensor:
        layer = part.last
        if layer is None or self.draws == 0 or self.dropout == 0.0:
            return torch.zeros(len(x), device=x.device, dtype=x.dtype)
        ids = torch.arange(self.draws, device=x.device)
        kept = SampleRandom(derive_seed(NAME), ids).uniform(size, stream="dropout") >= self.dropout
        masks = kept.to(x.dtype) / (1.0 - self.dropout)
        return predictive_variance(model, layer, x, masks)


class Densities(Reader):
    """Reference features (K, R, D); each label uses its first `counts` (K,) int64."""

    features: Tensor
    counts: Tensor

    def __init__(self, model: nn.Module, hidden: Hidden, classes: int, references: int) -> None:
        super().__init__(model, hidden)
        self.register_buffer("features", torch.zeros(classes, references, hidden.sizes[0]))
        self.register_buffer("counts", torch.zeros(classes, dtype=torch.int64))
        self.combined = Combined(2)


def log_density(x: Tensor, references: Tensor, counts: Tensor, labels: Tensor, bandwidth: float) -> Tensor:
    """Log of the Gaussian kernel estimate at x (B, D) from the references of each row's label, (B,).

    log 1/n sum_i exp(-||x - r_i||^2 / (2 h^2)) / (h sqrt(2 pi))^D.

    Args:
        references: (K, R, D).
        counts: (K,) int64, number of references per label.
        labels: (B,) int64.
        bandwidth: h.
    """
    classes, most, size = references.shape
    apart = pairwise(x, references.reshape(classes * most, size)).reshape(len(x), classes, most)
    own = apart[torch.arange(len(x), device=x.device), labels]
    known = torch.arange(most, device=x.device) < counts[labels][:, None]
    exponent = torch.where(known, -own.square() / (2.0 * bandwidth**2), -1e30)
    total = exponent.logsumexp(1) - counts[labels].clamp_min(1).log()
    return total - size * (math.log(bandwidth) + 0.5 * math.log(2.0 * math.pi))


def predictive_variance(model: nn.Module, layer: nn.Module, x: Tensor, masks: Tensor) -> Tensor:
    """Variance of the softmax over passes, averaged over classes, (B,).

    Args:
        layer: the layer inside `model` whose input is multiplied by a mask.
        masks: (passes, D), one per pass.
    """
    passes = []
    for mask in masks:
        handle = layer.register_forward_pre_hook(lambda _, given, mask=mask: (given[0] * _shaped(mask, given[0]),))
        try:
            passes.append(model(x).softmax(1))
        finally:
            handle.remove()
    return torch.stack(passes).var(0, correction=0).mean(1)


def _shaped(mask: Tensor, value: Tensor) -> Tensor:
    """A mask of features, or of channels if the layer's inputs are maps."""
    return mask.reshape(1, -1, *([1] * (value.ndim - 2)))


@hookimpl
def benchmark_component() -> type[Defense]:
    """Register the plugin."""
    return KernelDensity
