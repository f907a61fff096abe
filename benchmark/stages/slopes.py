"""Probes of passes with gradients: same scores as without, and a useful direction everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark import sampling
from benchmark.records.record import Finding
from benchmark.sampling import SampleRandom
from benchmark.system import System, padded, padded_random

__all__ = ["Probe", "of_slopes"]

NEAR, ROUNDING = 1e-3, 1e-5
"""Difference of scores that says nothing: by their spread within an example, and by their size."""

UNDERFLOW = 1e-30
"""Magnitude below which a gradient is zero or its sign is rounding."""

FEW_ASKED = 6
"""Smallest number of examples with a gradient that allows a statement about its direction."""


@dataclass(frozen=True)
class Probe:
    """Examples of all probes, x (B, *S), and their randomness."""

    x: Tensor
    rng: SampleRandom


def of_slopes(system: System, probe: Probe, first: Tensor, *, follow: bool) -> Iterator[Finding]:
    """Findings about scores that differ with gradients, misleading gradients, and detectors without gradients.

    Args:
        first: (B, K) scores without gradients, by the probe's first draws. follow: True if attackers follow gradients.
    """
    x, rows = probe.x, system.rows_of_a_pass(probe.x)
    with torch.enable_grad(), sampling.using(padded_random(probe.rng.child(0), rows)):
        leaf = padded(x, rows).requires_grad_(True)
        shown = system(leaf)
        scores = system.spec.task.scores(shown)
        answers = scores.argmax(-1)
        loss = _margin(scores, answers)
        asks = follow and loss.requires_grad
        slope = torch.autograd.grad(loss.sum(), leaf, allow_unused=True)[0] if asks else None
    yield from _other_scores(shown.detach()[: len(x)], first)
    if slope is not None:
        yield from _wrong_direction(system, probe, slope[: len(x)], loss.detach()[: len(x)], answers[: len(x)])
        yield from _stops_at_the_bounds(system, probe, slope[: len(x)], first)
    if follow:
        yield from _masked_detectors(system, probe)


def _other_scores(shown: Tensor, first: Tensor) -> Iterator[Finding]:
    """Scores of a pass with gradients that differ from those of the judged system."""
    near = _near(shown, first)
    if bool(near.all()):
        return
    yield Finding(
        name="surrogate_differs",
        severity="error",
        evidence=f"a pass with gradients gives other scores than one without for {int((~near).sum())} of {len(first)} "
        "examples: attacks work on another system than the one that is judged; a surrogate must stand in for the "
        "backward pass alone (benchmark.system.straight_through)",
    )


def _near(one: Tensor, other: Tensor) -> Tensor:
    """True where two answers (B, K) or (B, S, K) to an example differ by rounding at most, (B,) bool; NaN is as NaN."""
    usual = other.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    spread = (usual - usual.mean(-1, keepdim=True)).abs().amax(-1, keepdim=True)
    allowed = NEAR * spread + ROUNDING * usual.abs().amax(-1, keepdim=True)
    same = ((one - other).abs() <= allowed) | (one == other) | (one.isnan() & other.isnan())
    return same.flatten(1).all(1)


def _wrong_direction(system: System, probe: Probe, slope: Tensor, before: Tensor, answers: Tensor) -> Iterator[Finding]:
    """Gradient along which the loss falls, which misleads an attacker.

    A step past the boundary, to an answer that the system may be surer of, does not: the loss is that of `answers`.

    Args:
        slope: (B, *S), gradient of the loss. before: (B,), the loss. answers: (B,) or (B, S) int64, without a step.
    """
    misled = slope.flatten(1).abs().amax(1) > UNDERFLOW
    asked = int(misled.sum())
    for length in (0.02, 0.1):
        moved = (probe.x + length * slope.sign()).clamp(0.0, 1.0)
        scores = system.spec.task.scores(system.logits(moved, probe.rng.child(0)))
        misled = misled & (_margin(scores, answers) < before)
        wrong = int(misled.sum())
        if wrong * 4 <= 3 * asked or asked < FEW_ASKED:
            return
    yield Finding(
        name="gradient_misleads",
        severity="warning",
        evidence=f"for {wrong} of {asked} examples a step along the gradient makes the system surer of its answer: the "
        "gradient points the wrong way, and attacks that follow it are blind; compare with attacks that need none",
    )


def _stops_at_the_bounds(system: System, probe: Probe, slope: Tensor, first: Tensor) -> Iterator[Finding]:
    """Inputs of exactly 0 or 1 that have no gradient, although a step inwards changes the scores.

    That is the gradient of `torch.clamp` on its bounds from torch 2.14 on, of `relu`, and of `hardtanh`.

    Args:
        slope: (B, *S), gradient of the loss. first: scores without gradients, by the probe's first draws.
    """
    x, stopped = probe.x, []
    inside = (x > 0.0) & (x < 1.0)
    if bool(inside.any()) and not bool((slope[inside] != 0).any()):
        return  # no gradient anywhere is another finding
    for bound, step in ((0.0, 0.02), (1.0, -0.02)):
        at = x == bound
        asked = int(at.flatten(1).any(1).sum())
        if asked < FEW_ASKED or bool((slope[at] != 0).any()):
            continue
        moved = system.logits(torch.where(at, x + step, x), probe.rng.child(0))
        changed = ~_near(moved, first)
        if int(changed.sum()) * 4 > 3 * asked:
            stopped.append(int(bound))
    if stopped:
        yield Finding(
            name="gradient_stops_at_bounds",
            severity="warning",
            evidence=f"where an input is exactly {' or '.join(map(str, stopped))} its gradient is zero, although a "
            "step inwards changes the scores: attacks that follow the gradient leave black or white pixels alone, and "
            "are weaker than they look; clip with benchmark.api.clipped (the gradient of torch.clamp on its bounds is "
            "zero from torch 2.14 on), or compare with attacks that need no gradient",
        )


def _margin(logits: Tensor, answers: Tensor) -> Tensor:
    """Largest other score minus that of the answer, which rises with uncertainty, (B,); the mean over sites."""
    of = answers.unsqueeze(-1)
    own, others = logits.gather(-1, of).squeeze(-1), logits.scatter(-1, of, -torch.inf).max(-1).values
    return others - own if logits.ndim == 2 else (others - own).mean(1)


def _masked_detectors(system: System, probe: Probe) -> Iterator[Finding]:
    """Detectors whose score, or its declared surrogate, has no gradient, although they declare to have one."""
    for detector in system.detectors:
        if not getattr(detector.defense, "differentiable", True):
            continue
        with torch.enable_grad(), sampling.using(padded_random(probe.rng)):
            leaf = padded(probe.x).requires_grad_(True)
            score = detector.evasion_margin(system.protected, leaf)
            slope = torch.autograd.grad(score.sum(), leaf, allow_unused=True)[0] if score.requires_grad else None
        count = len(probe.x)
        none = count if slope is None else int((slope[:count].flatten(1).abs().amax(1) <= UNDERFLOW).sum())
        if none * 2 > count:
            yield Finding(
                name="detector_gradient_masked",
                severity="warning",
                evidence=f"the score of the detector {type(detector.defense).__name__} has no gradient for {none} of "
                f"{count} rows, and it does not declare differentiable=False: attackers who know it are blind to "
                "it; declare that, or give a surrogate",
            )
