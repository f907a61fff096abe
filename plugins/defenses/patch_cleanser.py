"""PatchCleanser: double masking against patches. Xiang, Mahloujifar & Mittal, USENIX Security 2022, arXiv:2108.09135.

Square masks are placed so that one of them covers any patch of the given size. If all masked images have the same
label, it is the prediction; otherwise a minority label that no second mask changes is (algorithm 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmark.api import ConfigError, DataSpec, Defense, Refused, hookimpl


@dataclass(frozen=True)
class PatchCleanser(Defense):
    """Classify under one mask and, on disagreement, under pairs of masks.

    Costs masks**2 passes with one mask, and as many again for each mask of a minority label.

    patch: side of the largest patch, in pixels. masks: number along each side of the image.
    fill: the value of masked pixels. Scores are the means over the images with one mask, with that of the predicted
    label raised above the others if it is not the largest.
    """

    patch: int = 2
    masks: int = 3
    fill: float = 0.5

    def __post_init__(self) -> None:
        if min(self.patch, self.masks) < 1 or not 0.0 <= self.fill <= 1.0:
            raise ConfigError(
                f"patch_cleanser.patch is {self.patch}, masks {self.masks} and fill {self.fill}; expected at least 1 "
                "pixel, at least 1 mask, and a value between 0 and 1"
            )

    def check(self, spec: DataSpec) -> None:
        """Refuse data other than images larger than the patch."""
        masked_windows(spec.shape, self.patch, self.masks)

    def passes(self, below: int) -> int:
        """One pass per mask; an input with disagreement costs more, under pairs of masks."""
        return below * self.masks**2 * (1 + self.masks**2)

    def protect(self, model: nn.Module) -> nn.Module:
        """Put the masks before the model."""
        return DoubleMasking(model, self.patch, self.masks, self.fill)


def positions(side: int, patch: int, masks: int) -> tuple[list[int], int]:
    """First pixel of each mask along a side of an image, and the width of the masks (section 3.3).

    The stride is ceil((side - patch + 1) / masks), the width patch + stride - 1; the last mask ends at the image's
    edge.

    Raises:
        Refused: if the patch is larger than the image.
    """
    if patch > side:
        raise Refused(
            f"patch_cleanser.patch is {patch}, but the images have a side of {side} pixels; choose a smaller patch"
        )
    stride = -(-(side - patch + 1) // masks)
    width = patch + stride - 1
    return sorted({min(place * stride, side - width) for place in range(masks)}), width


def masked_windows(shape: tuple[int, ...], patch: int, masks: int) -> Tensor:
    """Pixels that each mask covers, (M, 1, H, W) bool. Every patch x patch square lies inside at least one mask.

    Raises:
        Refused: if examples of this shape are not images, or smaller than the patch.
    """
    if len(shape) != 3:
        raise Refused(f"defense.patch_cleanser takes images (C, H, W), but the examples have shape {tuple(shape)}")
    (rows, height), (columns, width) = positions(shape[1], patch, masks), positions(shape[2], patch, masks)
    windows = torch.zeros(len(rows) * len(columns), 1, *shape[1:], dtype=torch.bool)
    for place, (top, left) in enumerate((top, left) for top in rows for left in columns):
        windows[place, 0, top : top + height, left : left + width] = True
    return windows


class DoubleMasking(nn.Module):
    """Double masking; see :class:`PatchCleanser`. model: the classifier of masked images."""

    def __init__(self, model: nn.Module, patch: int, masks: int, fill: float) -> None:
        super().__init__()
        self.model, self.patch, self.masks, self.fill = model, patch, masks, fill

    def scores(self, x: Tensor, windows: Tensor) -> Tensor:
        """Logits (B, M, K) of each image under each of the windows (M, 1, H, W) or its own (B, M, 1, H, W)."""
        masked = torch.where(windows.to(x.device), self.fill, x[:, None])
        logits: Tensor = self.model(masked.flatten(0, 1))
        return logits.reshape(len(x), -1, logits.shape[1])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, K)."""
        windows = masked_windows(tuple(x.shape[1:]), self.patch, self.masks).to(x.device)
        one = self.scores(x, windows)
        mean, label = one.mean(1), self._labels(x, one.detach().argmax(2), windows)
        others = mean.scatter(1, label[:, None], -torch.inf).amax(1)
        short = (others - mean.gather(1, label[:, None]).squeeze(1)).clamp_min(-1.0) + 1.0
        wrong = mean.argmax(1) != label
        return mean.scatter_add(1, label[:, None], torch.where(wrong, short, 0.0)[:, None])

    @torch.no_grad()
    def _labels(self, x: Tensor, said: Tensor, windows: Tensor) -> Tensor:
        """Predicted labels (B,) int64 from labels `said` (B, M) under one mask (algorithm 1)."""
        label = said.mode(1).values
        dissents = said != label[:, None]
        row, mask = dissents.nonzero(as_tuple=True)
        settled = torch.zeros_like(label, dtype=torch.bool)
        for r, m in zip(row.tolist(), mask.tolist(), strict=True):
            if settled[r]:
                continue
            two = self.scores(x[r : r + 1], windows[m] | windows).argmax(2)[0]
            if bool((two == said[r, m]).all()):
                label[r], settled[r] = said[r, m], True
        return label


@hookimpl
def benchmark_component() -> type[PatchCleanser]:
    """Register the plugin."""
    return PatchCleanser
