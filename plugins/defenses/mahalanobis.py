"""Mahalanobis distance to the nearest class as a detector. Lee, Lee, Lee & Shin, NeurIPS 2018, arXiv:1807.03888."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from benchmark.api import Attack, ConfigError, DataSpec, Defense, Examples, Loss, Norm, hookimpl, inner

from ._detectors.attached import attached, over
from ._detectors.combined import Combined, Fit, fit_combined, training_threat
from ._detectors.features import Hidden, Reader, features, hidden_layers

NAME = "mahalanobis"


@dataclass(frozen=True)
class Mahalanobis(Defense):
    """Detect inputs whose hidden features are far from every class mean, under one covariance shared by all classes.

    Section 2.1 gives the distance per layer and section 2.2 the combination of layers. Differences from the paper: no
    noise is added to the input, and the combination uses no attack by default. Costs one pass.

    layers: maximum number of hidden layers; maps are averaged per channel. ridge: added to the covariance, as a share
    of the mean variance of its layer.
    fit: clean adds the standardised distances; attack weighs them by a logistic regression on attacked training
    examples.
    attack, norm, eps: with fit=attack, the attack and its threat; eps in units of the [0, 1] input range.
    """

    detects: ClassVar[bool] = True

    layers: int = 4
    ridge: float = 1e-3
    fit: Fit = Fit.clean
    attack: Attack = inner("pgd_10")
    norm: Norm = Norm.linf
    eps: str = "1/10"

    def __post_init__(self) -> None:
        if self.layers < 1 or not self.ridge > 0.0:
            raise ConfigError(
                f"mahalanobis has layers {self.layers} and ridge {self.ridge}; expected at least 1 layer, and a "
                "positive share of the variance, without which a singular covariance has no inverse"
            )
        training_threat(self.norm, self.eps)

    def fitted_on(self) -> tuple[Attack, ...]:
        """The training attack, if there is one."""
        return (self.attack,) if self.fit is Fit.attack else ()

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        """Attach buffers for means and covariances to the classifier."""
        return Gaussians(model, hidden_layers(model, spec, layers=self.layers), spec.classes)

    def finish(self, model: nn.Module, train: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """Fit class means and covariances to the training examples, then the combination of layers."""
        part = attached(model, Gaussians)
        read = over(model, train, lambda x: torch.cat(features(model, part, x)[0], 1), name=NAME)
        for index, found in enumerate(read.split(list(part.hidden.sizes), 1)):
            means, whitening = class_gaussians(found, train.y, len(part.means(index)), self.ridge)
            part.means(index).copy_(means)
            part.whitening(index).copy_(whitening)
        clean = over(model, train, lambda x: self._distances(model, x), name=NAME)
        fit_combined(
            part.combined, clean, lambda x: self._distances(model, x), model, train,
            attacks=self.fitted_on(), threat=training_threat(self.norm, self.eps), name=NAME,
        )  # fmt: skip

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """Combination of the layers' distances, in standard deviations of the clean ones, (B,) float32."""
        suspicion: Tensor = attached(model, Gaussians).combined(self._distances(model, x))
        return suspicion

    def _distances(self, model: nn.Module, x: Tensor) -> Tensor:
        """Squared distance to the nearest class mean per layer, (B, layers)."""
        part = attached(model, Gaussians)
        read, _ = features(model, part, x)
        return torch.stack(
            [class_distances(f, part.means(i), part.whitening(i)).amin(1) for i, f in enumerate(read)], 1
        )


class Gaussians(Reader):
    """Class means (K, D) and whitening matrix (D, D) of their shared covariance, per layer."""

    def __init__(self, model: nn.Module, hidden: Hidden, classes: int) -> None:
        super().__init__(model, hidden)
        for index, size in enumerate(hidden.sizes):
            self.register_buffer(f"means_{index}", torch.zeros(classes, size))
            self.register_buffer(f"whitening_{index}", torch.eye(size))
        self.combined = Combined(len(hidden.sizes))

    def means(self, layer: int) -> Tensor:
        """Class means of a layer, (K, D)."""
        return self.get_buffer(f"means_{layer}")

    def whitening(self, layer: int) -> Tensor:
        """Whitening matrix of a layer, (D, D)."""
        return self.get_buffer(f"whitening_{layer}")


def class_gaussians(features: Tensor, y: Tensor, classes: int, ridge: float) -> tuple[Tensor, Tensor]:
    """Class means (K, D) and whitening W (D, D) of features (N, D), with W^T W the inverse of the pooled covariance.

    The covariance is taken around the class means over all N rows, plus `ridge` times its mean variance on the
    diagonal. A class without rows has the overall mean.
    """
    found = features.double()
    counts = torch.bincount(y, minlength=classes).double()
    sums = torch.zeros(classes, found.shape[1], dtype=torch.float64).index_add(0, y, found)
    means = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], found.mean(0))
    centred = found - means[y]
    covariance = centred.T @ centred / len(found)
    floor = ridge * covariance.diagonal().mean() + 1e-12
    factor = torch.linalg.cholesky(covariance + floor * torch.eye(len(covariance), dtype=torch.float64))
    whitening = torch.linalg.solve_triangular(factor, torch.eye(len(factor), dtype=torch.float64), upper=False)
    return means.float(), whitening.float()


def class_distances(features: Tensor, means: Tensor, whitening: Tensor) -> Tensor:
    """Squared Mahalanobis distances of features (B, D) to the class means (K, D), (B, K)."""
    return torch.cdist(
        features @ whitening.T, means @ whitening.T, compute_mode="donot_use_mm_for_euclid_dist"
    ).square()


@hookimpl
def benchmark_component() -> type[Defense]:
    """Register the plugin."""
    return Mahalanobis
