"""Losses of attacks: functions of the logits, each row by itself; a constant added to a row changes nothing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["ce", "cross_entropy", "dlr", "margin", "other_logits", "over_spread"]


def other_logits(logits: Tensor, y: Tensor) -> Tensor:
    """Logits (B, K) with that of `y` (B,) at minus infinity."""
    return logits.scatter(1, y[:, None], -torch.inf)


def ce(logits: Tensor, y: Tensor) -> Tensor:
    """Log-odds of the classes other than `y` (B,): log(exp(CE) - 1) = log sum_{k != y} exp(z_k) - z_y, (B,).

    It rises with the cross-entropy, and its gradient is that of the cross-entropy divided by 1 - p_y: every normalised
    step is the same, but the gradient does not vanish in floating point where p_y rounds to one.
    """
    # Differences first, so that a constant in the logits costs no digits.
    return (other_logits(logits, y) - logits.gather(1, y[:, None])).logsumexp(1)


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of `y` (B,), (B,)."""
    return F.cross_entropy(logits, y, reduction="none")


def margin(logits: Tensor, y: Tensor, *, targeted: bool = False) -> Tensor:
    """Signed margin max_{k != y} z_k - z_y, (B,), or its negative if `targeted`: positive where the attacker succeeds.

    Carlini & Wagner, S&P 2017, arXiv:1608.04644, section V.A (f6 without its bound).
    """
    value = other_logits(logits, y).max(1).values - logits.gather(1, y[:, None]).squeeze(1)
    return -value if targeted else value


def over_spread(value: Tensor, logits: Tensor, count: int) -> Tensor:
    """`value` (B,) over the largest logit less the mean of the third to the `count`-th; itself with fewer classes.

    Croce & Hein, ICML 2020, arXiv:2003.01690, equations 6 (`count` 3) and 7 (`count` 4).
    """
    if logits.shape[1] < count:
        return value
    top = logits.topk(count, dim=1).values
    return value / (top[:, 0] - top[:, 2:].mean(1) + 1e-12)


def dlr(logits: Tensor, y: Tensor, *, targeted: bool = False) -> Tensor:
    """Difference of logits ratio, the signed margin :func:`over_spread` of the logits, (B,).

    Targeted, the largest other logit takes the place of that of the true label, which such an attack is not given.
    """
    return over_spread(margin(logits, y, targeted=targeted), logits, 4 if targeted else 3)
