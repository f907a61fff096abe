"""One batch of a cell: the attack proposes, under watch, and the core judges.

What comes out is a function of the examples of the batch, each by itself, and of nothing else.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark import registry
from benchmark.api import Attack, Certifier, Examples
from benchmark.certify import certify
from benchmark.devices import peak_memory
from benchmark.errors import AttackFault
from benchmark.outcomes import NORMS, Outcomes, Witness
from benchmark.sampling import SampleRandom, derive_seed
from benchmark.system import System
from benchmark.target import Target
from benchmark.threat import Goal, Threat
from benchmark.verify import Answer, Verdict, answer, judge

__all__ = ["Attacked", "AuditCounts", "Job", "attack_batch", "goal_labels"]


@dataclass(frozen=True)
class Job:
    """What a worker needs to attack any part of a cell.

    system: what is judged. seen: what the attacker works on: the system itself, its undefended model, or a surrogate.
    examples: the cell's example list. folder: where finished batches are kept.
    """

    attack: Attack
    threat: Threat
    system: System
    seen: System
    examples: Examples
    seed: int
    batch_size: int
    folder: Path
    certifiers: tuple[Certifier, ...] = ()


@dataclass(frozen=True)
class AuditCounts:
    """How many candidates of attacked examples left the threat, and in which respect."""

    outside_ball: int = 0
    outside_box: int = 0
    outside_region: int = 0
    non_finite: int = 0

    def __add__(self, other: AuditCounts) -> AuditCounts:
        mine, theirs = vars(self), vars(other)
        return AuditCounts(**{name: mine[name] + theirs[name] for name in mine})


@dataclass(frozen=True)
class Attacked:
    """What is known of some examples after the attack. witness: of one batch; that of a cell is a file."""

    outcomes: Outcomes
    audit: AuditCounts
    seconds: float
    peak_memory_bytes: int
    witness: Witness | None = None


def attack_batch(job: Job, x: Tensor, y: Tensor, ids: Tensor) -> Attacked:
    """Attack the examples of one batch that the system gets right, and judge what comes back.

    Args:
        x: (B, *S). y, ids: (B,).

    Raises:
        AttackFault: if the attack breaks the contract in a way that spoils more than its own candidates.
    """
    rng = SampleRandom(derive_seed(job.seed, "cell"), ids)
    clean = answer(job.system, x, y, rng.child("clean"))
    correct = clean.label == y
    rows = correct.nonzero().squeeze(1)
    begun = time.perf_counter()
    certified = certify(job.certifiers, job.system, x, y, correct, threat=job.threat, rng=rng.child("certify"))
    if len(rows) == 0:
        return _assemble(job, x, y, ids, clean, certified, rows, None, None, time.perf_counter() - begun)
    mine = rng.rows(rows)
    goal = goal_labels(job.threat.goal, y[rows], clean.logits[rows], mine)
    threat = job.threat
    target = Target(
        job.seen,
        rng=mine.child("system"),
        classes=job.system.spec.classes,
        access=threat.access,
        queries=threat.queries,
        eot=threat.eot,
        randomized=job.seen.randomized,
        detectors=job.seen.detectors,
    )
    candidate = _propose(job, target, x[rows], y[rows] if goal is None else goal, mine)
    can = job.attack.supports
    verdict = judge(
        job.system,
        threat.around(x[rows], mine),
        candidate,
        y[rows],
        goal,
        mine.child("verdict"),
        minimal=can.minimal,
        bounded=can.bounded,
    )
    seconds = time.perf_counter() - begun
    return _assemble(job, x, y, ids, clean, certified, rows, (verdict, candidate), target, seconds)


def goal_labels(goal: Goal, y: Tensor, logits: Tensor, rng: SampleRandom) -> Tensor | None:
    """(B,) the labels to reach, none of them the true one; None for an untargeted threat."""
    classes = logits.shape[1]
    if goal is Goal.untargeted:
        return None
    if goal is Goal.next_class:
        return (y + 1) % classes
    if goal is Goal.random_class:
        return (y + 1 + rng.integers(classes - 1, 1, stream="goal").squeeze(1)) % classes
    worst = logits.scatter(1, y[:, None], torch.inf).argmin(1)
    return worst


def _propose(job: Job, target: Target, x: Tensor, y: Tensor, rng: SampleRandom) -> Tensor:
    """The attack's candidates, after checks that nothing but its own tensors was touched."""
    owner = registry.owner_of(type(job.attack))
    name = f"{owner.full_name} from {owner.owner}"
    x_given, y_given = x.clone(), y.clone()
    before = _generators(x.device)
    candidate = job.attack.perturb(target, x_given, y_given, threat=job.threat, rng=rng)
    if _generators(x.device) != before:
        raise AttackFault(
            f"{name} drew from a global random generator; randomness must come from `rng`, or no result of it can be "
            "reproduced: its author must mend it"
        )
    if not (torch.equal(x_given, x) and torch.equal(y_given, y)):
        raise AttackFault(f"{name} changed its input in place; it must work on a copy: its author must mend it")
    if not isinstance(candidate, Tensor) or candidate.shape != x.shape or candidate.dtype != x.dtype:
        shape = f"{tuple(candidate.shape)} {candidate.dtype}" if isinstance(candidate, Tensor) else repr(candidate)[:60]
        raise AttackFault(
            f"{name} returned {shape}; expected {tuple(x.shape)} {x.dtype}, one candidate per input: its author must "
            "mend it"
        )
    return candidate.detach()


def _generators(device: torch.device) -> tuple[Any, ...]:
    """The states of the global generators that an attack must leave alone."""
    numpy_state: Any = np.random.get_state(legacy=True)  # noqa: NPY002 - the global state is what is watched
    states: list[Any] = [torch.get_rng_state().numpy().tobytes(), random.getstate(), numpy_state[1].tobytes()]
    states += numpy_state[2:]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device).numpy().tobytes())
    return tuple(states)


def _assemble(
    job: Job,
    x: Tensor,
    y: Tensor,
    ids: Tensor,
    clean: Answer,
    certified: Tensor,
    rows: Tensor,
    judged: tuple[Verdict, Tensor] | None,
    target: Target | None,
    seconds: float,
) -> Attacked:
    """Spread what is known of the attacked rows over the whole batch."""
    count, device = len(y), y.device
    full: dict[str, Tensor] = {
        "adv_label": clean.label,
        "valid": torch.ones(count, dtype=torch.bool, device=device),
        "adversarial": torch.zeros(count, dtype=torch.bool, device=device),
        "broken": torch.zeros(count, dtype=torch.bool, device=device),
        "robust_top5": clean.top5,
        "excess": torch.zeros(count, device=device),
        "forwards": torch.zeros(count, dtype=torch.int64, device=device),
        "backwards": torch.zeros(count, dtype=torch.int64, device=device),
        "zero_gradient": torch.zeros(count, dtype=torch.bool, device=device),
        "bad_gradient": torch.zeros(count, dtype=torch.bool, device=device),
        **{norm: torch.full((count,), torch.inf, device=device) for norm in NORMS},
    }
    witness = Witness(ids[:0].cpu(), x[:0].cpu())
    audit = AuditCounts()
    if judged is not None and target is not None:
        verdict, candidate = judged
        known = {
            "adv_label": torch.where(verdict.valid, verdict.label, clean.label[rows]),
            "valid": verdict.valid,
            "adversarial": verdict.adversarial,
            "broken": verdict.broken,
            "robust_top5": verdict.top5 & clean.top5[rows],
            "excess": verdict.excess,
            "forwards": target.ledger.forwards,
            "backwards": target.ledger.backwards,
            "zero_gradient": target.ledger.zero_gradient,
            "bad_gradient": target.ledger.bad_gradient,
            **verdict.distances,
        }
        full = {name: value.index_copy(0, rows, known[name]) for name, value in full.items()}
        kept = verdict.adversarial
        witness = Witness(ids[rows][kept].cpu(), candidate[kept].cpu())
        audit = AuditCounts(
            int(verdict.outside_ball.sum()),
            int(verdict.outside_box.sum()),
            int(verdict.outside_region.sum()),
            int(verdict.non_finite.sum()),
        )
    attacked = torch.zeros(count, dtype=torch.bool, device=device)
    attacked[rows] = True
    outcomes = Outcomes(
        ids=ids,
        y=y,
        clean_label=clean.label,
        clean_correct=clean.label == y,
        clean_top5=clean.top5,
        attacked=attacked,
        certified=certified,
        **full,
    )
    return Attacked(outcomes, audit, seconds, peak_memory(device), witness)
