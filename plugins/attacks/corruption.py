"""Common corruptions at five severities: ImageNet-C. Hendrycks & Dietterich, ICLR 2019, arXiv:1903.12261.

Noise, blur, weather and compression, drawn natively for images of any size. The mean corruption error over many cells
is on the page of a board.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from benchmark.api import (
    EVERY_TASK,
    Access,
    Attack,
    ConfigError,
    DataSpec,
    SampleRandom,
    Supports,
    Target,
    Threat,
    hookimpl,
)

from ._base.settings import check_at_least
from ._natural.families import FAMILIES, SMALL_SIDE, Corruption
from ._natural.variations import check_range, first_success


@dataclass(frozen=True)
class CommonCorruption(Attack):
    """Corrupts the input, whatever the system is; no norm applies.

    Severities are those of CIFAR-10-C for images of at most 64 pixels a side and of ImageNet-C for larger ones, with
    lengths in proportion to the side. Differences from the authors' programs: nothing is rounded to 8 bits but JPEG;
    beyond its edge an image goes on with its edge; fog, frost, snow and spatter are drawn from noise, without
    photographs; glass moves all pixels at once; of small images, the severities of glass, snow, frost and elastic stand
    in the order of their effect, and the last pixelation is coarser. Saturation needs colours, and JPEG 1 or 3
    channels. For the severities of one family the random draws are the same.

    kind: the family. severity: 0 (none) to 5.
    amount: in place of a severity the one setting that a family has. gaussian_noise, speckle_noise: standard deviation
        (times the value, for speckles); uniform_noise: the largest change; shot_noise: photons at the value 1;
        impulse_noise: the share of values that become black or white; gaussian_blur: standard deviation in pixels of
        an image of 32 (or less), or of 224; brightness: what is added; contrast: what distances from the mean are
        multiplied with; pixelate: the share of pixels a side that is left; jpeg_compression: quality, 1 to 100.
    draws: largest number of random draws tried for an example until one succeeds; the benchmark has one.
    """

    tasks: ClassVar[frozenset[str]] = EVERY_TASK
    supports: ClassVar[Supports] = Supports(access=Access.labels, targeted=True, randomized=True, bounded=False)

    kind: Corruption = Corruption.gaussian_noise
    severity: int = 3
    amount: float | None = None
    draws: int = 1

    def __post_init__(self) -> None:
        check_at_least(1, draws=self.draws)
        check_range(0, 5, severity=self.severity)
        if self.amount is None:
            return
        allowed = FAMILIES[self.kind].amount
        if allowed is None:
            raise ConfigError(
                f"attack.amount is {self.amount}, and {self.kind.value} has more than one setting; leave it out and "
                "choose attack.severity, or one of "
                + ", ".join(kind.value for kind, family in FAMILIES.items() if family.amount)
            )
        check_range(*allowed, amount=self.amount)

    def check(self, spec: DataSpec, threat: Threat) -> None:
        """Refuse what is no image where the family needs one, and grey images where it needs colours."""
        check = FAMILIES[self.kind].check
        if check is not None and (self.severity > 0 or self.amount is not None):
            check(spec.shape, f"corruption with kind={self.kind.value}")

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """The corrupted inputs; `draws` - 1 forward passes at most, so none in the benchmark."""
        if self.severity == 0 and self.amount is None:
            return x.clone()

        def varied(index: Tensor, at: int) -> Tensor:
            rows = rng.rows(index)
            return corrupted(x[index], self.kind, rows, severity=self.severity, amount=self.amount, draw=at)

        return first_success(target, x, y, threat=threat, rng=rng, tries=self.draws, varied=varied)


def corrupted(
    x: Tensor, kind: Corruption, rng: SampleRandom, *, severity: int = 1, amount: float | None = None, draw: int = 0
) -> Tensor:
    """(B, *S): `x` (B, *S) in [0, 1], corrupted, in [0, 1].

    Args:
        severity: 1 to 5. amount: the setting of the family, in place of a severity. draw: which of the random draws;
            two severities share theirs.
    """
    family = FAMILIES[kind]
    side = max(x.shape[2:]) if x.ndim == 4 else 1
    large = side > SMALL_SIDE
    settings = (family.large if large else family.small)[severity - 1] if amount is None else (amount,)
    px = side / 224 if large else max(1.0, side / 32)
    return family.draw(x, settings, px, rng.child("corruption", kind.value, draw)).clamp(0.0, 1.0)


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return CommonCorruption
