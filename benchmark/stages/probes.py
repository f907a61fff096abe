"""Probes: a few passes of a system, on clean examples, that show whether its numbers can be trusted.

They are made once per system and example list by the core and charged to nobody (:mod:`benchmark.stages.probed`). What
looks sound at first costs no more; what looks odd is asked again until it can be said what is wrong, and whose fault.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from benchmark.data import Examples
from benchmark.records.record import Finding
from benchmark.sampling import SampleRandom, derive_seed
from benchmark.stages.slopes import Probe, of_slopes
from benchmark.system import System, gradients_recorded

__all__ = ["oddities_of", "of_system"]

PROBED = (8, 32)
SHARE_PROBED = 0.016
"""Clean examples that a probe looks at: that share of all, and between so many."""

REPEATS = 4
"""Passes of the same input to a system that looked odd: it may hide a state that shows in every third one."""

UNIFORM = 1e-4
"""The spread of an example's scores, below which their softmax is uniform."""

COUPLED = 1e-3
"""The relative change of a score that the other rows of a batch may not cause; rounding stays far below it."""


def of_system(system: System, examples: Examples, *, gradients: bool) -> list[Finding]:
    """The findings about a system, from a few passes of it.

    Args:
        gradients: whether attackers follow its gradients, so that these are probed too.
    """
    count = min(max(PROBED[0], round(SHARE_PROBED * len(examples))), PROBED[1], len(examples))
    at = torch.arange(count)
    device = next((t.device for t in system.state_dict().values()), torch.device("cpu"))
    probe = Probe(examples.x(at).to(device), SampleRandom(derive_seed("probe"), examples.ids[at].to(device)))
    first = system.logits(probe.x, probe.rng.child(0))
    with gradients_recorded() as recorded:
        alone = system.logits(probe.x[:1], probe.rng.child(0).rows(torch.zeros(1, dtype=torch.int64, device=device)))
    steady = bool(_alike(alone, first[:1]).all()) and _steady(system, probe, first)
    found = [*_randomness(system, probe, first, steady=steady)]
    arbitrary = any(finding.name == "undeclared_randomness" for finding in found)
    if not steady and not arbitrary:
        found += _coupling(system, probe)
    found += _optimization(system, recorded=bool(recorded))
    named = system.spec.task.scores(first).flatten(0, -2)  # a row per site
    found += [*_probabilities(named), *_lost_precision(system, named), *_nearly_equal(system, named)]
    if arbitrary:  # of answers that change by themselves nothing else can be said
        return found
    return [*found, *of_slopes(system, probe, first, follow=gradients)]


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


def _steady(system: System, probe: Probe, first: Tensor) -> bool:
    """True if rows get the same bits once more, in another order, in other company and, undeclared, on other seeds.

    One pass shows all of it; where it does not give the same bits, more are made until it is known why.

    Args:
        first: (B, K) scores of the probe by its first draws.
    """
    rng, count = probe.rng.child(0), len(probe.x)
    kept = (count + 1) // 2
    others = torch.cat([probe.x[:kept], 1.0 - probe.x[kept:]])
    back = torch.arange(count, device=probe.x.device).flip(0)
    drawn = rng if system.randomized else probe.rng.child(1)
    return bool(_alike(system.logits(others[back], drawn.rows(back)).flip(0)[:kept], first[:kept]).all())


def _randomness(system: System, probe: Probe, first: Tensor, *, steady: bool) -> Iterator[Finding]:
    """Answers that differ between passes of the same inputs; of a steady system, between seeds if it declares that."""
    if steady and not system.randomized:
        return

    def differing(one: System) -> int:
        same = [one.logits(probe.x, probe.rng.child(0)) for _ in range(REPEATS)]
        return max(int((~_alike(same[0], other)).sum()) for other in same[1:])

    before = _states()
    hidden = 0 if steady else differing(system)
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
            evidence=f"the system is randomised as declared ({changed} of {total} outputs differ between two passes): "
            f"gradients are averaged over threat.eot draws{votes}",
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
    return ((one == other) | (one.isnan() & other.isnan())).flatten(1).all(1)


def _coupling(system: System, probe: Probe) -> Iterator[Finding]:
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


def _coupled(system: System, probe: Probe) -> float:
    """The largest relative change of a score by the company of its row."""
    x, rng, count = probe.x, probe.rng, len(probe.x)
    usual = system.logits(x, rng).flatten(1)
    back = torch.arange(count, device=x.device).flip(0)
    half = torch.arange((count + 1) // 2, device=x.device)
    others = x.clone()
    others[len(half) :] = 1.0 - x[len(half) :]
    tried = [(back, system.logits(x[back], rng.rows(back)).flatten(1))]
    tried.append((half, system.logits(others, rng)[: len(half)].flatten(1)))
    for row in range(min(3, count)):
        at = torch.tensor([row], device=x.device)
        tried.append((at, system.logits(x[at], rng.rows(at)).flatten(1)))
    size = usual.abs().amax(1, keepdim=True).nan_to_num(nan=0.0, posinf=0.0)
    spread = (usual - usual.mean(1, keepdim=True)).abs().amax(1, keepdim=True).nan_to_num(nan=0.0, posinf=0.0)
    scale = torch.maximum(spread, 1e-4 * size).clamp_min(torch.finfo(usual.dtype).tiny)
    return max(float(((now - usual[at]).abs() / scale[at]).nan_to_num(nan=0.0, posinf=0.0).max()) for at, now in tried)


def _optimization(system: System, *, recorded: bool) -> Iterator[Finding]:
    """A system that records gradients where nobody asks for any solves an optimisation problem for each input."""
    if system.optimizes:
        yield Finding(
            name="optimizing_inference",
            severity="info",
            evidence="the system solves an optimisation problem for each input, as declared; one pass of it counts as "
            f"{system.passes} passes, and gradients are those of its declared surrogate",
        )
    elif recorded:
        yield Finding(
            name="undeclared_optimization",
            severity="error",
            evidence="the system records gradients in a pass that asks for none, and no defense declares "
            "optimizes=True: an optimisation inside inference makes attacks look weaker than they are, and its passes "
            "are not counted",
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


def _nearly_equal(system: System, logits: Tensor) -> Iterator[Finding]:
    """Scores so close to each other that their softmax is uniform."""
    usable = logits[logits.isfinite().all(1)]
    spread = usable.amax(1) - usable.amin(1)
    if usable.shape[1] < 3 or not bool((spread > 0).any()) or float(spread.max()) >= UNIFORM:
        return
    yield Finding(
        name="scores_nearly_equal",
        severity="warning",
        evidence=f"the scores of an example differ by {float(spread.max()):.3g} at most, on {len(usable)} examples: "
        "their softmax is uniform, and cross-entropy weighs all other classes alike, so that attacks by it are weaker "
        f"than by margins; {system.owner} should answer with scores of a usual size",
    )


def oddities_of(system: System) -> Iterator[Finding]:
    """Habits that the core made harmless, said to their owner."""
    for oddity in sorted(system.oddities):
        yield Finding(
            name="cast_at_the_border" if oddity.startswith("answers in") else "changes_its_input",
            severity="info",
            evidence=f"{system.owner} {oddity}; it was given a copy and its scores were taken in single precision, so "
            "that attacks and verdicts see the same numbers",
        )
