"""A fitted system: what is being evaluated, frozen, deterministic where it says so, and independent of the batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from benchmark import sampling
from benchmark.data import DataSpec
from benchmark.sampling import SampleRandom

__all__ = ["PASS_ROWS", "Detector", "System", "padded", "straight_through"]

PASS_ROWS = 16
"""Forward passes are padded to a multiple of this many rows.

Matrix kernels take other paths for a last few rows, and those round differently: padded, the logits and gradients of
an example are the same bits in every batch, so that results do not depend on the batch size. Measured for linear,
convolutional and residual networks on CPU; a multiple of 4 suffices there. (What else it takes: benchmark/__init__.py.)
"""

REJECTED = -1
"""The label that a system gives when a detector refuses the input."""


def padded(x: Tensor) -> Tensor:
    """`x` (B, ...) with its last row repeated up to a multiple of PASS_ROWS rows."""
    missing = -len(x) % PASS_ROWS
    return torch.cat([x, x[-1:].expand(missing, *x.shape[1:])]) if missing and len(x) else x


class _StraightThrough(torch.autograd.Function):
    """The value of one tensor with the gradient of another: BPDA (Athalye et al., ICML 2018, section 4.1)."""

    @staticmethod
    def forward(ctx: object, value: Tensor, surrogate: Tensor) -> Tensor:
        """`value`, unchanged."""
        return value.view_as(value)

    @staticmethod
    def backward(ctx: object, *grads: Tensor) -> tuple[None, Tensor]:
        """The gradient goes to the surrogate."""
        return None, grads[0]


def straight_through(value: Tensor, surrogate: Tensor) -> Tensor:
    """`value` (any shape), with gradients that flow to `surrogate` (the same shape) in its place."""
    passed: Tensor = _StraightThrough.apply(value, surrogate)  # type: ignore[no-untyped-call]
    return passed


class Protection(Protocol):
    """The side of a defense that acts at inference: :class:`benchmark.api.Defense` in what a system needs of it."""

    @property
    def randomized(self) -> bool:
        """True if predictions of the protected model are random."""

    def protect(self, model: nn.Module) -> nn.Module:
        """The module that is deployed, from inputs in [0, 1] to logits."""

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """(B,) float32: higher is more suspicious."""


class Detector:
    """A defense's detector with its calibrated threshold.

    threshold: scores above it are rejected. scale: the spread of clean scores, which makes the margin unitless.
    """

    def __init__(self, defense: Protection, threshold: float, scale: float) -> None:
        self.defense, self.threshold, self.scale = defense, threshold, scale

    def margin(self, model: nn.Module, x: Tensor) -> Tensor:
        """(B,): positive where `x` is rejected."""
        return (self.defense.suspicion(model, x) - self.threshold) / self.scale


class System(nn.Module):
    """A trained classifier with the defenses that act at inference.

    model: the trained classifier without protection. protected: what is deployed. detectors: what may reject.
    passes: how many passes one pass counts as, which is more than one for an ensemble.
    """

    def __init__(
        self, model: nn.Module, spec: DataSpec, defenses: Sequence[Protection] = (), detectors: Sequence[Detector] = ()
    ) -> None:
        super().__init__()
        self.spec = spec
        self.defenses = tuple(defenses)
        self.detectors = tuple(detectors)
        self.model = model
        protected = model
        for defense in self.defenses:
            protected = defense.protect(protected)
        self.protected = protected
        self.randomized = any(defense.randomized for defense in self.defenses)
        self.passes = 1
        self.eval().requires_grad_(False)

    @property
    def defended_at_inference(self) -> bool:
        """True if an attacker that does not know the defense sees another model."""
        return self.protected is not self.model or bool(self.detectors)

    def undefended(self) -> System:
        """The same weights without anything that acts at inference: what an oblivious attacker sees."""
        return System(self.model, self.spec)

    def forward(self, x: Tensor) -> Tensor:
        """(B, K) logits of the protected model; a randomised one needs `benchmark.sampling.using` around the call."""
        logits: Tensor = self.protected(x)
        return logits

    @torch.no_grad()
    def logits(self, x: Tensor, rng: SampleRandom) -> Tensor:
        """(B, K) logits for `x` (B, *S); the bits of a row do not depend on the other rows."""
        with _padded_pass(x, rng) as rows:
            return self.forward(rows)[: len(x)]

    @torch.no_grad()
    def rejects(self, x: Tensor, rng: SampleRandom) -> Tensor:
        """(B,) bool: whether any detector refuses `x` (B, *S)."""
        refused = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        with _padded_pass(x, rng) as rows:
            for detector in self.detectors:
                refused |= detector.margin(self.protected, rows)[: len(x)] > 0
        return refused


@contextlib.contextmanager
def _padded_pass(x: Tensor, rng: SampleRandom) -> Iterator[Tensor]:
    """The rows to pass through a system, with the randomness of each row around the pass."""
    with sampling.using(padded_random(rng)):
        yield padded(x)


def padded_random(rng: SampleRandom) -> SampleRandom:
    """The randomness of a padded pass."""
    return SampleRandom(rng.seed, padded(rng.ids), None if rng.turn is None else padded(rng.turn))
