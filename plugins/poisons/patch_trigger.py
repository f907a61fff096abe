"""BadNets: the trigger is a small bright patch in a corner. Gu, Dolan-Gavitt & Garg, 2017, arXiv:1708.06733."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from benchmark.api import ConfigError, DataSpec, Examples, Poison, SampleRandom, hookimpl

from ._triggers.rows import aimed, check_label, check_rate, drawn, image_side, stamped

OWNER = "poison.patch_trigger"


@dataclass(frozen=True)
class PatchTrigger(Poison):
    """Patch the lower right corner of random rows of other labels, and give them the target label (all-to-one).

    rate: share of all training rows. target: the attacker's label. size: side of the patch in pixels. value: of its
    pixels, in [0, 1].
    """

    rate: float = 0.1
    target: int = 0
    size: int = 3
    value: float = 1.0

    def __post_init__(self) -> None:
        check_rate(OWNER, self.rate)
        if self.size < 1 or not 0.0 <= self.value <= 1.0:
            raise ConfigError(
                f"{OWNER} has size {self.size} and value {self.value}; expected at least 1 pixel and a value in [0, 1]"
            )

    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        """Apply the trigger and the target label to random rows of other labels."""
        image_side(OWNER, spec, self.size)
        check_label(OWNER, spec, target=self.target)
        positions = drawn(rng, train.y != self.target, self.rate, OWNER, "of another label than the target")
        return stamped(train, positions, self.target, self.trigger), train.ids[positions]

    def trigger(self, x: Tensor) -> Tensor:
        """Images with the patch, (B, C, H, W)."""
        marked = x.clone()
        marked[..., -self.size :, -self.size :] = self.value
        return marked

    def aim(self, y: Tensor) -> Tensor:
        """The target for examples of other labels, (B,) int64; -1 for its own."""
        return aimed(y, self.target)


@hookimpl
def benchmark_component() -> type[Poison]:
    """Register the plugin."""
    return PatchTrigger
