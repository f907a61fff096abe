"""Inner maximisations: adversarial examples against the current weights, computed in evaluation mode."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.api import Attack, Batch, Classification, SampleRandom, Target, Threat

from .objectives import cross_entropy, divergence
from .passes import evaluating

__all__ = ["attacked", "most_divergent", "one_step", "worst"]

START = 0.001
"""Standard deviation of TRADES' initial noise: at the clean input the gradient of the divergence is zero."""


def _target(model: nn.Module, batch: Batch, rng: SampleRandom) -> Target:
    task = Classification() if batch.task is None else batch.task
    with torch.no_grad():
        classes = task.scores(model(batch.x[:1])).shape[-1]
    return Target(model, rng=rng, classes=classes, task=task, padding=False)


def attacked(model: nn.Module, batch: Batch, attack: Attack, threat: Threat, rng: SampleRandom) -> Tensor:
    """Candidates (B, *S) of an attack plugin for a batch."""
    with evaluating(model):
        return attack.perturb(_target(model, batch, rng), batch.x, batch.y, threat=threat, rng=rng).detach()


def most_divergent(
    model: nn.Module, batch: Batch, threat: Threat, *, steps: int, step_size: float, rng: SampleRandom
) -> Tensor:
    """Gradient ascent on KL(p(x) || p(x')) from x + 0.001 N(0, 1), as in section 5 of TRADES, (B, *S).

    Zhang et al., ICML 2019, arXiv:1901.08573. The clean logits are computed once: one forward pass, and `steps` forward
    and backward passes. A row whose gradient is zero does not move.
    """
    x = batch.x
    with evaluating(model):
        target, ball = _target(model, batch, rng), threat.around(x, rng)
        clean = target.logits(x)
        x_adv = ball.project(x + START * rng.normal(*x.shape[1:], stream="divergence/start").to(x.dtype))
        for _ in range(steps):
            gradient, _, _ = target.gradient(x_adv, lambda logits: divergence(clean, logits))
            x_adv = ball.project(x_adv.add(ball.steepest(gradient), alpha=step_size))
    return x_adv.detach()


def one_step(
    model: nn.Module, batch: Batch, *, noise: float, step_size: float, bound: float | None, rng: SampleRandom
) -> Tensor:
    """One signed gradient step on the cross-entropy from x + U(-noise, noise), clipped to the box, (B, *S).

    bound: linf radius to which noise and step together are clipped; None for no limit. One forward, one backward pass.
    """
    x = batch.x
    delta = rng.uniform(*x.shape[1:], stream="one_step/start", low=-noise, high=noise).to(x.dtype)
    with evaluating(model):
        start = (x + delta).clamp(0.0, 1.0)
        gradient, _, _ = _target(model, batch, rng).gradient(start, lambda logits: cross_entropy(logits, batch.y))
    x_adv = start + step_size * gradient.sign()
    if bound is not None:
        x_adv = x + (x_adv - x).clamp(-bound, bound)
    return x_adv.clamp(0.0, 1.0).detach()


def worst(model: nn.Module, batch: Batch, candidates: list[Tensor]) -> Tensor:
    """Candidate with the highest cross-entropy per example, the first if tied, (B, *S); one forward pass each."""
    with evaluating(model), torch.no_grad():
        losses = torch.stack([cross_entropy(model(x_adv), batch.y) for x_adv in candidates])
    choice = losses.argmax(0)
    return torch.stack(candidates)[choice, torch.arange(len(choice), device=choice.device)]
