"""Losses of attacks: functions of the logits, each row by itself; a constant added to a row changes nothing."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["ce", "dlr", "dlr_targeted", "margin", "other_logits"]


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


def margin(logits: Tensor, y: Tensor, *, targeted: bool = False) -> Tensor:
    """Signed margin max_{k != y} z_k - z_y, (B,), or its negative if `targeted`: positive where the attacker succeeds.

    Carlini & Wagner, S&P 2017, arXiv:1608.04644, section V.A (f6 without its bound).
    """
    value = other_logits(logits, y).max(1).values - logits.gather(1, y[:, None]).squeeze(1)
    return -value if targeted else value


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Margin divided by the difference of the largest and the third largest logit, (B,); with two classes the margin.

    Croce & Hein, ICML 2020, arXiv:2003.01690, equation 6.
    """
    if logits.shape[1] < 3:
        return margin(logits, y)
    top = logits.topk(3, dim=1).values
    return margin(logits, y) / (top[:, 0] - top[:, 2] + 1e-12)


def dlr_targeted(logits: Tensor, y: Tensor) -> Tensor:
    """Targeted difference of logits ratio, (B,), which rises as `y` (B,) becomes the predicted label.

    Croce & Hein, equation 7, with the largest of the other logits in place of that of the true label, which a targeted
    attack is not given. With fewer than four classes it is the margin.
    """
    if logits.shape[1] < 4:
        return margin(logits, y, targeted=True)
    top = logits.topk(4, dim=1).values
    return margin(logits, y, targeted=True) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2.0 + 1e-12)
