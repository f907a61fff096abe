"""Per-example losses of adversarial training, as functions of the clean and the adversarial logits."""

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
    """Cross-entropy -log p_y of `logits` (B, K), (B,)."""
    return F.cross_entropy(logits, y, reduction="none")


def divergence(clean: Tensor, adversarial: Tensor) -> Tensor:
    """KL(p || p') of the softmax p of `clean` (B, K) from p' of `adversarial` (B, K), (B,).

    TRADES: Zhang et al., ICML 2019, arXiv:1901.08573, equation 5; the direction is that of the released code.
    """
    log_p = F.log_softmax(clean, 1)
    return (log_p.exp() * (log_p - F.log_softmax(adversarial, 1))).sum(1)


def rival_penalty(logits: Tensor, y: Tensor) -> Tensor:
    """-log(1 - max_{k != y} p_k), the margin term of MART's boosted cross-entropy, (B,).

    Wang et al., ICLR 2020, section 3.3. Computed from logits, so that no probability rounds to 1.
    """
    rival = logits.scatter(1, y[:, None], -torch.inf).argmax(1, keepdim=True)
    return logits.logsumexp(1) - logits.scatter(1, rival, -torch.inf).logsumexp(1)


def true_probability(logits: Tensor, y: Tensor) -> Tensor:
    """p_y of `logits` (B, K), (B,)."""
    return torch.softmax(logits, 1).gather(1, y[:, None]).squeeze(1)


def decoupled_divergence(clean: Tensor, adversarial: Tensor) -> Tensor:
    """Weighted squared error of logit differences plus a soft cross-entropy, (B,), with the same gradients as KL.

    Cui et al., NeurIPS 2024, arXiv:2305.13948, theorem 1: sum_jk w_jk ((m_j - m_k) - (n_j - n_k))^2 / 4 with w = p p^T,
    differentiated by the clean logits m only, plus the cross-entropy of the adversarial logits n at fixed p. Since w
    sums to 1, the double sum is twice a variance and needs no matrix per example.
    """
    p = torch.softmax(clean, 1).detach()
    return _half_variance(p, clean - adversarial.detach()) - (p * F.log_softmax(adversarial, 1)).sum(1)


def generalized_divergence(clean: Tensor, adversarial: Tensor, y: Tensor) -> Tensor:
    """Decoupled divergence whose squared error depends on both logits and is weighted by class means, (B,).

    Cui et al., NeurIPS 2024, arXiv:2305.13948, section 3.3: w = q q^T with q the mean of p over the rows of label `y`
    (B,). Difference from the paper: the mean is over the batch instead of the previous epoch.
    """
    p = torch.softmax(clean, 1).detach()
    same = (y[:, None] == y).to(p)
    q = same @ p / same.sum(1, keepdim=True)
    return _half_variance(q, clean - adversarial) - (p * F.log_softmax(adversarial, 1)).sum(1)


def _half_variance(weights: Tensor, values: Tensor) -> Tensor:
    """sum_jk w_j w_k (v_j - v_k)^2 / 4 for weights (B, K) that sum to 1, (B,)."""
    squared: Tensor = (weights * values.square()).sum(1) - (weights * values).sum(1).square()
    return squared / 2.0
