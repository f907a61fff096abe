"""Local intrinsic dimensionality as a detector. Ma et al., ICLR 2018, arXiv:1801.02613, sections 3 and 4."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from benchmark.api import Attack, ConfigError, DataSpec, Defense, Examples, Loss, Norm, hookimpl, inner

from ._detectors.attached import ROWS, attached, over
from ._detectors.combined import Combined, Fit, fit_combined, training_threat
from ._detectors.features import Hidden, Reader, features, hidden_layers
from ._detectors.references import chosen, pairwise

NAME = "local_intrinsic_dimensionality"
GRID = 4
"""Maps are averaged over at most this many cells to a side, so that the references of a large network stay small."""


@dataclass(frozen=True)
class LocalIntrinsicDimensionality(Defense):
    """Detect inputs whose distances to clean examples grow as in a space of high dimension.

    Differences from the released code, whose estimates depend on the mini-batch and omit the nearest row as if it were
    the input itself: the references are fixed clean training examples, and a reference is omitted only among its own
    neighbours, by position. Costs one pass.

    neighbours: k of the estimate (paper: 20 of a mini-batch of 100). references: number of reference training examples.
    layers: maximum number of hidden layers.
    fit: attack, as in the paper, is a logistic regression of attacked against clean training examples, references
    left out, on the estimates of all layers; clean adds the standardised estimates. attack, norm, eps: of the attacked
    examples; eps in units of the [0, 1] input range.
    """

    detects: ClassVar[bool] = True

    neighbours: int = 20
    references: int = 500
    layers: int = 4
    fit: Fit = Fit.attack
    attack: Attack = inner("pgd_10")
    norm: Norm = Norm.linf
    eps: str = "1/10"

    def __post_init__(self) -> None:
        if self.neighbours < 2 or self.references <= self.neighbours or self.layers < 1:
            raise ConfigError(
                f"local_intrinsic_dimensionality has neighbours {self.neighbours}, references {self.references} and "
                f"layers {self.layers}; expected 2 or more neighbours, more references than that, and at least 1 layer"
            )
        training_threat(self.norm, self.eps)

    def fitted_on(self) -> tuple[Attack, ...]:
        """The training attack, if there is one."""
        return (self.attack,) if self.fit is Fit.attack else ()

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        """Attach buffers for the reference features to the classifier."""
        return Neighbours(model, hidden_layers(model, spec, layers=self.layers, grid=GRID), self.references)

    def finish(self, model: nn.Module, train: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """Store the features of the reference examples, then fit the combination of the layers."""
        part = attached(model, Neighbours)
        at = chosen(train, self.references, name=NAME)
        read = over(model, train, lambda x: torch.cat(features(model, part, x)[0], 1), name=NAME)
        part.count.fill_(len(at))
        for index, found in enumerate(read[at].split(list(part.hidden.sizes), 1)):
            part.references(index)[: len(at)] = found
        own = torch.full((len(train),), -1, dtype=torch.int64)
        own[at] = torch.arange(len(at))
        clean = torch.cat(
            [
                self._dimensions(part, rows.split(list(part.hidden.sizes), 1), places)
                for rows, places in zip(read.split(ROWS), own.split(ROWS), strict=True)
            ]
        )
        # An attacked reference is nearest to itself as it was, which no input of the deployed system is.
        others = (own < 0).nonzero().flatten()
        others = others if len(others) > self.neighbours else torch.arange(len(train))
        fit_combined(
            part.combined, clean[others], lambda x: self._scores(model, x), model, train.take(others),
            attacks=self.fitted_on(), threat=training_threat(self.norm, self.eps), name=NAME,
        )  # fmt: skip

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """Combination of the layers' estimates, in standard deviations of the clean ones, (B,) float32."""
        suspicion: Tensor = attached(model, Neighbours).combined(self._scores(model, x))
        return suspicion

    def _scores(self, model: nn.Module, x: Tensor) -> Tensor:
        part = attached(model, Neighbours)
        return self._dimensions(part, features(model, part, x)[0], None)

    def _dimensions(self, part: Neighbours, read: Sequence[Tensor], own: Tensor | None) -> Tensor:
        """Estimates (B, layers). own: (B,) int64, index of each row among the references, -1 if none."""
        count = int(part.count)
        estimates = []
        for index, found in enumerate(read):
            apart = pairwise(found, part.references(index)[:count])
            if own is not None:
                inside = (own >= 0).nonzero().squeeze(1)
                apart = apart.index_put((inside, own[inside]), torch.tensor(torch.inf))
            estimates.append(intrinsic_dimension(apart, self.neighbours))
        return torch.stack(estimates, 1)


class Neighbours(Reader):
    """Features (R, D) of reference examples per layer; the first `count` are in use."""

    count: Tensor

    def __init__(self, model: nn.Module, hidden: Hidden, references: int) -> None:
        super().__init__(model, hidden)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        for index, size in enumerate(hidden.sizes):
            self.register_buffer(f"references_{index}", torch.zeros(references, size))
        self.combined = Combined(len(hidden.sizes))

    def references(self, layer: int) -> Tensor:
        """Reference features of a layer, (R, D)."""
        return self.get_buffer(f"references_{layer}")


def intrinsic_dimension(distances: Tensor, neighbours: int) -> Tensor:
    """Maximum-likelihood estimate -(1/k sum_i log(r_i / r_k))^-1 from the k smallest distances (B, M), (B,).

    If M < k, all distances are used. Distances below 1e-12 count as 1e-12; equal distances give k / 1e-6.
    """
    nearest = distances.topk(min(neighbours, distances.shape[1]), dim=1, largest=False).values.clamp_min(1e-12)
    spread = (nearest[:, -1:].log() - nearest.log()).sum(1)
    return nearest.shape[1] / spread.clamp_min(1e-6)


@hookimpl
def benchmark_component() -> type[Defense]:
    """Register the plugin."""
    return LocalIntrinsicDimensionality
