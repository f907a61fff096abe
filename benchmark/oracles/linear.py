"""Linear classifiers on real data, and the exact distance of an input in the box to its nearest misclassified point.

For a linear classifier an input `x` of class y is misclassified as k where w . delta >= m, with w = W_k - W_y and the
margin m = z_y - z_k. The misclassified points of the box are a union of half-spaces cut by the box, and the distance
to each is a problem with one constraint that has a closed form in every norm. So an attack can be told exactly how
well it did: no attack can break an input whose exact distance is above eps, and a good one breaks all the others.
Everything here is in double precision and needs no download.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmark.errors import DataError
from benchmark.threat import Norm

__all__ = [
    "DATASETS",
    "LinearClassifier",
    "LinearProblem",
    "exact_distance",
    "half_space_distance",
    "nearest_class_mean",
]

DATASETS = ("digits", "iris", "wine", "breast_cancer")
"""Bundled data sets of scikit-learn with a linear problem."""


class LinearClassifier(nn.Module):
    """logits = W x + b of the flattened input, in single precision."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.float())
        self.bias = nn.Parameter(bias.float())

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K) of `x` (B, *S)."""
        return nn.functional.linear(x.flatten(1), self.weight, self.bias)


@dataclass(frozen=True)
class LinearProblem:
    """A linear classifier with test examples.

    weight: (K, D) float64. bias: (K,) float64. x: (N, D) float64 in [0, 1]. y: (N,) int64.
    """

    weight: Tensor
    bias: Tensor
    x: Tensor
    y: Tensor

    def logits(self, x: Tensor) -> Tensor:
        """Logits, (B, K) float64, of `x` (B, D)."""
        return x.double() @ self.weight.T + self.bias

    def model(self) -> LinearClassifier:
        """The classifier as a module, which flattens its input: any shape with D values is accepted."""
        return LinearClassifier(self.weight, self.bias)

    def distance(self, norm: Norm, mask: Tensor | None = None) -> Tensor:
        """Exact distance to the decision boundary, (N,) float64; see :func:`exact_distance`."""
        return exact_distance(self.weight, self.bias, self.x, self.y, norm, mask)

    def robust_accuracy(self, norm: Norm, eps: float) -> float:
        """Fraction of the test examples that no perturbation within `eps` breaks; at 0, the clean accuracy."""
        return float((self.distance(norm) > eps).double().mean())


def nearest_class_mean(name: str = "digits") -> LinearProblem:
    """Nearest-class-mean classifier W_k = 2 mu_k, b_k = -||mu_k||^2 of a bundled data set.

    digits: pixels divided by 16, trained on rows 0-1296, tested on rows 1297-1796. The others: each feature scaled to
    [0, 1] by its minimum and maximum, trained on the even rows, tested on the odd ones.

    Raises:
        DataError: if there is no problem of that name.
    """
    import sklearn.datasets

    if name not in DATASETS:
        raise DataError(f"there is no linear problem {name!r}; choose one of {', '.join(DATASETS)}")
    values, labels = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)
    x, y = torch.from_numpy(values).double(), torch.from_numpy(labels).long()
    rows = torch.arange(len(x))
    if name == "digits":
        x, train = x / 16.0, rows < 1297
    else:
        low, high = x.amin(0), x.amax(0)
        x, train = (x - low) / (high - low), rows % 2 == 0
    classes = int(y.max()) + 1
    means = torch.stack([x[train & (y == k)].mean(0) for k in range(classes)])
    return LinearProblem(2.0 * means, -means.square().sum(1), x[~train], y[~train])


def exact_distance(
    weight: Tensor, bias: Tensor, x: Tensor, y: Tensor, norm: Norm, mask: Tensor | None = None
) -> Tensor:
    """Exact distance in the box [0, 1] from each input to its nearest misclassified point.

    Args:
        weight: (K, D). bias: (K,). x: (N, D) in [0, 1]. y: (N,) int64, the true labels.
        norm: of the distance.
        mask: (D,) or (N, D) bool, the features that may change; None for all.

    Returns:
        (N,) float64: 0 if `x` is misclassified already, infinite if no allowed change misclassifies it. A tie with
        another class counts as misclassified.
    """
    weight, x = weight.double(), x.double()
    logits = x @ weight.T + bias.double()
    best = torch.full((len(x),), torch.inf, dtype=torch.float64)
    for k in range(len(weight)):
        slope = weight[k] - weight[y]
        if mask is not None:
            slope = torch.where(mask, slope, 0.0)
        margin = logits.gather(1, y[:, None]).squeeze(1) - logits[:, k]
        best = torch.where(y == k, best, torch.minimum(best, half_space_distance(slope, margin, x, norm)))
    return best


def half_space_distance(slope: Tensor, margin: Tensor, x: Tensor, norm: Norm) -> Tensor:
    """Smallest norm of a `delta` with slope . delta >= margin that keeps `x` + `delta` in the box [0, 1].

    Every feature moves in the direction of its slope, as far as the box allows, and gains |slope| per unit: linf moves
    all equally, l2 in proportion to the slope, l1 moves the steepest first, and l0 those first that can gain the most.

    Args:
        slope, x: (N, D) float64. margin: (N,) float64. norm: to minimise.

    Returns:
        (N,) float64: 0 if the margin is not positive, infinite if the box is too small.
    """
    gain = slope.abs()
    room = torch.where(slope > 0, 1.0 - x, x)
    size = _SIZES[norm](gain, room, margin)
    reachable = (gain * room).sum(1) >= margin
    size = torch.where(reachable, size, torch.inf)
    return torch.where(margin <= 0, torch.zeros_like(size), size)


def _first_reaching(totals: Tensor, margin: Tensor) -> Tensor:
    """First position at which the running `totals` (N, D) reach the margin, (N, 1); the last position if none does."""
    return (totals < margin[:, None]).sum(1, keepdim=True).clamp_max(totals.shape[1] - 1)


def _filled(breaks: Tensor, gain: Tensor, room: Tensor, rate: Tensor, margin: Tensor) -> tuple[Tensor, Tensor]:
    """Solve sum gain * min(t * rate, room) = margin, which is linear in t between the `breaks` = room / rate.

    Returns:
        t (N,), and the squared length (N,) of the change at t.
    """
    order = breaks.argsort(1)
    breaks, gain, room, rate = (v.gather(1, order) for v in (breaks, gain, room, rate))
    full = (gain * room).cumsum(1)
    growth = (gain * rate).flip(1).cumsum(1).flip(1)  # of the total gain per unit of t, from this break downwards
    before = torch.cat([torch.zeros_like(full[:, :1]), full[:, :-1]], 1)  # what is full before each break
    at = before + breaks * growth  # total gain at each break
    first = _first_reaching(torch.where(growth > 0, at, torch.inf), margin)
    t = (margin[:, None] - before.gather(1, first)) / growth.gather(1, first).clamp_min(torch.finfo(gain.dtype).tiny)
    change = torch.minimum(t * rate, room)
    return t.squeeze(1), change.square().sum(1)


def _linf(gain: Tensor, room: Tensor, margin: Tensor) -> Tensor:
    return _filled(room, gain, room, torch.ones_like(gain), margin)[0]


def _l2(gain: Tensor, room: Tensor, margin: Tensor) -> Tensor:
    breaks = torch.where(gain > 0, room / gain, torch.inf)
    breaks = breaks.nan_to_num(nan=torch.inf, posinf=torch.finfo(gain.dtype).max)
    return _filled(breaks, gain, room, gain, margin)[1].sqrt()


def _l1(gain: Tensor, room: Tensor, margin: Tensor) -> Tensor:
    order = gain.argsort(1, descending=True)
    gain, room = gain.gather(1, order), room.gather(1, order)
    totals = (gain * room).cumsum(1)
    last = _first_reaching(totals, margin)
    missing = margin[:, None] - (totals - gain * room).gather(1, last)
    spent = (room.cumsum(1) - room).gather(1, last) + missing / gain.gather(1, last)
    return spent.squeeze(1)


def _l0(gain: Tensor, room: Tensor, margin: Tensor) -> Tensor:
    totals = (gain * room).sort(1, descending=True).values.cumsum(1)
    return (_first_reaching(totals, margin) + 1).squeeze(1).to(gain.dtype)


_SIZES: dict[Norm, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    Norm.linf: _linf,
    Norm.l2: _l2,
    Norm.l1: _l1,
    Norm.l0: _l0,
}
