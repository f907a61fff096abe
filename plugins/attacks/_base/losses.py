"""What gradient attacks ascend: functions of the logits, each row by itself.

None of them changes when a constant is added to all logits of a row.
"""

from __future__ import annotations

from enum import Enum

import torch
from torch import Tensor

from benchmark.api import RowLoss

__all__ = [
    "AttackLoss",
    "ce",
    "dlr",
    "dlr_targeted",
    "dlr_towards",
    "gap",
    "lead",
    "likeliest",
    "margin",
    "row_loss",
    "softplus",
    "succeeded",
]


class AttackLoss(Enum):
    """The losses by name: cross-entropy, logit margin (Carlini & Wagner), difference of logits ratio."""

    ce = "ce"
    margin = "margin"
    dlr = "dlr"


def _others(logits: Tensor, y: Tensor) -> Tensor:
    """(B, K) logits with the one of `y` at minus infinity."""
    return logits.scatter(1, y[:, None], -torch.inf)


def ce(logits: Tensor, y: Tensor) -> Tensor:
    """(B,): log(exp(CE) - 1) = log sum_{k != y} exp(z_k) - z_y, the log-odds of the classes other than `y` (B,).

    It rises with the cross-entropy and its gradient is that of the cross-entropy divided by 1 - p_y, so that every
    normalised step is the same. Unlike the cross-entropy's, its gradient does not vanish in floating point where p_y
    rounds to one; what is left of that kind of gradient masking is not an attack's failure, but arithmetic.
    """
    # The differences come first, so that no constant in the logits costs digits.
    return (_others(logits, y) - logits.gather(1, y[:, None])).logsumexp(1)


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """(B,): max_{k != y} z_k - z_y, positive exactly where `y` (B,) is not the predicted label.

    Carlini & Wagner, S&P 2017, arXiv:1608.04644, section V.A (f6 without its bound).
    """
    return _others(logits, y).max(1).values - logits.gather(1, y[:, None]).squeeze(1)


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """(B,): the margin divided by the gap between the largest and the third largest logit.

    Croce & Hein, ICML 2020, arXiv:2003.01690, equation 6. There is no third logit for two classes, and then it is the
    margin itself.
    """
    if logits.shape[1] < 3:
        return margin(logits, y)
    top = logits.topk(3, dim=1).values
    return margin(logits, y) / (top[:, 0] - top[:, 2] + 1e-12)


def dlr_targeted(logits: Tensor, y: Tensor) -> Tensor:
    """(B,): the targeted form, which rises as `y` (B,) becomes the predicted label.

    Croce & Hein, equation 7, with the greatest of the other logits in place of that of the true label, which a targeted
    attack is not given. It takes the mean of the third and the fourth logit, since the untargeted form is constant
    where `y` is third; with fewer than four classes it is the margin.
    """
    if logits.shape[1] < 4:
        return -margin(logits, y)
    top = logits.topk(4, dim=1).values
    return -margin(logits, y) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2.0 + 1e-12)


_LOSSES = {AttackLoss.ce: ce, AttackLoss.margin: margin, AttackLoss.dlr: dlr}


def row_loss(kind: AttackLoss, y: Tensor, *, targeted: bool) -> RowLoss:
    """The loss to ascend: away from the labels `y` (B,), or towards them if `targeted`."""
    chosen = _LOSSES[kind]
    if targeted and kind is AttackLoss.dlr:
        return lambda logits: dlr_targeted(logits, y)
    if targeted:
        return lambda logits: -chosen(logits, y)
    return lambda logits: chosen(logits, y)


def succeeded(logits: Tensor, y: Tensor, *, targeted: bool) -> Tensor:
    """(B,) bool: whether the predicted label is what the attacker wants: `y` (B,) if `targeted`, else any other."""
    return (logits.argmax(1) == y) == targeted


def lead(logits: Tensor, y: Tensor, *, targeted: bool) -> Tensor:
    """(B,): the margin, and its negative if `targeted`: positive where the attacker succeeds, negative where not."""
    return -margin(logits, y) if targeted else margin(logits, y)


def softplus(values: Tensor) -> Tensor:
    """log(1 + exp(values)), any shape.

    torch's own rounds a value by its place in the batch, on CPU; so do its sigmoid and its atanh.
    """
    return values.clamp_min(0.0) + (-values.abs()).exp().log1p()


def gap(logits: Tensor, y: Tensor, rival: Tensor) -> Tensor:
    """(B,): z_rival - z_y: how far class `rival` (B,) is ahead of `y` (B,)."""
    return (logits.gather(1, rival[:, None]) - logits.gather(1, y[:, None])).squeeze(1)


def dlr_towards(logits: Tensor, y: Tensor, rival: Tensor) -> Tensor:
    """(B,): the gap to class `rival`, divided by the largest logit less the mean of the third and fourth largest.

    Croce & Hein, ICML 2020, arXiv:2003.01690, equation 7. It needs four classes; with fewer it is the gap itself.
    """
    if logits.shape[1] < 4:
        return gap(logits, y, rival)
    top = logits.topk(4, dim=1).values
    return gap(logits, y, rival) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2.0 + 1e-12)


def likeliest(logits: Tensor, y: Tensor, count: int) -> Tensor:
    """(B, C) int64: the C = min(count, K - 1) classes other than `y` with the highest logits, the highest first."""
    return _others(logits, y).topk(min(count, logits.shape[1] - 1), dim=1).indices
