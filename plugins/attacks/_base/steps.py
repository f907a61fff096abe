"""Steepest step of a given length in the box."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.api import Ball, Norm

__all__ = ["steepest_step"]


def steepest_step(ball: Ball, x_adv: Tensor, gradient: Tensor, length: float) -> Tensor:
    """`x_adv` (b, *S) after the steepest step of that length.

    Under l1 it moves the features with room in the box (Croce & Hein, ICML 2021, arXiv:2103.01208, section 3.2) to its
    end, from the largest slope down, until the length is used up. Each may pass that end, for the projection to cut.
    """
    if ball.norm is not Norm.l1:
        return x_adv.add(ball.steepest(gradient), alpha=length)
    room = torch.where(gradient > 0, 1.0 - x_adv, x_adv)
    usable = room > 0 if ball.mask is None else (room > 0) & ball.mask
    slope = torch.where(usable, gradient, 0.0).nan_to_num(nan=0.0).flatten(1)
    gain, order = slope.abs().sort(dim=1, descending=True, stable=True)
    room = room.flatten(1).gather(1, order)
    left = length + room - room.cumsum(1)  # before a feature takes its part
    spent = torch.where(left >= room, length, left.clamp_min(0.0))
    spent = torch.where(gain > 0, spent, 0.0)
    return x_adv + (torch.zeros_like(spent).scatter_(1, order, spent) * slope.sign()).reshape(x_adv.shape)
