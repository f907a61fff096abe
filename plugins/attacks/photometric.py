"""Brightness, contrast, saturation and hue attacks. Hosseini & Poovendran, CVPR workshops 2018, arXiv:1804.00499.

The hue of the whole image is rotated and its saturation shifted, at random, until the label changes (section 3).
Brightness and contrast are those of VeriVis (Pei, Cao, Yang & Jana, 2017, arXiv:1712.01785, section 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from benchmark.api import EVERY_TASK, Access, Attack, DataSpec, SampleRandom, Supports, Target, Threat, hookimpl

from ._base.settings import check_at_least, check_images
from ._natural.colours import brightened, contrasted, from_hsv, to_hsv
from ._natural.variations import Axis, Search, check_colour, check_range, first_success, settings, settings_count


@dataclass(frozen=True)
class Photometric(Attack):
    """Changes brightness, contrast, saturation and hue of an image until it is misclassified; no norm applies.

    A range of 0 switches a transformation off. Saturation and hue need colour images; grey ones are refused.

    brightness: largest shift of all values (of the value in HSV, for colours), in units of the [0, 1] input range.
    contrast: largest relative change of the distance from the mean; 1 ranges from uniform grey to doubled contrast.
    saturation: largest shift of the saturation in HSV, which lies in [0, 1].
    hue: largest rotation of the hue to either side, in degrees; 180 is the whole circle.
    search: see :class:`Search`. tries: of the random search. values: per axis of the grid.
    """

    tasks: ClassVar[frozenset[str]] = EVERY_TASK
    supports: ClassVar[Supports] = Supports(access=Access.labels, targeted=True, randomized=True, bounded=False)

    brightness: float = 0.2
    contrast: float = 0.3
    saturation: float = 0.0
    hue: float = 0.0
    search: Search = Search.random
    tries: int = 10
    values: int = 5

    def __post_init__(self) -> None:
        check_at_least(1, tries=self.tries, values=self.values)
        check_range(0.0, 1.0, brightness=self.brightness, contrast=self.contrast, saturation=self.saturation)
        check_range(0.0, 180.0, hue=self.hue)

    @property
    def _coloured(self) -> bool:
        return self.saturation > 0 or self.hue > 0

    def check(self, spec: DataSpec, threat: Threat) -> None:
        """Refuse data other than images, and grey images if colours are to change."""
        (check_colour if self._coloured else check_images)(spec.shape, "photometric")

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """First successful setting, else the last; at most one forward pass less than there are settings."""
        ranges = (self.brightness, self.contrast, self.saturation, self.hue)
        axes = [Axis(-size, size, self.values) for size in ranges]

        def varied(index: Tensor, at: int) -> Tensor:
            drawn = settings(axes, self.search, rng.rows(index), at, stream="photometric")
            light, factor, more, turn = (value.to(x.dtype) for value in drawn)
            seen = x[index]
            if self.brightness > 0:
                seen = brightened(seen, light)
            seen = contrasted(seen, 1.0 + factor)
            if not self._coloured:
                return seen
            hue, saturation, value = to_hsv(seen.clamp(0.0, 1.0))
            more, turn = (each.reshape(-1, 1, 1) for each in (more, turn))
            return from_hsv(hue + turn / 60.0, (saturation + more).clamp(0.0, 1.0), value)

        tries = settings_count(axes, self.search, self.tries)
        return first_success(target, x, y, threat=threat, rng=rng, tries=tries, varied=varied)


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return Photometric
