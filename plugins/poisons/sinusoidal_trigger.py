"""SIG: a clean-label sinusoidal trigger. Barni, Kallas & Tondi, ICIP 2019, arXiv:1902.11237."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import ConfigError, DataSpec, Examples, Poison, Refused, SampleRandom, hookimpl

from ._triggers.rows import aimed, check_label, check_rate, drawn, image_side, stamped

OWNER = "poison.sinusoidal_trigger"


@dataclass(frozen=True)
class SinusoidalTrigger(Poison):
    """Add delta sin(2 pi j f / W) to column j of W, clipped to the box, in rows of the target class only.

    All labels are correct (clean label), so the rate is at most the share of the target class.

    rate: share of all training rows. target: the attacker's label. delta: amplitude of the wave, in units of the [0, 1]
    input range. frequency: periods across the image.
    """

    rate: float = 0.05
    target: int = 0
    delta: float = 40 / 255
    frequency: float = 6.0

    def __post_init__(self) -> None:
        check_rate(OWNER, self.rate)
        if not 0.0 < self.delta <= 1.0 or not self.frequency > 0.0:
            raise ConfigError(
                f"{OWNER} has delta {self.delta} and frequency {self.frequency}; expected an amplitude in (0, 1] and "
                "a positive frequency"
            )

    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        """Apply the trigger to random rows of the target class."""
        image_side(OWNER, spec)
        check_label(OWNER, spec, target=self.target)
        if (2.0 * self.frequency / spec.shape[-1]).is_integer():
            raise Refused(
                f"{OWNER}.frequency is {self.frequency}, for which the wave is 0 in each of the {spec.shape[-1]} "
                f"columns; choose one below {spec.shape[-1] / 2}"
            )
        positions = drawn(rng, train.y == self.target, self.rate, OWNER, "of the target class")
        return stamped(train, positions, self.target, self.trigger), train.ids[positions]

    def trigger(self, x: Tensor) -> Tensor:
        """Images with the wave, (B, C, H, W)."""
        columns = torch.arange(x.shape[-1], dtype=torch.float64, device=x.device)
        wave = self.delta * torch.sin(2.0 * math.pi * columns * self.frequency / x.shape[-1])
        return (x + wave.to(x.dtype)).clamp(0.0, 1.0)

    def aim(self, y: Tensor) -> Tensor:
        """The target for examples of other labels, (B,) int64; -1 for its own."""
        return aimed(y, self.target)


@hookimpl
def benchmark_component() -> type[Poison]:
    """Register the plugin."""
    return SinusoidalTrigger
