"""Attempts on the examples of a batch: one attack, or one for each label to reach, and the candidates that are kept."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmark.errors import AttackFault, ConfigError
from benchmark.sampling import SampleRandom
from benchmark.stages.job import Job, call_guarded, owned_name, target_of
from benchmark.stages.judge import Verdict, judge, verdict_random
from benchmark.system.target import Ledger, Target
from benchmark.threat import Goal, Threat

__all__ = ["Attempts", "attempts", "goals"]


def goals(goal: Goal, y: Tensor, logits: Tensor, rng: SampleRandom) -> tuple[Tensor | None, ...]:
    """Target labels (B,) of each attack, never the true label; None for any wrong label.

    A single attack, except under the goal `all`, with one for each other label.
    """
    if not goal.names_label:
        return (None,)
    classes = logits.shape[1]
    if goal is Goal.next_class:
        return ((y + 1) % classes,)
    if goal is Goal.random_class:
        return ((y + 1 + rng.integers(classes - 1, 1, stream="goal").squeeze(1)) % classes,)
    if goal is Goal.all:
        return tuple((y + step) % classes for step in range(1, classes))
    return (logits.scatter(1, y[:, None], torch.inf).argmin(1),)


@dataclass(frozen=True)
class Attempts:
    """Attempts on some examples, one or one per target label.

    verdict, candidate: of the best attempt. ledger: of all. reached: (b, goals) bool, the attempts that broke the
    example.
    """

    verdict: Verdict
    candidate: Tensor
    ledger: Ledger
    reached: Tensor


def attempts(
    job: Job, threat: Threat, x: Tensor, y: Tensor, wanted: tuple[Tensor | None, ...], rng: SampleRandom
) -> Attempts:
    """Attack once per goal, with an equal share of the query budget each, and keep the best candidate per example.

    In order of preference: one that breaks it (the nearest for minimal attacks, else the first), an invalid one, the
    nearest adversarial one, the first.
    """
    if threat.queries is not None and len(wanted) > 1:
        if threat.queries < len(wanted):
            raise ConfigError(
                f"threat.queries is {threat.queries}, which threat.goal=all divides among {len(wanted)} labels; allow "
                f"at least {len(wanted)}"
            )
        threat = dataclasses.replace(threat, queries=threat.queries // len(wanted))
    kept = _attempt(job, threat, x, y, wanted[0], rng if len(wanted) == 1 else rng.child("goal", 0), rng)
    reached = [kept.verdict.broken]
    for place, goal in enumerate(wanted[1:], start=1):
        made = _attempt(job, threat, x, y, goal, rng.child("goal", place), rng)
        better = _better(made.verdict, kept.verdict, threat.norm.value if job.attack.supports.minimal else "")
        kept.ledger.add(made.ledger, better)
        reached.append(made.verdict.broken)
        candidate = torch.where(better.reshape(-1, *([1] * (x.ndim - 1))), made.candidate, kept.candidate)
        kept = Attempts(kept.verdict.replaced(better, made.verdict), candidate, kept.ledger, kept.reached)
    return dataclasses.replace(kept, reached=torch.stack(reached, 1))


def _better(new: Verdict, old: Verdict, norm: str) -> Tensor:
    """True where the new attempt replaces the old, (b,) bool; under a `norm`, equal ranks are decided by distance."""

    def rank(of: Verdict) -> Tensor:
        return torch.where(of.broken, 0, torch.where(~of.valid, 1, torch.where(of.adversarial, 2, 3)))

    nearer = new.distances[norm] < old.distances[norm] if norm else torch.zeros_like(new.broken)
    return (rank(new) < rank(old)) | ((rank(new) == rank(old)) & nearer)


def _attempt(
    job: Job, threat: Threat, x: Tensor, y: Tensor, goal: Tensor | None, rng: SampleRandom, examples: SampleRandom
) -> Attempts:
    """One attack on all rows, and its verdict. rng: of the attack. examples: of region and verdict."""
    ball, can = threat.around(x, examples), job.attack.supports
    top5 = threat.goal is Goal.top5
    target = target_of(job, threat, ball, rng, ranked=y if top5 else None)
    labels = torch.zeros_like(y) if top5 else y if goal is None else goal
    candidate = ball.quantise(_propose(job, threat, target, x, labels, rng))
    verdict = judge(
        job.system,
        ball,
        candidate,
        y,
        goal,
        verdict_random(job.system, examples),
        minimal=can.minimal,
        bounded=can.bounded,
        kind=threat.goal,
    )
    return Attempts(verdict, candidate, target.ledger, verdict.broken[:, None])


def _propose(job: Job, threat: Threat, target: Target, x: Tensor, y: Tensor, rng: SampleRandom) -> Tensor:
    """Candidates of the attack, after checks that it touched only its own tensors."""
    candidate = call_guarded(job, partial(job.attack.perturb, target, threat=threat, rng=rng), x, y)
    if not isinstance(candidate, Tensor) or candidate.shape != x.shape or candidate.dtype != x.dtype:
        shape = f"{tuple(candidate.shape)} {candidate.dtype}" if isinstance(candidate, Tensor) else repr(candidate)[:60]
        raise AttackFault(
            f"{owned_name(job.attack)} returned {shape}; expected {tuple(x.shape)} {x.dtype}, one candidate per "
            "input: its author must fix it"
        )
    return candidate.detach()
