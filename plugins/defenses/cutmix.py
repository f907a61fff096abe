"""CutMix. Yun et al., ICCV 2019, arXiv:1905.04899, section 3.1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from benchmark.api import Batch, ConfigError, DataSpec, Defense, Examples, Loss, Refused, SampleRandom, hookimpl

from ._training.mixing import beta, labelled_softly, mixed, partners


@dataclass(frozen=True)
class CutMix(Defense):
    """Paste a rectangle of another image of the batch; the label is mixed by area.

    The rectangle's sides are sqrt(1 - lambda) times the image's with lambda ~ Beta(alpha, alpha); its centre is
    uniform, and it is clipped at the image's edges. Labels are weighted by the pasted pixels. Difference from the
    paper's code: one rectangle per example, not per batch.

    alpha: 1 in the paper; 0 pastes nothing. share: of the rows of a batch that receive a rectangle.
    """

    neutral: ClassVar[Mapping[str, Any]] = {"alpha": 0.0}

    alpha: float = 1.0
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.alpha < 0.0 or not 0.0 <= self.share <= 1.0:
            raise ConfigError(
                f"cutmix has alpha {self.alpha} and share {self.share}; expected at least 0, and a share in [0, 1]"
            )

    def check(self, spec: DataSpec) -> None:
        """Refuse data other than images."""
        if not spec.image:
            raise Refused(f"defense.cutmix needs images of shape (C, H, W), but one input has {spec.shape}; use mixup")

    def prepare(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> Examples:
        """Return the same examples with labels as distributions."""
        self.check(spec)
        return labelled_softly(train, spec.classes) if self.alpha else train

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """The loss of the stack on the pasted batch."""
        if self.alpha == 0.0:
            return inner(model, batch)
        partner = partners(rng, stream="cutmix")
        pasted = rectangles(batch.x.shape[2:], beta(rng, self.alpha, stream="cutmix"), rng)
        pasted &= (rng.uniform(stream="cutmix/share") < self.share).reshape(-1, 1, 1)
        kept = 1.0 - pasted.flatten(1).double().mean(1)
        return inner(model, mixed(batch, torch.where(pasted[:, None], batch.x[partner], batch.x), partner, kept))


def rectangles(size: torch.Size, kept: Tensor, rng: SampleRandom) -> Tensor:
    """Rectangle per row, of sides sqrt(1 - kept) H by sqrt(1 - kept) W before clipping at the edges, (B, H, W) bool."""
    inside = []
    for axis, side in enumerate(size):
        half = (1.0 - kept).clamp_min(0.0).sqrt() * side / 2.0
        middle = rng.uniform(stream=f"cutmix/middle/{axis}") * side
        place = torch.arange(side, device=kept.device) + 0.5
        inside.append((place - middle[:, None]).abs() < half[:, None])
    return inside[0][:, :, None] & inside[1][:, None, :]


@hookimpl
def benchmark_component() -> type[CutMix]:
    """Register the plugin."""
    return CutMix
