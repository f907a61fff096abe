"""Non-local means. Buades, Coll & Morel, CVPR 2005, section 3; as a defense Xu et al., NDSS 2018, arXiv:1704.01155.

Each pixel becomes the mean of the pixels of its search window, weighted by the similarity of the patches around them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from benchmark.api import EVERY_TASK, ConfigError, DataSpec, Defense, hookimpl

from ._transforms.behind import Behind, refuse_other_than_images
from ._transforms.windows import box_mean, mirrored


@dataclass(frozen=True)
class NonLocalMeans(Defense):
    """Average pixels by weights exp(-d / h**2), with d the mean squared difference of their patches.

    search, patch: odd sides of the search window and of the patches, in pixels. h: in units of the [0, 1] input range;
    0 changes nothing. The defaults are the paper's 13-3-4, with its strength of 4 of 255 grey levels. Differences: the
    patch has no Gaussian weights, colours are not separated, and the image is mirrored at its edges.
    A pass with gradients keeps about 3 * search**2 copies of the input in memory.
    """

    tasks: ClassVar[frozenset[str]] = EVERY_TASK

    neutral: ClassVar = {"h": 0.0}

    search: int = 13
    patch: int = 3
    h: float = 4 / 255

    def __post_init__(self) -> None:
        if self.search < 1 or self.patch < 1 or self.search % 2 == 0 or self.patch % 2 == 0:
            raise ConfigError(
                f"non_local_means.search is {self.search} and non_local_means.patch is {self.patch}; expected odd "
                "sides of at least 1 pixel"
            )
        if not self.h >= 0.0:
            raise ConfigError(f"non_local_means.h is {self.h}; expected at least 0, where 0 changes nothing")

    def check(self, spec: DataSpec) -> None:
        """Refuse data other than images."""
        refuse_other_than_images(spec, "defense.non_local_means")

    def protect(self, model: nn.Module) -> nn.Module:
        """Put the filter before the model."""
        return Behind(model, partial(non_local_means, search=self.search, patch=self.patch, h=self.h))

    def smoother(self) -> tuple[Defense, ...]:
        """Four times the strength, where the weights are further from 0 and 1."""
        return (replace(self, h=4.0 * self.h),) if self.h > 0.0 else ()


def non_local_means(x: Tensor, *, search: int, patch: int, h: float) -> Tensor:
    """Filtered images `x`, (B, C, H, W); a pixel has weight 1 for itself."""
    if h == 0.0:
        return x
    height, width = x.shape[2:]
    reach, margin = search // 2, patch // 2
    wide = mirrored(x, reach + margin, reach + margin)
    tall, broad = height + 2 * margin, width + 2 * margin
    here = wide[:, :, reach : reach + tall, reach : reach + broad]
    total, weights = torch.zeros_like(x), torch.zeros_like(x[:, :1])
    for down in range(search):
        for right in range(search):
            there = wide[:, :, down : down + tall, right : right + broad]
            weight = (box_mean((here - there).square(), patch) / -(h**2)).exp()
            total = total + weight * there[:, :, margin : margin + height, margin : margin + width]
            weights = weights + weight
    return total / weights


@hookimpl
def benchmark_component() -> type[NonLocalMeans]:
    """Register the plugin."""
    return NonLocalMeans
