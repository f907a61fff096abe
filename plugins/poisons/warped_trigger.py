"""WaNet: the trigger is a smooth warp of the image. Nguyen & Tran, ICLR 2021, arXiv:2102.10369, section 3."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.api import ConfigError, DataSpec, Examples, Poison, SampleRandom, hookimpl

from .._warp import sampled
from ._triggers.rows import aimed, check_label, check_rate, drawn, image_side, stamped

OWNER = "poison.warped_trigger"


@dataclass(frozen=True)
class WarpedTrigger(Poison):
    """Warp random rows by one fixed field; some get the target label, others a noisier warp and their own label.

    Differences from the paper: the poison is computed once before training and not in each batch, and rows are not
    rotated or cropped. The noisier rows count as poisoned too: `rate` includes both.

    rate: share of all training rows. target: the attacker's label. grid: side of the grid of random offsets that is
    interpolated to a field (the paper's k). strength: of the warp (s). noise_share: rows in noise mode per row with
    the target label (the cross ratio). field_seed: of the field, the same in training and test.
    """

    rate: float = 0.1
    target: int = 0
    grid: int = 4
    strength: float = 0.5
    noise_share: float = 2.0
    field_seed: int = 0

    def __post_init__(self) -> None:
        check_rate(OWNER, self.rate)
        if self.grid < 2 or not self.strength > 0.0 or not self.noise_share >= 0.0:
            raise ConfigError(
                f"{OWNER} has grid {self.grid}, strength {self.strength} and noise_share {self.noise_share}; expected "
                "at least 2 offsets a side, a positive strength, and a share of at least 0"
            )

    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        """Apply the warp and the target label to some rows of other labels, and a noisier warp to the rest."""
        image_side(OWNER, spec, 2)
        check_label(OWNER, spec, target=self.target)
        positions = drawn(rng, train.y != self.target, self.rate, OWNER, "of another label than the target")
        rank = rng.rows(positions).uniform(stream="mode").argsort(stable=True)
        labelled = positions[rank[: round(len(positions) / (1.0 + self.noise_share))]].sort().values
        noisy = positions[~torch.isin(positions, labelled)]
        after = stamped(train, labelled, self.target, self.trigger)
        if len(noisy):
            height, width = spec.shape[1:]
            jitter = in_pixels(rng.rows(noisy).uniform(2, height, width, stream="noise", low=-1.0, high=1.0))
            after = after.changed(noisy, x=warped(train.x(noisy), self.field(height, width) + jitter))
        return after, train.ids[positions]

    def field(self, height: int, width: int) -> Tensor:
        """Displacement down and right of each pixel's source, (2, H, W) in pixels."""
        rng = SampleRandom(self.field_seed, torch.zeros(1, dtype=torch.int64))
        offsets = rng.uniform(2, self.grid, self.grid, stream="field", low=-1.0)
        return warping_field(offsets, self.strength, height, width)

    def trigger(self, x: Tensor) -> Tensor:
        """Images warped by the field, (B, C, H, W)."""
        field = self.field(*x.shape[-2:]).to(x)
        return warped(x, field.expand(len(x), *field.shape))

    def aim(self, y: Tensor) -> Tensor:
        """The target for examples of other labels, (B,) int64; -1 for its own."""
        return aimed(y, self.target)


def warping_field(offsets: Tensor, strength: float, height: int, width: int) -> Tensor:
    """Interpolated `offsets` (1, 2, k, k) of mean absolute value `strength`, (2, H, W) in pixels."""
    smooth = F.interpolate(offsets / offsets.abs().mean(), (height, width), mode="bicubic", align_corners=True)
    return in_pixels(strength * smooth)[0]


def in_pixels(offsets: Tensor) -> Tensor:
    """Convert offsets (B, 2, H, W), in units of half a side divided by H, to pixels."""
    sides = torch.tensor(offsets.shape[-2:], dtype=offsets.dtype, device=offsets.device)
    return offsets * ((sides - 1.0) / (2.0 * sides)).reshape(2, 1, 1)


def warped(x: Tensor, field: Tensor) -> Tensor:
    """`x` with each pixel read from its position plus the `field` (B, 2, H, W), in pixels, (B, C, H, W)."""
    rows, columns = (torch.arange(side, dtype=x.dtype, device=x.device) for side in x.shape[-2:])
    down, right = rows[:, None] + field[:, 0].to(x.dtype), columns + field[:, 1].to(x.dtype)
    seen: Tensor = sampled(x, down.clamp(0, len(rows) - 1), right.clamp(0, len(columns) - 1))
    return seen.clamp(0.0, 1.0)


@hookimpl
def benchmark_component() -> type[Poison]:
    """Register the plugin."""
    return WarpedTrigger
