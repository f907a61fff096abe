"""Randomness per example: a value depends on (seed, example id, stream, draw, position) and on nothing else.

Attacks and randomised defenses draw from a :class:`SampleRandom`, never from a global generator. Because each value is
a hash of its use, results do not depend on the batch size, the order of the batches, the number of devices, or the
examples that an attack has already finished; an interrupted run resumes with the same values.

The hash is the finaliser of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014, section 3), applied to a key per
(seed, stream, draw, example) plus a Weyl sequence over positions; integer operations only, so every device agrees.
"""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["SampleRandom", "ambient", "derive_seed", "using"]

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX2 = -7723592293110705685  # 0x94D049BB133111EB


def derive_seed(*parts: object) -> int:
    """63-bit seed: a hash of `parts`, for torch generators and keys of streams."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical right shift of signed 64-bit integers."""
    return (z >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift(z, 30)).mul_(_MIX1)
    z = _shift(z, 27).bitwise_xor_(z).mul_(_MIX2)
    return _shift(z, 31).bitwise_xor_(z)


@dataclass(frozen=True)
class SampleRandom:
    """Random values for the examples of one batch.

    seed: the cell's seed.
    ids: (B,) int64 ids of the examples; values are created on their device.
    turn: (B,) int64 or None: distinguishes repeated passes of one example through a randomised module.
    """

    seed: int
    ids: Tensor
    turn: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, index: Tensor) -> SampleRandom:
        """Randomness of the examples at `index` (int64 or bool); an index may repeat rows."""
        return SampleRandom(self.seed, self.ids[index], None if self.turn is None else self.turn[index])

    def child(self, *name: object) -> SampleRandom:
        """Independent randomness for a part of a method, such as an attack inside an attack."""
        return SampleRandom(derive_seed(self.seed, *name), self.ids, self.turn)

    def at_turn(self, turn: Tensor) -> SampleRandom:
        """Randomness with the same stream names and other values, for the `turn`-th pass (B,) of each example."""
        return SampleRandom(self.seed, self.ids, turn)

    def _bits(self, count: int, stream: str, draw: int | Tensor) -> Tensor:
        """64 random bits per entry, (B, count) int64."""
        key = torch.tensor(derive_seed(self.seed, stream), dtype=torch.int64, device=self.ids.device)
        key = _mix(_mix(key + self.ids * _GOLDEN) + (torch.as_tensor(draw, device=self.ids.device) + 1) * _MIX1)
        if self.turn is not None:
            key = _mix(key + (self.turn + 1) * _MIX2)
        weyl = (torch.arange(count, dtype=torch.int64, device=self.ids.device) + 1) * _GOLDEN
        return _mix(key.expand(len(self.ids))[:, None] + weyl)

    def uniform(self, *shape: int, stream: str, draw: int | Tensor = 0, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform values in [low, high), (B, *shape) float32. `draw` is one number for all rows or (B,) int64."""
        bits = self._bits(math.prod(shape), stream, draw)
        unit = _shift(bits, 40).to(torch.float32) * 2.0**-24
        if (low, high) != (0.0, 1.0):
            unit = low + (high - low) * unit
        return unit.reshape(len(self.ids), *shape)

    def normal(self, *shape: int, stream: str, draw: int | Tensor = 0) -> Tensor:
        """Standard normal values, (B, *shape) float32, by the Box-Muller transform in double precision."""
        bits = self._bits(math.prod(shape), stream, draw)
        radius = _shift(bits, 32).to(torch.float64).add_(0.5).mul_(2.0**-32)
        angle = bits.bitwise_and_(0xFFFFFFFF).to(torch.float64).mul_(2.0**-32 * 2.0 * math.pi)
        values = radius.log_().mul_(-2.0).sqrt_().mul_(angle.cos_())
        return values.to(torch.float32).reshape(len(self.ids), *shape)

    def integers(self, high: int, *shape: int, stream: str, draw: int | Tensor = 0) -> Tensor:
        """Uniform integers in 0 .. high-1, (B, *shape) int64 (high at most 2**31; bias below 2**-32 * high)."""
        bits = _shift(self._bits(math.prod(shape), stream, draw), 32)
        return _shift(bits * high, 32).reshape(len(self.ids), *shape)

    def signs(self, *shape: int, stream: str, draw: int | Tensor = 0) -> Tensor:
        """Random signs, -1 or +1 with equal probability, (B, *shape) float32."""
        bits = self._bits(math.prod(shape), stream, draw)
        return (_shift(bits, 63) * 2 - 1).to(torch.float32).reshape(len(self.ids), *shape)

    def permutation(self, count: int, *, stream: str, draw: int | Tensor = 0) -> Tensor:
        """Random permutations of 0 .. count-1, one per row, (B, count) int64."""
        return self._bits(count, stream, draw).argsort(dim=1, stable=True)


_AMBIENT: contextvars.ContextVar[SampleRandom | None] = contextvars.ContextVar("benchmark_ambient", default=None)


@contextlib.contextmanager
def using(rng: SampleRandom) -> Iterator[None]:
    """Make `rng` the randomness of the modules called inside the block."""
    token = _AMBIENT.set(rng)
    try:
        yield
    finally:
        _AMBIENT.reset(token)


def ambient() -> SampleRandom:
    """Randomness of the current forward pass, for modules of randomised defenses.

    Raises:
        RuntimeError: outside a pass that the core started.
    """
    rng = _AMBIENT.get()
    if rng is None:
        raise RuntimeError(
            "a randomised module was called without randomness; call it inside `with benchmark.sampling.using(rng):`"
        )
    return rng
