"""verify: the core's own verdict on each candidate. The attack proposes, this decides."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.records.outcomes import NORMS
from benchmark.sampling import SampleRandom
from benchmark.system import REJECTED, System
from benchmark.threat import Norm
from benchmark.threat.ball import Ball, distance

__all__ = ["Answer", "Verdict", "answer", "judge"]

TOP = 5


@dataclass(frozen=True)
class Answer:
    """The answer of a system to a batch of inputs.

    label: (B,) int64, -1 where refused. top5: (B,) bool: `y` among the best five. confidence: (B,) float32, the largest
    softmax, refused or not; 1 where a score is no number. logits: (B, K).
    """

    label: Tensor
    top5: Tensor
    confidence: Tensor
    logits: Tensor


@dataclass(frozen=True)
class Verdict:
    """Per attacked example; see benchmark.records.outcomes.Outcomes. Also which part of the threat a candidate left."""

    label: Tensor
    top5: Tensor
    confidence: Tensor
    valid: Tensor
    adversarial: Tensor
    broken: Tensor
    distances: dict[str, Tensor]
    excess: Tensor
    outside_ball: Tensor
    outside_box: Tensor
    outside_region: Tensor
    non_finite: Tensor

    def replaced(self, rows: Tensor, other: Verdict) -> Verdict:
        """This verdict with the rows (B,) bool of another one."""
        mine, theirs = vars(self), vars(other)
        both = {n: torch.where(rows, theirs[n], mine[n]) for n in mine if n != "distances"}
        far = {n: torch.where(rows, other.distances[n], self.distances[n]) for n in NORMS}
        return Verdict(**both, distances=far)


def answer(system: System, x: Tensor, y: Tensor, rng: SampleRandom) -> Answer:
    """One forward pass: the system's labels for `x` (B, *S), with true labels `y` (B,)."""
    logits = system.logits(x, rng)
    label = logits.argmax(1)
    if system.detectors:
        label = torch.where(system.rejects(x, rng), REJECTED, label)
    best = logits.topk(min(TOP, logits.shape[1]), dim=1).indices
    sure = logits.float().softmax(1).amax(1).nan_to_num(nan=1.0)
    return Answer(label, (best == y[:, None]).any(1) & (label != REJECTED), sure, logits)


def judge(
    system: System,
    ball: Ball,
    candidate: Tensor,
    y: Tensor,
    goal: Tensor | None,
    rng: SampleRandom,
    *,
    minimal: bool,
    bounded: bool,
) -> Verdict:
    """Judge candidates by the threat and by one forward pass; never changes them.

    Args:
        ball: what is allowed around the clean inputs. candidate: (B, *S). y: (B,) true labels.
        goal: (B,) labels to reach, or None if any wrong one will do.
        minimal: the attack looks for the smallest perturbation, so leaving the eps-ball is no fault, only no break.
        bounded: the attack answers to the norm at all; others are judged by box and region alone.
    """
    audit = ball.audit(candidate)
    valid = audit.allowed
    within = audit.excess <= 0
    outside_ball = ~within & ~audit.non_finite
    if bounded and not minimal:
        valid &= within
    safe = torch.where(valid.reshape(-1, *([1] * (candidate.ndim - 1))), candidate, ball.x)
    said = answer(system, safe, y, rng)
    if goal is None:
        success = (said.label != y) & (said.label != REJECTED)
    else:
        success = said.label == goal
    adversarial = success & valid
    infinite = torch.full(y.shape, torch.inf, device=y.device)
    return Verdict(
        label=said.label,
        top5=said.top5,
        confidence=said.confidence,
        valid=valid,
        adversarial=adversarial,
        broken=adversarial & (within if bounded else torch.ones_like(within)),
        distances={n: torch.where(adversarial, distance(safe, ball.x, Norm(n)).float(), infinite) for n in NORMS},
        excess=torch.where(audit.non_finite, infinite, audit.excess.float()),
        outside_ball=outside_ball & ~valid,
        outside_box=audit.outside_box & ~audit.non_finite,
        outside_region=audit.outside_region & ~audit.non_finite,
        non_finite=audit.non_finite,
    )
