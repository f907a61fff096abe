"""Probes: a few passes of a system, on clean examples, that show whether its numbers can be trusted.

They are made once per cell by the core and charged to nobody.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmark import sampling
from benchmark.data import Examples
from benchmark.records.record import Finding
from benchmark.sampling import SampleRandom, derive_seed
from benchmark.system import System, padded, padded_random, records_gradients
from benchmark.threat import Access, Threat

__all__ = ["of_system"]

PROBED = 32
"""Clean examples that a probe looks at."""

REPEATS = 4
"""Passes of the same input: a system may hide a state that shows in every third one."""

COUPLED = 1e-3
"""The relative change of a score that the other rows of a batch may not cause; rounding stays far below it."""

UNDERFLOW = 1e-30
"""The size below which a gradient says nothing, or its sign is rounding."""


@dataclass(frozen=True)
class _Probe:
    """The examples of all probes: x (B, *S), and their randomness."""

    x: Tensor
    rng: SampleRandom


def of_system(threat: Threat, seed: int, system: System, examples: Examples) -> list[Finding]:
    """The findings about a system, from a few passes of it."""
    at = torch.arange(min(PROBED, len(examples)))
    device = next((t.device for t in system.state_dict().values()), torch.device("cpu"))
    probe = _Probe(examples.x(at).to(device), SampleRandom(derive_seed(seed, "probe"), examples.ids[at].to(device)))
    logits = system.logits(probe.x, probe.rng.child(0))
    found = [
        *_randomness(threat, system, probe, logits),
        *_coupling(system, probe),
        *_optimization(system, probe),
        *_other_forward(system, probe),
        *_probabilities(logits),
        *_lost_precision(system, logits),
        *_oddities(system),
    ]
    if threat.access in (Access.gradients, Access.transfer):
        found += [*_wrong_direction(system, probe), *_masked_detectors(system, probe)]
    return found


# --- whose fault ---


def _guilty(system: System, fault: Callable[[System], bool]) -> str:
    """The party that brought a fault into a system: its model, or the first defense that does not stand without it."""
    names = system.owner.split(" with ")
    for count in range(len(system.defenses) + 1):
        part = System(system.model, system.spec, system.defenses[:count])
        if fault(part) and count < len(names):
            return names[count]
    return system.owner


def _states() -> tuple[object, ...]:
    """The states of the global generators."""
    numpy_state = np.random.get_state(legacy=True)  # noqa: NPY002 - the global state is what is watched
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), str(numpy_state)


# --- answers ---


def _randomness(threat: Threat, system: System, probe: _Probe, first: Tensor) -> Iterator[Finding]:
    """Answers that differ between passes of the same inputs."""

    def differing(one: System) -> int:
        same = [one.logits(probe.x, probe.rng.child(0)) for _ in range(REPEATS)]
        return max(int((~_alike(same[0], other)).sum()) for other in same[1:])

    before = _states()
    hidden = differing(system)
    drawn = before != _states()
    changed = int((~_alike(first, system.logits(probe.x, probe.rng.child(1)))).sum())
    total = len(probe.x)
    if hidden or (drawn and changed):
        who = _guilty(system, lambda one: differing(one) > 0)
        how = "draws from a global generator" if drawn else "keeps a state between passes"
        yield Finding(
            name="undeclared_randomness",
            severity="error",
            evidence=f"{who} {how}: {max(hidden, changed)} of {total} answers to the same inputs and seeds differ, so "
            "results cannot be reproduced; draw from benchmark.sampling.ambient() and declare randomized=True",
        )
    elif changed and system.randomized:
        votes = f", and {system.votes} draws vote on each answer" if system.votes > 1 else ""
        yield Finding(
            name="randomized_outputs",
            severity="info",
            evidence=f"the system is randomised as declared ({changed} of {total} outputs differ between two passes); "
            f"gradients were averaged over threat.eot={threat.eot} draws{votes}",
        )
    elif changed:
        yield Finding(
            name="undeclared_randomness",
            severity="error",
            evidence=f"{changed} of {total} outputs differ between two passes, and no defense declares "
            "randomized=True: results cannot be reproduced",
        )


def _alike(one: Tensor, other: Tensor) -> Tensor:
    """Rows of scores that are the same, (B,) bool; NaN is as NaN."""
    return ((one == other) | (one.isnan() & other.isnan())).all(1)


def _coupling(system: System, probe: _Probe) -> Iterator[Finding]:
    """Answers that depend on the other rows of the batch: alone, in another order, in other company."""
    worst = _coupled(system, probe)
    if worst <= COUPLED:
        return
    who = _guilty(system, lambda one: _coupled(one, probe) > COUPLED)
    yield Finding(
        name="rows_depend_on_each_other",
        severity="error",
        evidence=f"{who} answers an input differently in another batch (scores change by up to {worst:.2g} of their "
        "size): what is evaluated is a deployment of batches, and its cells compare with no others; normalise by "
        "stored statistics, in evaluation mode",
    )


def _coupled(system: System, probe: _Probe) -> float:
    """The largest relative change of a score by the company of its row."""
    x, rng, count = probe.x, probe.rng, len(probe.x)
    usual = system.logits(x, rng)
    back = torch.arange(count, device=x.device).flip(0)
    half = torch.arange((count + 1) // 2, device=x.device)
    others = x.clone()
    others[len(half) :] = 1.0 - x[len(half) :]
    tried = [(back, system.logits(x[back], rng.rows(back))), (half, system.logits(others, rng)[: len(half)])]
    for row in range(min(3, count)):
        at = torch.tensor([row], device=x.device)
        tried.append((at, system.logits(x[at], rng.rows(at))))
    size = usual.abs().amax(1, keepdim=True).nan_to_num(nan=0.0, posinf=0.0)
    spread = (usual - usual.mean(1, keepdim=True)).abs().amax(1, keepdim=True).nan_to_num(nan=0.0, posinf=0.0)
    scale = torch.maximum(spread, 1e-4 * size).clamp_min(torch.finfo(usual.dtype).tiny)
    return max(float(((now - usual[at]).abs() / scale[at]).nan_to_num(nan=0.0, posinf=0.0).max()) for at, now in tried)


def _optimization(system: System, probe: _Probe) -> Iterator[Finding]:
    """A system that records gradients where nobody asks for any solves an optimisation problem for each input."""
    if system.optimizes:
        yield Finding(
            name="optimizing_inference",
            severity="info",
            evidence="the system solves an optimisation problem for each input, as declared; one pass of it counts as "
            f"{system.passes} passes, and gradients are those of its declared surrogate",
        )
    elif records_gradients(system, probe.x[:1], probe.rng.rows(torch.zeros(1, dtype=torch.int64))):
        yield Finding(
            name="undeclared_optimization",
            severity="error",
            evidence="the system records gradients in a pass that asks for none, and no defense declares "
            "optimizes=True: an optimisation inside inference makes attacks look weaker than they are, and its passes "
            "are not counted",
        )


def _other_forward(system: System, probe: _Probe) -> Iterator[Finding]:
    """Other scores in a pass with gradients than in one without: attackers are shown another system."""
    x, rng = probe.x, probe.rng
    with torch.enable_grad(), sampling.using(padded_random(rng)):
        shown = system(padded(x).requires_grad_(True))[: len(x)].detach()
    near = torch.isclose(shown, system.logits(x, rng), rtol=1e-3, atol=1e-4, equal_nan=True).all(1)
    if bool(near.all()):
        return
    yield Finding(
        name="surrogate_differs",
        severity="error",
        evidence=f"a pass with gradients gives other scores than one without for {int((~near).sum())} of {len(x)} "
        "examples: attacks work on another system than the one that is judged; a surrogate must stand in for the "
        "backward pass alone (benchmark.system.straight_through)",
    )


def _probabilities(logits: Tensor) -> Iterator[Finding]:
    """Probabilities in place of logits."""
    if bool(((logits >= 0) & (logits <= 1)).all()) and bool((logits.sum(1) - 1).abs().max() < 1e-4):
        yield Finding(
            name="probabilities_for_logits",
            severity="warning",
            evidence=f"on {len(logits)} examples all outputs lie in [0, 1] and sum to 1: these are probabilities, and "
            "losses of logits lose their gradient on them; return scores before the softmax",
        )


def _lost_precision(system: System, logits: Tensor) -> Iterator[Finding]:
    """Scores so large that their differences are lost in rounding."""
    usable = logits[logits.isfinite().all(1)]
    if len(usable) == 0 or usable.shape[1] < 2:
        return
    first, second = usable.topk(2, dim=1).values.unbind(1)
    resolution = usable.abs().amax(1) * torch.finfo(usable.dtype).eps
    coarse = (resolution > 0) & (first - second < 100 * resolution)
    if int(coarse.sum()) * 2 <= len(usable):
        return
    yield Finding(
        name="scores_lose_precision",
        severity="warning",
        evidence=f"for {int(coarse.sum())} of {len(usable)} examples the two largest scores differ by less than 100 "
        f"steps of single precision at their size (up to {float(usable.abs().max()):.3g}): decisions and gradients are "
        f"rounding; {system.owner} should subtract what all scores share",
    )


def _oddities(system: System) -> Iterator[Finding]:
    """Habits that the core made harmless, said to their owner."""
    for oddity in sorted(system.oddities):
        yield Finding(
            name="cast_at_the_border" if oddity.startswith("answers in") else "changes_its_input",
            severity="info",
            evidence=f"{system.owner} {oddity}; it was given a copy and its scores were taken in single precision, so "
            "that attacks and verdicts see the same numbers",
        )


# --- gradients ---


def _wrong_direction(system: System, probe: _Probe) -> Iterator[Finding]:
    """A gradient along which the loss falls: the attacker is led the wrong way."""
    x, rng = probe.x, probe.rng
    with torch.enable_grad(), sampling.using(padded_random(rng)):
        leaf = padded(x).requires_grad_(True)
        loss = _margin(system(leaf))
        slope = torch.autograd.grad(loss.sum(), leaf, allow_unused=True)[0] if loss.requires_grad else None
    if slope is None:
        return
    slope, before = slope[: len(x)], loss.detach()[: len(x)]
    tells = slope.flatten(1).abs().amax(1) > UNDERFLOW
    falls = torch.zeros_like(tells)
    for length in (0.02, 0.1):
        moved = (x + length * slope.sign()).clamp(0.0, 1.0)
        after = _margin(system.logits(moved, rng))
        falls = (after < before) if length == 0.02 else falls & (after < before)
    wrong, asked = int((falls & tells).sum()), int(tells.sum())
    if wrong * 4 <= 3 * asked or asked < 8:
        return
    yield Finding(
        name="gradient_misleads",
        severity="warning",
        evidence=f"for {wrong} of {asked} examples a step along the gradient makes the system surer of its answer: the "
        "gradient points the wrong way, and attacks that follow it are blind; compare with attacks that need none",
    )


def _margin(logits: Tensor) -> Tensor:
    """Second largest score less the largest, which rises as the answer gets unsure, (B,)."""
    first, second = logits.topk(2, dim=1).values.unbind(1)
    return second - first


def _masked_detectors(system: System, probe: _Probe) -> Iterator[Finding]:
    """Detectors whose score has no gradient, although it is declared to have one."""
    for detector in system.detectors:
        if not getattr(detector.defense, "differentiable", True):
            continue
        with torch.enable_grad(), sampling.using(padded_random(probe.rng)):
            leaf = padded(probe.x).requires_grad_(True)
            score = detector.margin(system.protected, leaf)
            slope = torch.autograd.grad(score.sum(), leaf, allow_unused=True)[0] if score.requires_grad else None
        none = len(leaf) if slope is None else int((slope.flatten(1).abs().amax(1) <= UNDERFLOW).sum())
        if none * 2 > len(leaf):
            yield Finding(
                name="detector_gradient_masked",
                severity="warning",
                evidence=f"the score of the detector {type(detector.defense).__name__} has no gradient for {none} of "
                f"{len(leaf)} rows, and it does not declare differentiable=False: attackers who know it are blind to "
                "it; declare that, or give a surrogate",
            )
