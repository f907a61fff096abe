"""A fitted system: what is being evaluated, frozen, deterministic where it says so, and independent of the batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from benchmark import sampling
from benchmark.data import DataSpec
from benchmark.errors import AttackFault, SystemFault
from benchmark.sampling import SampleRandom
from benchmark.system.gradients import straight_through
from benchmark.system.rows import NarrowPasses, padded, rounded_up

__all__ = [
    "NO_ANSWER",
    "Detector",
    "System",
    "gradients_recorded",
    "records_gradients",
]

REJECTED = -1
"""The label that a system gives when a detector refuses the input."""

NO_ANSWER = -2
"""The label of an input that a system answers with a score that is not finite: it is never right."""


class Protection(Protocol):
    """The side of a defense that acts at inference: :class:`benchmark.api.Defense` in what a system needs of it."""

    @property
    def randomized(self) -> bool:
        """True if predictions of the protected model are random."""

    @property
    def votes(self) -> int:
        """Number of fresh draws whose majority is the answer."""

    @property
    def optimizes(self) -> bool:
        """True where a pass solves an optimisation problem for its input."""

    def protect(self, model: nn.Module) -> nn.Module:
        """The module that is deployed, from inputs in [0, 1] to logits."""

    def passes(self, below: int) -> int:
        """Passes that one pass of it counts as, where one of the module below counts as `below`."""

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """(B,) float32: higher is more suspicious."""

    def smoother(self) -> Sequence[Protection]:
        """Smoother or weaker settings, with the same architecture and weights."""

    def suspicion_surrogate(self, model: nn.Module, x: Tensor) -> Tensor | None:
        """Differentiable stand-in for the suspicion, or None if it needs none, (B,) float32."""


class Detector:
    """A defense's detector with its calibrated threshold.

    threshold: scores above it are rejected. scale: the spread of clean scores, which makes the margin unitless.
    """

    def __init__(self, defense: Protection, threshold: float, scale: float) -> None:
        self.defense, self.threshold, self.scale = defense, threshold, scale

    def margin(self, model: nn.Module, x: Tensor) -> Tensor:
        """(B,): positive where `x` is rejected; infinite where the score is no number, so that NaN evades nothing."""
        return ((self.defense.suspicion(model, x) - self.threshold) / self.scale).nan_to_num(nan=torch.inf)

    def evasion_margin(self, model: nn.Module, x: Tensor) -> Tensor:
        """Margin with the gradient that an attacker follows, which is that of the declared surrogate, (B,)."""
        surrogate = self.defense.suspicion_surrogate(model, x)
        if surrogate is None:
            return self.margin(model, x)
        with torch.no_grad():
            margin = self.margin(model, x)
        return straight_through(margin, surrogate / self.scale)


class System(nn.Module):
    """A trained classifier with the defenses that act at inference.

    model: the trained classifier without protection. protected: what is deployed. detectors: what may reject.
    passes: passes that one forward pass counts as: more than one for an ensemble.
    votes: number of fresh draws whose majority is its answer, the most that any of its defenses declares.
    optimizes: whether a pass is declared to solve an optimisation problem.
    owner: named in errors where the system breaks the contract. unreviewed: the user's own code that it runs, in words;
    "" where everything is an installed plugin. oddities: breaches of the contract observed so far, for findings.
    """

    def __init__(
        self, model: nn.Module, spec: DataSpec, defenses: Sequence[Protection] = (), detectors: Sequence[Detector] = ()
    ) -> None:
        super().__init__()
        self.spec = spec
        self.defenses = tuple(defenses)
        self.detectors = tuple(detectors)
        self.model = model
        self.passes = 1
        protected = model
        for defense in self.defenses:
            protected = defense.protect(protected)
            self.passes = defense.passes(self.passes)
        self.protected = protected
        self.randomized = any(defense.randomized for defense in self.defenses)
        self.votes = max((defense.votes for defense in self.defenses if defense.randomized), default=1)
        self.optimizes = any(defense.optimizes for defense in self.defenses)
        self.owner = "the system"
        self.unreviewed = ""
        self.oddities: set[str] = set()
        self._closed, self._opened = False, 0
        self._narrow = None if self.defended_at_inference else NarrowPasses(model)
        self.eval().requires_grad_(False)

    def rows_of_a_pass(self, x: Tensor, *, followed: bool = True) -> int:
        """Rows that a pass for `x` (B, *S) is padded to: not a full pass where no bit of an answer changes.

        Args:
            followed: True if a gradient follows the pass.
        """
        return rounded_up(len(x)) if self._narrow is None else self._narrow.rows(x, followed=followed)

    def cut(self, x: Tensor) -> list[int]:
        """Numbers of rows of the passes that `x` (B, *S) is computed in, which changes no bit of an answer."""
        return [len(x)] if self._narrow is None else self._narrow.cut(x)

    @property
    def defended_at_inference(self) -> bool:
        """True if an attacker that does not know the defense sees another model."""
        return self.protected is not self.model or bool(self.detectors)

    def undefended(self) -> System:
        """The same weights without anything that acts at inference: what an oblivious attacker sees."""
        return System(self.model, self.spec)

    def smoother(self) -> tuple[System, ...]:
        """The same weights behind smoother or weaker settings of one defense each, then behind no defense at all.

        None for a system without defenses that act at inference.
        """
        if not self.defended_at_inference:
            return ()
        made = []
        for place, defense in enumerate(self.defenses):
            for softer in defense.smoother():
                stack = (*self.defenses[:place], softer, *self.defenses[place + 1 :])
                made.append(System(self.model, self.spec, stack, self.detectors))
        device = next((value.device for value in self.state_dict().values()), torch.device("cpu"))
        return tuple(system.to(device) for system in (*made, self.undefended()))

    def forward(self, x: Tensor) -> Tensor:
        """(B, K) logits of the protected model; a randomised one needs `benchmark.sampling.using` around the call."""
        if self._closed and not self._opened:
            raise AttackFault(
                "the attack asked the system past its target; it must use target.logits, labels, gradient or pullback, "
                "which count its passes and grant what the threat grants: its author must fix it"
            )
        given = x.clone()  # some networks normalise in place: theirs is the copy
        return self._checked(self.protected(given), given, x)

    def _checked(self, answer: object, given: Tensor, x: Tensor) -> Tensor:
        """The answer, if it is a row of scores per input, in the precision of the inputs.

        Raises:
            SystemFault: naming the owner, if it is anything else.
        """
        if (
            not isinstance(answer, Tensor)
            or answer.ndim != (3 if self.spec.task.dense else 2)
            or len(answer) != len(x)
            or answer.is_complex()
        ):
            said = f"shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else f"a {type(answer).__name__}"
            raise SystemFault(
                f"{self.owner} answered {len(x)} inputs with {said}; expected a tensor of scores, one row per input "
                "and one column per class: return the logits alone"
            )
        if not answer.is_floating_point():
            raise SystemFault(f"{self.owner} answered with {answer.dtype}; expected scores in floating point")
        if given._version:
            self.oddities.add("changes its input in place")
        if answer.dtype != x.dtype:
            self.oddities.add(f"answers in {str(answer.dtype).removeprefix('torch.')}")
        return answer.to(x.dtype)

    # --- attackers may ask through their target alone ---

    def _parts(self) -> list[System]:
        return [part for part in self.modules() if isinstance(part, System)]

    @contextlib.contextmanager
    def closed(self) -> Iterator[None]:
        """While an attack runs: only a target may ask (:meth:`opened`)."""
        for part in self._parts():
            part._closed = True
        try:
            yield
        finally:
            for part in self._parts():
                part._closed = False

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Around a pass that is charged to somebody."""
        parts = self._parts()
        for part in parts:
            part._opened += 1
        try:
            yield
        finally:
            for part in parts:
                part._opened -= 1

    @torch.no_grad()
    def logits(self, x: Tensor, rng: SampleRandom) -> Tensor:
        """(B, K) logits for `x` (B, *S); the bits of a row do not depend on the other rows."""
        sizes = self.cut(x)
        if len(sizes) > 1:
            parts = torch.arange(len(x), device=x.device).split(sizes)
            return torch.cat([self.logits(x[rows], rng.rows(rows)) for rows in parts])
        with _padded_pass(x, rng, self.rows_of_a_pass(x, followed=False)) as rows:
            return self.forward(rows)[: len(x)]

    @torch.no_grad()
    def suspicion(self, x: Tensor, rng: SampleRandom) -> Tensor:
        """Largest margin of its detectors, positive where one refuses `x` (B, *S), of shape (B,) float32."""
        with _padded_pass(x, rng) as rows:
            margins = [detector.margin(self.protected, rows)[: len(x)] for detector in self.detectors]
        return torch.stack(margins).amax(0).float() if margins else torch.full((len(x),), -torch.inf, device=x.device)

    def rejects(self, x: Tensor, rng: SampleRandom) -> Tensor:
        """True where any detector rejects `x` (B, *S), (B,) bool."""
        return self.suspicion(x, rng) > 0


def records_gradients(system: System, x: Tensor, rng: SampleRandom) -> bool:
    """True if a pass of `x` (B, *S) that asks for no gradient records one: an optimisation inside inference."""
    with gradients_recorded() as saved:
        system.logits(x, rng)
    return bool(saved)


@contextlib.contextmanager
def gradients_recorded() -> Iterator[list[torch.Size]]:
    """The shapes of what passes inside the block keep for a gradient; none, if they ask for none."""
    saved: list[torch.Size] = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield saved


@contextlib.contextmanager
def _padded_pass(x: Tensor, rng: SampleRandom, rows: int | None = None) -> Iterator[Tensor]:
    """The rows to pass through a system, with the randomness of each row around the pass."""
    with sampling.using(padded_random(rng, rows)):
        yield padded(x, rows)


def padded_random(rng: SampleRandom, rows: int | None = None) -> SampleRandom:
    """The randomness of a pass that is padded to `rows` rows, by default to a multiple of PASS_ROWS."""
    return SampleRandom(rng.seed, padded(rng.ids, rows), None if rng.turn is None else padded(rng.turn, rows))
