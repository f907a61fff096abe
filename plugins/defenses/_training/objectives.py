"""Losses of adversarial training as functions of logits at the clean and at the adversarial inputs, per example."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "cross_entropy",
    "decoupled_divergence",
    "divergence",
    "generalized_divergence",
    "rival_penalty",
    "true_probability",
]


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """(B,): -log p_y at `logits` (B, K)."""
    return F.cross_entropy(logits, y, reduction="none")


def divergence(clean: Tensor, adversarial: Tensor) -> Tensor:
    """(B,): KL(p || p') of the softmax at `clean` (B, K) from that at `adversarial` (B, K).

    TRADES: Zhang et al., ICML 2019, arXiv:1901.08573, equation 5 and its released code, which has this direction.
    """
    log_p = F.log_softmax(clean, 1)
    return (log_p.exp() * (log_p - F.log_softmax(adversarial, 1))).sum(1)


def rival_penalty(logits: Tensor, y: Tensor) -> Tensor:
    """(B,): -log(1 - max_{k != y} p_k), the margin term of MART's boosted cross-entropy.

    Wang et al., ICLR 2020, section 3.3. From logits, so that no probability rounds to one and no guard is needed.
    """
    rival = logits.scatter(1, y[:, None], -torch.inf).argmax(1, keepdim=True)
    return logits.logsumexp(1) - logits.scatter(1, rival, -torch.inf).logsumexp(1)


def true_probability(logits: Tensor, y: Tensor) -> Tensor:
    """(B,): p_y at `logits` (B, K)."""
    return torch.softmax(logits, 1).gather(1, y[:, None]).squeeze(1)


def decoupled_divergence(clean: Tensor, adversarial: Tensor) -> Tensor:
    """Weighted squared error of the logit differences plus a soft cross-entropy, (B,); its gradients are those of KL.

    Cui et al., NeurIPS 2024, arXiv:2305.13948, theorem 1: sum_jk w_jk ((m_j - m_k) - (n_j - n_k))^2 / 4 with
    w = p p^T, which moves the clean logits m alone, and the cross-entropy of the adversarial ones n at fixed p.
    Since w sums to one, the double sum is twice a variance, which takes no matrix per example.
    """
    p = torch.softmax(clean, 1).detach()
    return _half_variance(p, clean - adversarial.detach()) - (p * F.log_softmax(adversarial, 1)).sum(1)


def generalized_divergence(clean: Tensor, adversarial: Tensor, y: Tensor) -> Tensor:
    """Decoupled divergence whose squared error moves both sides and is weighted by means of classes, (B,).

    Cui et al., NeurIPS 2024, arXiv:2305.13948, section 3.3: w = q q^T with q the mean of p over the rows of label `y`
    (B,). Difference from the paper: over those of the batch, not of an epoch before.
    """
    p = torch.softmax(clean, 1).detach()
    same = (y[:, None] == y).to(p)
    q = same @ p / same.sum(1, keepdim=True)
    return _half_variance(q, clean - adversarial) - (p * F.log_softmax(adversarial, 1)).sum(1)


def _half_variance(weights: Tensor, values: Tensor) -> Tensor:
    """(B,): sum_jk w_j w_k (v_j - v_k)^2 / 4 for weights (B, K) that sum to one."""
    squared: Tensor = (weights * values.square()).sum(1) - (weights * values).sum(1).square()
    return squared / 2.0
