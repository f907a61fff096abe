"""One batch of a cell: the attack proposes under guard, and the core judges.

The result of an example depends on nothing else in its batch.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark import registry
from benchmark.api import Attack, Certifier
from benchmark.data import Examples
from benchmark.errors import AttackFault, ConfigError
from benchmark.guard import drawn
from benchmark.records.build import AuditCounts
from benchmark.records.outcomes import Outcomes, Witness
from benchmark.sampling import SampleRandom, derive_seed
from benchmark.stages.backdoor import Backdoor
from benchmark.stages.certify import certify, certify_rows
from benchmark.stages.devices import peak_memory
from benchmark.stages.judge import Answer, Verdict, answer, judge, right, verdict_random
from benchmark.stages.settle import with_fixed_region
from benchmark.stages.survivors import Survivors
from benchmark.system import System
from benchmark.system.references import References
from benchmark.system.target import Ledger, Target
from benchmark.threat import Goal, Threat
from benchmark.threat.ball import Ball

__all__ = ["Attacked", "Job", "attack_batch", "call_guarded", "goals", "target_of"]


@dataclass(frozen=True)
class Job:
    """Everything that a worker needs to attack any part of a cell.

    system: the evaluated system. attacker_view: the attacker's model: the system, its undefended model, or a surrogate.
    examples: the cell's example list. folder: of finished batches. owned: the attacker's own inputs.
    prepared: tensors that the attack has prepared, on the device; None before that, or if it prepares nothing.
    backdoor: the trigger of the system's poison, for an attack that applies it, else None.
    survivors: examples left by earlier cells; None if the attack gets all.
    told: called from time to time with the passes made so far for the examples under attack, (b,) int64.
    """

    attack: Attack
    threat: Threat
    system: System
    attacker_view: System
    examples: Examples
    seed: int
    batch_size: int
    folder: Path
    certifiers: tuple[Certifier, ...] = ()
    owned: References | None = None
    prepared: dict[str, Tensor] | None = None
    backdoor: Backdoor | None = None
    survivors: Survivors | None = None
    told: Callable[[Tensor], None] | None = None


@dataclass(frozen=True)
class Attacked:
    """Outcomes and cost of attacked examples. witness: of one batch; that of a cell is a file.

    path: number of examples broken by each part of an attack with several parts.
    """

    outcomes: Outcomes
    audit: AuditCounts
    seconds: float
    peak_memory_bytes: int
    witness: Witness | None = None
    path: dict[str, int] = field(default_factory=dict)


def attack_batch(job: Job, x: Tensor, y: Tensor, ids: Tensor) -> Attacked:
    """Attack and judge the examples of one batch that are correct and not broken by an earlier cell.

    Args:
        x: (B, *S). y: (B, ...). ids: (B,).

    Raises:
        AttackFault: if the attack breaks the contract in a way that affects more than its own candidates.
    """
    rng = SampleRandom(derive_seed(job.seed, "cell"), ids)
    clean = answer(job.system, x, y, rng.child("clean"), job.threat.goal)
    correct = right(clean, job.threat.goal)
    aimed = None if job.backdoor is None else job.backdoor.aim(ids, y)
    meant = correct if aimed is None else correct & (aimed >= 0)
    spared = meant & False if job.survivors is None else meant & job.survivors.broken(ids)
    rows = (meant & ~spared).nonzero().squeeze(1)
    threat = with_fixed_region(job.threat, job.system, x, y, rng)
    begun = time.perf_counter()
    named = clean.label == clean.truth
    certified = certify(job.certifiers, job.system, x, y, named, threat=threat, rng=rng.child("certify"))
    untouched = Outcomes.untouched(
        ids,
        clean.truth,
        clean.label,
        clean.top5,
        right=correct,
        confidence=clean.confidence,
        predicted=None if clean.suspicion is None else clean.predicted,
        suspicion=clean.suspicion,
        certified=certified,
        certified_rows=certify_rows(job.certifiers, job.system, x, y, named, rng=rng.child("certify")),
        triggered=None if job.backdoor is None else _triggered(job.system, job.backdoor, x, y, rng.child("trigger")),
        aimed=aimed,
        goals=job.system.spec.classes - 1 if job.threat.goal is Goal.all else 1,
        sites=None if clean.sites is None else (y.short(), clean.sites),
    )
    untouched = dataclasses.replace(untouched, valid=~spared)
    if len(rows) == 0:
        nothing = Witness(ids[:0].cpu(), x[:0].cpu())
        return Attacked(untouched, AuditCounts(), time.perf_counter() - begun, peak_memory(x.device), nothing)
    if aimed is None:
        wanted = goals(threat.goal, y[rows], clean.logits[rows], rng.rows(rows))
    else:
        wanted = (aimed[rows],)
    attempts = _attempts(job, threat, x[rows], y[rows], wanted, rng.rows(rows))
    attacked = _assembled(untouched, rows, x, attempts, clean)
    return dataclasses.replace(attacked, seconds=time.perf_counter() - begun)


def _triggered(system: System, backdoor: Backdoor, x: Tensor, y: Tensor, rng: SampleRandom) -> Tensor:
    """Predicted label of every example with the trigger, including misclassified ones, (B,) int64; one forward pass."""
    return answer(system, backdoor.trigger(x), y, rng).label


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
class _Attempts:
    """Attempts on some examples, one or one per target label.

    verdict, candidate: of the best attempt. ledger: of all. reached: (b, goals) bool, the attempts that broke the
    example.
    """

    verdict: Verdict
    candidate: Tensor
    ledger: Ledger
    reached: Tensor


def _attempts(
    job: Job, threat: Threat, x: Tensor, y: Tensor, wanted: tuple[Tensor | None, ...], rng: SampleRandom
) -> _Attempts:
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
        kept = _Attempts(kept.verdict.replaced(better, made.verdict), candidate, kept.ledger, kept.reached)
    return dataclasses.replace(kept, reached=torch.stack(reached, 1))


def _better(new: Verdict, old: Verdict, norm: str) -> Tensor:
    """True where the new attempt replaces the old, (b,) bool; under a `norm`, equal ranks are decided by distance."""

    def rank(of: Verdict) -> Tensor:
        return torch.where(of.broken, 0, torch.where(~of.valid, 1, torch.where(of.adversarial, 2, 3)))

    nearer = new.distances[norm] < old.distances[norm] if norm else torch.zeros_like(new.broken)
    return (rank(new) < rank(old)) | ((rank(new) == rank(old)) & nearer)


def _attempt(
    job: Job, threat: Threat, x: Tensor, y: Tensor, goal: Tensor | None, rng: SampleRandom, examples: SampleRandom
) -> _Attempts:
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
    return _Attempts(verdict, candidate, target.ledger, verdict.broken[:, None])


def target_of(job: Job, threat: Threat, ball: Ball, rng: SampleRandom, *, ranked: Tensor | None = None) -> Target:
    """The system as a job's attacker sees it, for the examples at the centre of `ball`; `rng` is the attack's."""
    return Target(
        job.attacker_view,
        rng=rng.child("system"),
        classes=job.system.spec.classes,
        access=threat.access,
        queries=threat.queries,
        eot=threat.eot,
        randomized=job.attacker_view.randomized,
        detectors=job.attacker_view.detectors,
        ball=ball,
        owned=job.owned,
        passes=job.attacker_view.passes,
        votes=job.attacker_view.votes,
        smoother=job.attacker_view.smoother if threat.aware else None,
        prepared=job.prepared,
        trigger=None if job.backdoor is None else job.backdoor.trigger,
        ranked=ranked,
        task=job.system.spec.task,
        goal=threat.goal,
        told=job.told,
    )


def _propose(job: Job, threat: Threat, target: Target, x: Tensor, y: Tensor, rng: SampleRandom) -> Tensor:
    """Candidates of the attack, after checks that it touched only its own tensors."""
    candidate = call_guarded(job, partial(job.attack.perturb, target, threat=threat, rng=rng), x, y)
    if not isinstance(candidate, Tensor) or candidate.shape != x.shape or candidate.dtype != x.dtype:
        shape = f"{tuple(candidate.shape)} {candidate.dtype}" if isinstance(candidate, Tensor) else repr(candidate)[:60]
        raise AttackFault(
            f"{_owned_name(job.attack)} returned {shape}; expected {tuple(x.shape)} {x.dtype}, one candidate per "
            "input: its author must fix it"
        )
    return candidate.detach()


def call_guarded(job: Job, call: Callable[[Tensor, Tensor], Any], x: Tensor, y: Tensor) -> Any:
    """Call a method of an attack on copies of `x` and `y`, under guard.

    Raises:
        AttackFault: if it touched anything but its own tensors.
    """
    x_given, y_given = x.clone(), y.clone()
    with registry.calling(job.attack, generators=False), job.attacker_view.closed():
        before = drawn(x.device)
        result = call(x_given, y_given)
        drew = drawn(x.device) != before
    if drew and not _draws_globally(job.attacker_view, x):
        raise AttackFault(
            f"{_owned_name(job.attack)} drew from a global random generator; randomness must come from `rng`, or its "
            "results cannot be reproduced: its author must fix it"
        )
    if not (torch.equal(x_given, x) and torch.equal(y_given, y)):
        raise AttackFault(
            f"{_owned_name(job.attack)} changed its input in place; it must work on a copy: its author must fix it"
        )
    return result


def _draws_globally(system: System, x: Tensor) -> bool:
    """True if the system itself draws from a global generator, which a finding reports; the attack is not to blame."""
    before = drawn(x.device)
    system.logits(x[:1], SampleRandom(0, torch.zeros(1, dtype=torch.int64, device=x.device)))
    return drawn(x.device) != before


def _owned_name(attack: Attack) -> str:
    owner = registry.owner_of(type(attack))
    return f"{owner.full_name} from {owner.owner}"


def _where_valid(valid: Tensor, verdict: Tensor | None, said: Tensor | None, rows: Tensor) -> Tensor | None:
    """The verdict's values where a candidate is valid, else those of the clean input, (b,); None without detectors."""
    return None if verdict is None or said is None else torch.where(valid, verdict, said[rows])


def _where_valid_sites(verdict: Verdict, said: Answer, rows: Tensor) -> Tensor:
    """Predictions per site on valid candidates, else on the clean input, (b, S, ...)."""
    assert verdict.sites is not None
    assert said.sites is not None
    wide = verdict.valid.reshape(-1, *[1] * (verdict.sites.ndim - 1))
    return torch.where(wide, verdict.sites, said.sites[rows])


def _assembled(clean: Outcomes, rows: Tensor, x: Tensor, attempts: _Attempts, said: Answer) -> Attacked:
    """Outcomes of a batch whose examples at `rows` were attacked, with its witness.

    Args:
        clean: the outcomes before. x: (B, *S). said: the answers to the clean inputs.
    """
    verdict, ledger = attempts.verdict, attempts.ledger
    outcomes = clean.updated(
        rows,
        attacked=torch.ones_like(verdict.valid),
        adv_label=torch.where(verdict.valid, verdict.label, said.label[rows]),
        valid=verdict.valid,
        adversarial=verdict.adversarial,
        broken=verdict.broken,
        robust_top5=verdict.top5 & said.top5[rows],
        confidence=torch.where(verdict.valid, verdict.confidence, said.confidence[rows]),
        adv_predicted=torch.where(verdict.valid, verdict.predicted, said.predicted[rows]),
        adv_suspicion=_where_valid(verdict.valid, verdict.suspicion, said.suspicion, rows),
        excess=verdict.excess,
        forwards=ledger.forwards,
        backwards=ledger.backwards,
        zero_gradient=ledger.zero_gradient,
        bad_gradient=ledger.bad_gradient,
        reached=attempts.reached,
        adv_sites=None if verdict.sites is None else _where_valid_sites(verdict, said, rows),
        **verdict.distances,
    )
    kept = verdict.adversarial
    witness = Witness(clean.ids[rows][kept].cpu(), attempts.candidate[kept].cpu())
    left = AuditCounts(
        int(verdict.outside_ball.sum()),
        int(verdict.outside_box.sum()),
        int(verdict.outside_region.sum()),
        int(verdict.non_finite.sum()),
    )
    broken = verdict.broken.nonzero().flatten().tolist()
    path = Counter(ledger.found_by[row] for row in broken if ledger.found_by[row])
    return Attacked(outcomes, left, 0.0, peak_memory(x.device), witness, dict(path))
