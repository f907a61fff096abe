"""judge: the core's own verdict on each candidate that an attack proposes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.records.outcomes import NORMS
from benchmark.sampling import SampleRandom
from benchmark.system import NO_ANSWER, REJECTED, System
from benchmark.tasks.task import DenseTask
from benchmark.threat import Goal, Norm
from benchmark.threat.ball import Ball, distance

__all__ = ["Answer", "Verdict", "answer", "judge", "right", "verdict_random"]

TOP = 5


@dataclass(frozen=True)
class Answer:
    """Answer of a system to a batch of inputs.

    label: (B,) int64, -1 where refused, -2 where a score is not finite. top5: (B,) bool, `y` is in the top five.
    confidence: (B,) float32, the largest softmax, refused or not; 0 where a score is not finite. logits: (B, K).
    predicted: (B,) int64, the label without refusals. suspicion: (B,) float32, positive where a detector refuses; None
    without detectors. truth: (B,) int64, the true label. sites: the prediction per site, as the task reads it; None
    where an example has one label.
    """

    label: Tensor
    top5: Tensor
    confidence: Tensor
    logits: Tensor
    predicted: Tensor
    truth: Tensor
    suspicion: Tensor | None = None
    sites: Tensor | None = None


@dataclass(frozen=True)
class Verdict:
    """Verdict per attacked example, see benchmark.records.outcomes.Outcomes, and violated constraints."""

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
    predicted: Tensor
    suspicion: Tensor | None = None
    sites: Tensor | None = None

    def replaced(self, rows: Tensor, other: Verdict) -> Verdict:
        """Copy with the rows (B,) bool taken from another verdict."""
        mine, theirs = vars(self), vars(other)
        both = {n: torch.where(_wide(rows, v), theirs[n], v) for n, v in mine.items() if isinstance(v, Tensor)}
        far = {n: torch.where(rows, other.distances[n], self.distances[n]) for n in NORMS}
        return Verdict(**both, distances=far)


def _wide(rows: Tensor, like: Tensor) -> Tensor:
    """`rows` (B,), reshaped to broadcast against `like` (B, ...)."""
    return rows.reshape(-1, *[1] * (like.ndim - 1))


def answer(system: System, x: Tensor, y: Tensor, rng: SampleRandom, goal: Goal = Goal.untargeted) -> Answer:
    """Answer of the system to `x` (B, *S), with true labels `y` (B, ...): one forward pass, or one per declared vote.

    goal: of the threat; it decides which errors count where an example has several sites.
    """
    if isinstance(system.spec.task, DenseTask):
        return _dense(system, system.spec.task.under(goal.value), x, y, rng)
    if system.votes > 1:
        return _elected(system, x, y, rng)
    logits = system.logits(x, rng)
    finite = logits.isfinite().all(1)
    predicted = torch.where(finite, logits.argmax(1), NO_ANSWER)
    suspicion = system.suspicion(x, rng) if system.detectors else None
    label = predicted if suspicion is None else torch.where((suspicion > 0) & finite, REJECTED, predicted)
    sure = torch.where(finite, logits.float().softmax(1).amax(1), 0.0)
    return Answer(label, in_top(logits, y) & (label >= 0), sure, logits, predicted, y, suspicion)


def in_top(scores: Tensor, y: Tensor) -> Tensor:
    """Membership of labels `y` (B,) in the TOP highest of `scores` (B, K), (B,) bool.

    The first of equal scores comes before the others, as for `argmax`; `topk` would give any, even without the
    predicted label.
    """
    own = scores.gather(1, y[:, None])
    first = torch.arange(scores.shape[1], device=scores.device) < y[:, None]
    return ((scores > own) | ((scores == own) & first)).sum(1) < TOP


def _dense(system: System, task: DenseTask, x: Tensor, y: Tensor, rng: SampleRandom) -> Answer:
    """Answer for examples of several sites: 1 if there is no error that counts under the task's goal, else 0.

    Its confidence is the mean over the sites.
    """
    output = system.logits(x, rng)
    finite = output.flatten(1).isfinite().all(1)
    sites = task.read(output)
    predicted = torch.where(finite, (~task.wrong(sites, y)).long(), NO_ANSWER)
    suspicion = system.suspicion(x, rng) if system.detectors else None
    label = predicted if suspicion is None else torch.where((suspicion > 0) & finite, REJECTED, predicted)
    truth = task.truth(y)
    sure = torch.where(finite, task.scores(output).float().softmax(2).amax(2).mean(1), 0.0)
    return Answer(label, label == truth, sure, output, predicted, truth, suspicion, sites)


def right(said: Answer, goal: Goal) -> Tensor:
    """Correctness of an answer, (B,) bool: the label is correct or, under the goal top5, in the top five."""
    return said.top5 if goal is Goal.top5 else said.label == said.truth


def _elected(system: System, x: Tensor, y: Tensor, rng: SampleRandom) -> Answer:
    """Majority label of the draws; a tie goes to the larger mean probability. Logits: logarithm of that mean.

    Refused if more than half of the draws are: the suspicion is the lower median of the draws.
    """
    turns = [rng.at_turn(torch.full_like(rng.ids, turn)) for turn in range(system.votes)]
    drawn = [system.logits(x, turn) for turn in turns]
    finite = [logits.isfinite().all(1, keepdim=True) for logits in drawn]
    share = torch.stack([torch.where(f, z.double().softmax(1), 0.0) for f, z in zip(finite, drawn, strict=True)])
    voted = torch.stack([f * F.one_hot(z.argmax(1), z.shape[1]) for f, z in zip(finite, drawn, strict=True)])
    mean, counts = share.mean(0), voted.sum(0)
    order = counts + 0.5 * mean
    predicted = torch.where(counts.sum(1) > 0, order.argmax(1), NO_ANSWER)
    sure = mean.gather(1, predicted[:, None].clamp_min(0)).squeeze(1).float()
    label, suspicion = predicted, None
    if system.detectors:
        suspicion = torch.stack([system.suspicion(x, turn) for turn in turns]).median(0).values
        label = torch.where((suspicion > 0) & (predicted >= 0), REJECTED, predicted)
    logits = mean.clamp_min(torch.finfo(torch.float32).tiny).log().float()
    return Answer(label, in_top(order, y) & (label >= 0), sure, logits, predicted, y, suspicion)


def verdict_random(system: System, rng: SampleRandom) -> SampleRandom:
    """Randomness of the verdict; where draws vote, that of the clean answer, so that both are judged by the same draws.

    `rng` is the cell's randomness for the examples.
    """
    return rng.child("clean" if system.votes > 1 else "verdict")


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
    kind: Goal = Goal.untargeted,
) -> Verdict:
    """Judge candidates by the threat and by the system's answer, without changing them.

    A candidate equal to the clean input breaks nothing, whatever a random system answers this time.

    Args:
        ball: allowed inputs around the clean ones. candidate: (B, *S). y: (B, ...) true labels.
        goal: (B,) target labels, or None for any wrong one.
        kind: the threat's goal; under top5 every answer without `y` in its top five is a success.
        minimal: the attack is minimal; leaving the eps-ball is then no fault, but breaks nothing.
        bounded: the attack respects the norm; others are judged by box and region alone.
    """
    audit = ball.audit(candidate)
    valid = audit.allowed
    within = audit.excess <= 0
    outside_ball = ~within & ~audit.non_finite
    if bounded and not minimal:
        valid &= within
    safe = torch.where(valid.reshape(-1, *([1] * (candidate.ndim - 1))), candidate, ball.x)
    said = answer(system, safe, y, rng, kind)
    if goal is None:
        success = ~right(said, kind) & (said.label != REJECTED)
    else:
        success = said.label == goal
    adversarial = success & valid & (safe != ball.x).flatten(1).any(1)
    infinite = torch.full((len(y),), torch.inf, device=y.device)
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
        predicted=said.predicted,
        suspicion=said.suspicion,
        sites=said.sites,
    )
