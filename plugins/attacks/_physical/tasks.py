"""Small tasks that a host system was never trained for: pictures of given labels, drawn per example.

Which picture an example gets depends on its randomness alone. Pictures to learn from and to be tested with are apart.
"""

from __future__ import annotations

import math
from enum import Enum

import torch
from torch import Tensor

from benchmark.api import Refused, SampleRandom

__all__ = ["Task", "least_side", "pictures"]

LEARNT = 1297
"""Number of scikit-learn's 1797 digits to train with; the others are by other writers."""


class Task(Enum):
    """squares: count the white squares on a black grid, label k for k + 1 of them. digits: scikit-learn's digits."""

    squares = "squares"
    digits = "digits"


def least_side(task: Task, classes: int) -> int:
    """Least side of a picture in pixels.

    Raises:
        Refused: if the task has fewer labels than the host has classes.
    """
    if task is Task.digits and classes > 10:
        raise Refused(
            f"attack.task=digits has 10 labels, and the system has {classes} classes; choose attack.task=squares, "
            "whose grid grows with them"
        )
    return 4 if task is Task.digits else math.isqrt(classes - 1) + 1


def pictures(task: Task, labels: Tensor, classes: int, side: int, rng: SampleRandom, *, draw: int | None) -> Tensor:
    """Picture for each of `labels` (B,), of shape (B, side, side) in [0, 1].

    draw: the number of a picture to learn from; None for the one to be tested with.
    """
    stream = f"reprogramming/{'test' if draw is None else 'learn'}"
    make = _squares if task is Task.squares else _digits
    return make(labels, classes, side, rng, stream, draw or 0, draw is None)


def _squares(labels: Tensor, classes: int, side: int, rng: SampleRandom, stream: str, draw: int, _: bool) -> Tensor:
    """label + 1 cells of the grid are white, with a black frame where a cell has three pixels or more."""
    grid = least_side(Task.squares, classes)
    cell = side // grid
    order = rng.permutation(grid * grid, stream=stream, draw=draw)
    chosen = torch.zeros(order.shape, device=labels.device)
    chosen.scatter_(1, order, (torch.arange(grid * grid, device=labels.device) <= labels[:, None]).float())
    square = torch.ones(cell, cell, device=labels.device)
    if cell >= 3:
        square[0], square[-1], square[:, 0], square[:, -1] = 0.0, 0.0, 0.0, 0.0
    drawn = torch.einsum("brc,pq->brpcq", chosen.reshape(-1, grid, grid), square).reshape(-1, cell * grid, cell * grid)
    rest = side - cell * grid
    return torch.nn.functional.pad(drawn, (rest // 2, rest - rest // 2, rest // 2, rest - rest // 2))


def _digits(labels: Tensor, _: int, side: int, rng: SampleRandom, stream: str, draw: int, test: bool) -> Tensor:
    """A digit of 8 x 8 pixels, each pixel of the picture the mean of those that it covers."""
    import sklearn.datasets

    values, targets = sklearn.datasets.load_digits(return_X_y=True)
    part = slice(LEARNT, None) if test else slice(None, LEARNT)
    x, y = torch.from_numpy(values[part] / 16.0).float().reshape(-1, 8, 8), torch.from_numpy(targets[part]).long()
    order = y.argsort(stable=True)
    count = torch.bincount(y, minlength=10)
    first = count.cumsum(0) - count
    place = (rng.uniform(1, stream=stream, draw=draw).squeeze(1).cpu() * count[labels.cpu()]).long()
    chosen = x[order[first[labels.cpu()] + place]]
    return torch.nn.functional.adaptive_avg_pool2d(chosen, side).to(labels.device)
