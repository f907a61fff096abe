"""One batch of a cell: the attack proposes under guard, and the core judges.

The result of an example depends on nothing else in its batch.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmark.records.build import AuditCounts
from benchmark.records.outcomes import Outcomes
from benchmark.records.witness import Witness
from benchmark.sampling import SampleRandom, derive_seed
from benchmark.stages.attempts import Attempts, attempts, goals
from benchmark.stages.backdoor import Backdoor
from benchmark.stages.certify import certify, certify_rows
from benchmark.stages.devices import peak_memory
from benchmark.stages.job import Job, call_guarded, target_of
from benchmark.stages.judge import Answer, Verdict, answer, right
from benchmark.stages.settle import with_fixed_region
from benchmark.system import System
from benchmark.threat import Goal

__all__ = ["Attacked", "Job", "attack_batch", "call_guarded", "goals", "target_of"]


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
    made = attempts(job, threat, x[rows], y[rows], wanted, rng.rows(rows))
    attacked = _assembled(untouched, rows, x, made, clean)
    return dataclasses.replace(attacked, seconds=time.perf_counter() - begun)


def _triggered(system: System, backdoor: Backdoor, x: Tensor, y: Tensor, rng: SampleRandom) -> Tensor:
    """Predicted label of every example with the trigger, including misclassified ones, (B,) int64; one forward pass."""
    return answer(system, backdoor.trigger(x), y, rng).label


def _where_valid(valid: Tensor, verdict: Tensor | None, said: Tensor | None, rows: Tensor) -> Tensor | None:
    """The verdict's values where a candidate is valid, else those of the clean input, (b,); None without detectors."""
    return None if verdict is None or said is None else torch.where(valid, verdict, said[rows])


def _where_valid_sites(verdict: Verdict, said: Answer, rows: Tensor) -> Tensor:
    """Predictions per site on valid candidates, else on the clean input, (b, S, ...)."""
    assert verdict.sites is not None
    assert said.sites is not None
    wide = verdict.valid.reshape(-1, *[1] * (verdict.sites.ndim - 1))
    return torch.where(wide, verdict.sites, said.sites[rows])


def _assembled(clean: Outcomes, rows: Tensor, x: Tensor, made: Attempts, said: Answer) -> Attacked:
    """Outcomes of a batch whose examples at `rows` were attacked, with its witness.

    Args:
        clean: the outcomes before. x: (B, *S). said: the answers to the clean inputs.
    """
    verdict, ledger = made.verdict, made.ledger
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
        reached=made.reached,
        adv_sites=None if verdict.sites is None else _where_valid_sites(verdict, said, rows),
        **verdict.distances,
    )
    kept = verdict.adversarial
    witness = Witness(clean.ids[rows][kept].cpu(), made.candidate[kept].cpu())
    left = AuditCounts(
        int(verdict.outside_ball.sum()),
        int(verdict.outside_box.sum()),
        int(verdict.outside_region.sum()),
        int(verdict.non_finite.sum()),
    )
    broken = verdict.broken.nonzero().flatten().tolist()
    path = Counter(ledger.found_by[row] for row in broken if ledger.found_by[row])
    return Attacked(outcomes, left, 0.0, peak_memory(x.device), witness, dict(path))
