"""Rotations, translations and scalings that fool. Engstrom, Tran, Tsipras, Schmidt & Madry, 2019, arXiv:1712.02779.

Their "worst of 10" draws settings at random, their grid tries 31 angles times 5 x 5 shifts (section 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Access, Attack, ConfigError, DataSpec, SampleRandom, Supports, Target, Threat, hookimpl

from .._warp import transformed
from ._base.settings import check_at_least, check_images
from ._natural.variations import Axis, Search, check_range, first_success, settings, settings_count


@dataclass(frozen=True)
class Spatial(Attack):
    """Rotates, scales and shifts an image around its centre until it is misclassified; no norm applies.

    Bilinear interpolation; pixels from outside are black, as in the paper. Differences from it: scaling, and shifts as
    a share of the side (0.1 is about its 3 pixels of 28 to 32).

    rotation: largest angle to either side, in degrees. translation: largest shift in each direction, as a share of the
        side. smallest, largest: scale; 1 for none, above 1 enlarges the centre, as in a crop.
    search: see :class:`Search`. tries: of the random search. angles, shifts, sizes: values per axis of the grid; a
    range
        of 0 has one value, and a single value of a range is its upper end, so that a grid can consist of one setting.
    """

    supports: ClassVar[Supports] = Supports(access=Access.labels, targeted=True, randomized=True, bounded=False)

    rotation: float = 30.0
    translation: float = 0.1
    smallest: float = 1.0
    largest: float = 1.0
    search: Search = Search.random
    tries: int = 10
    angles: int = 31
    shifts: int = 5
    sizes: int = 5

    def __post_init__(self) -> None:
        check_at_least(1, tries=self.tries, angles=self.angles, shifts=self.shifts, sizes=self.sizes)
        check_range(0.0, 180.0, rotation=self.rotation)
        check_range(0.0, 1.0, translation=self.translation)
        if not 0 < self.smallest <= self.largest:
            raise ConfigError(
                f"attack.smallest is {self.smallest} and attack.largest {self.largest}; expected scales with 0 < "
                "smallest <= largest, where 1 is the original size"
            )

    def check(self, spec: DataSpec, threat: Threat) -> None:
        """Refuse data other than images."""
        check_images(spec.shape, "spatial")

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """First successful setting, else the last; at most one forward pass less than there are settings."""
        shift = Axis(-self.translation, self.translation, self.shifts)
        axes = (
            Axis(-self.rotation, self.rotation, self.angles),
            Axis(self.smallest, self.largest, self.sizes),
            shift,
            shift,
        )
        sides = torch.tensor(x.shape[2:], dtype=x.dtype, device=x.device)

        def varied(index: Tensor, at: int) -> Tensor:
            drawn = settings(axes, self.search, rng.rows(index), at, stream="spatial")
            degrees, scale, down, right = (value.to(x.dtype) for value in drawn)
            return transformed(x[index], degrees, scale, torch.stack([down, right], 1) * sides, black=True)

        tries = settings_count(axes, self.search, self.tries)
        return first_success(target, x, y, threat=threat, rng=rng, tries=tries, varied=varied)


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return Spatial
