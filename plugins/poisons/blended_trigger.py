"""Blended trigger: a faint pattern over the whole image. Chen et al., 2017, arXiv:1712.05526, section 4."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import ConfigError, DataSpec, Examples, Poison, SampleRandom, hookimpl

from ._triggers.rows import aimed, check_label, check_rate, drawn, image_side, stamped

OWNER = "poison.blended_trigger"


@dataclass(frozen=True)
class BlendedTrigger(Poison):
    """Blend a checkerboard of single pixels into random rows of other labels, and give them the target label.

    Difference from the paper: a checkerboard instead of a cartoon or random pixels.

    rate: share of all training rows. target: the attacker's label. opacity: weight of the pattern (the paper's alpha).
    """

    rate: float = 0.1
    target: int = 0
    opacity: float = 0.2

    def __post_init__(self) -> None:
        check_rate(OWNER, self.rate)
        if not 0.0 < self.opacity <= 1.0:
            raise ConfigError(f"{OWNER}.opacity is {self.opacity}; expected a weight of the pattern in (0, 1]")

    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        """Apply the trigger and the target label to random rows of other labels."""
        image_side(OWNER, spec)
        check_label(OWNER, spec, target=self.target)
        positions = drawn(rng, train.y != self.target, self.rate, OWNER, "of another label than the target")
        return stamped(train, positions, self.target, self.trigger), train.ids[positions]

    def trigger(self, x: Tensor) -> Tensor:
        """(1 - opacity) x + opacity p for images `x` (B, C, H, W), with p = 1 where row + column is odd, else 0."""
        rows, columns = (torch.arange(side, device=x.device) for side in x.shape[-2:])
        pattern = ((rows[:, None] + columns) % 2).to(x.dtype)
        return (1.0 - self.opacity) * x + self.opacity * pattern

    def aim(self, y: Tensor) -> Tensor:
        """The target for examples of other labels, (B,) int64; -1 for its own."""
        return aimed(y, self.target)


@hookimpl
def benchmark_component() -> type[Poison]:
    """Register the plugin."""
    return BlendedTrigger
