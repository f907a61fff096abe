"""Small ReLU networks, and the exact distance of an input in the box to its nearest misclassified point.

A ReLU network is piecewise linear, so the nearest input whose logit of class k is at least that of y is the solution of
a mixed-integer linear program (Tjeng, Xiao & Tedrake, ICLR 2019, arXiv:1711.07356): one binary variable says whether a
unit is active, where bounds on its input do not decide it. HiGHS solves it to optimality, through SciPy. Distances are
linf and l1, which have linear programs; networks without a hidden layer have closed forms in every norm
(:mod:`benchmark.oracles.linear`). Everything is in double precision.
"""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmark.errors import DataError
from benchmark.oracles.linear import exact_distance
from benchmark.threat import Norm

__all__ = ["SOLVED", "ReLUNet"]

SOLVED = (Norm.linf, Norm.l1)
"""Norms in which a network with hidden layers is solved."""

EXACT_RADII = {Norm.linf: (0.05, 0.1, 0.2, 1.0), Norm.l1: (0.25, 0.5, 1.0, 2.0, None)}
"""Increasing radii to search within: in a small one, most units are stably active or inactive."""

Array = NDArray[np.float64]
OPTIMAL, INFEASIBLE = 0, 2
ORACLE_PROBES = 16
"""Random inputs at which what was read is compared with the network."""

SLACK = 1e-9


@dataclass(frozen=True)
class ReLUNet:
    """Affine layers with a ReLU between consecutive layers.

    weights: per layer (outputs, inputs) float64. biases: per layer (outputs,) float64.
    """

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]

    @classmethod
    def of(cls, module: nn.Module, shape: tuple[int, ...]) -> ReLUNet:
        """Read a network: a scale and a shift per feature, flattening, then alternating Linear and ReLU layers.

        Args:
            module: from (B, *S) to (B, K). shape: S, of one example.

        Raises:
            DataError: if it has another structure.
        """
        parts = [p for p in copy.deepcopy(module).cpu().double().modules() if not list(p.children())]
        places = [at for at, part in enumerate(parts) if isinstance(part, nn.Linear)]
        if not places or not isinstance(module, nn.Sequential):
            raise DataError(
                f"{type(module).__name__} is not a sequence with linear layers; exact distances are known only for "
                "linear and multilayer ReLU networks (model=linear, model=mlp, model=nearest_class_mean)"
            )
        between = [parts[a + 1 : b] for a, b in pairwise([*places, len(parts)])]
        if any([type(p) for p in kinds] != [nn.ReLU] for kinds in between[:-1]) or between[-1]:
            raise DataError(
                "between two linear layers there must be one ReLU and nothing else, and after the last none"
            )
        probes = torch.rand(ORACLE_PROBES, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        shift, scale = _elementwise(nn.Sequential(*parts[: places[0]]), probes)
        layers: list[Any] = [parts[at] for at in places]
        weights = [layer.weight.detach() for layer in layers]
        biases = [
            torch.zeros(len(w)).double() if x.bias is None else x.bias.detach()
            for w, x in zip(weights, layers, strict=True)
        ]
        biases[0] = biases[0] + weights[0] @ shift
        weights[0] = weights[0] * scale
        net = cls(tuple(w.numpy() for w in weights), tuple(b.numpy() for b in biases))
        with torch.no_grad():
            same = _close(copy.deepcopy(module).cpu().double()(probes.clone()), net.logits(probes))
        if not same:
            raise DataError("its scores are not those of its layers one after the other; expected a plain sequence")
        return net

    def logits(self, x: Tensor) -> Tensor:
        """Logits, (B, K) float64, of `x` (B, *S)."""
        values = x.flatten(1).double()
        for place, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            values = values.clamp_min(0.0) if place else values
            values = values @ torch.tensor(weight).T + torch.tensor(bias)
        return values

    def balanced(self) -> ReLUNet:
        """The same classifier with rescaled weights near 1, because the tolerances of a solver are absolute.

        A factor taken from a unit is given to the next layer, and all scores are divided by one number; every factor is
        a power of two, so nothing is rounded.
        """
        weights, biases = [w.copy() for w in self.weights], [b.copy() for b in self.biases]
        for place in range(len(weights)):
            last = place == len(weights) - 1
            rows = np.abs(weights[place]).max(1)
            size = np.full(len(rows), rows.max()) if last else rows
            unit = np.exp2(np.floor(np.log2(np.where(size > 0, size, 1.0))))
            weights[place] /= unit[:, None]
            biases[place] /= unit
            if not last:
                weights[place + 1] *= unit
        return ReLUNet(tuple(weights), tuple(biases))

    def distance(self, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
        """Exact distance in the box [0, 1] from each input to its nearest misclassified point.

        Args:
            x: (N, *S) in [0, 1]. y: (N,) int64, the true labels. norm: linf or l1; without hidden layers, any.

        Returns:
            (N,) float64: 0 if `x` is misclassified already, infinite if nothing in the box is. A tie with another class
            counts as misclassified. Solutions are cached.

        Raises:
            DataError: if the norm has no linear program, or a program was not solved to optimality.
        """
        flat = x.flatten(1).double()
        if len(self.weights) == 1:
            weight, bias = torch.from_numpy(self.weights[0]), torch.from_numpy(self.biases[0])
            return exact_distance(weight, bias, flat, y, norm)
        if norm not in SOLVED:
            raise DataError(f"a ReLU network is solved under {', '.join(n.value for n in SOLVED)}, not {norm.value}")
        even = self.balanced()
        shapes = tuple(w.shape for w in even.weights)
        layers = tuple(w.tobytes() for w in even.weights), tuple(b.tobytes() for b in even.biases)
        found = [
            _remembered(shapes, *layers, row.numpy().tobytes(), int(label), norm)
            for row, label in zip(flat, y, strict=True)
        ]
        return torch.tensor(found, dtype=torch.float64)


def _elementwise(part: nn.Module, probes: Tensor) -> tuple[Tensor, Tensor]:
    """Shift and scale of each feature by `part`, which scales first, (D,) each.

    Args:
        probes: (P, *S) float64, random inputs.

    Raises:
        DataError: if it does anything else to them.
    """
    with torch.no_grad():
        at = [part(torch.full_like(probes[:1], v)).flatten() for v in (0.0, 1.0)]
        shift, scale = at[0], at[1] - at[0]
        found = part(probes.clone()).flatten(1)
    if found.shape != (len(probes), *shift.shape) or not _close(found, shift + scale * probes.flatten(1)):
        raise DataError("layers before the first linear one must scale and shift each feature separately")
    return shift, scale


def _close(one: Tensor, other: Tensor) -> bool:
    """True if values in double precision, (B, K), differ by rounding at most."""
    return bool(((one - other).abs() <= 1e-9 * (1e-3 + other.abs().amax())).all())


@functools.lru_cache(maxsize=100_000)
def _remembered(
    shapes: tuple[tuple[int, int], ...],
    weights: tuple[bytes, ...],
    biases: tuple[bytes, ...],
    x: bytes,
    y: int,
    norm: Norm,
) -> float:
    net = ReLUNet(
        tuple(np.frombuffer(w).reshape(s) for w, s in zip(weights, shapes, strict=True)),
        tuple(np.frombuffer(b) for b in biases),
    )
    return _nearest(net, np.frombuffer(x), y, norm)


def _nearest(net: ReLUNet, x: Array, y: int, norm: Norm) -> float:
    """Smallest distance over the other classes; each solution bounds the search for the next class."""
    logits = net.logits(torch.tensor(x)[None])[0].numpy()
    rivals = [int(k) for k in np.argsort(-logits) if k != y]
    if logits[rivals[0]] >= logits[y]:
        return 0.0
    for radius in EXACT_RADII[norm]:
        best = np.inf
        for k in rivals:
            limit = min(best, np.inf if radius is None else radius)
            best = min(best, _towards(net, x, y, k, norm, limit))
        if np.isfinite(best):
            return best
    return float(np.inf)


def _towards(net: ReLUNet, x: Array, y: int, k: int, norm: Norm, radius: float) -> float:
    """Smallest distance, at most `radius`, at which the logit of `k` equals that of `y`; infinite if there is none.

    Variables: the input, its change (one number under linf, one per feature under l1), and for each unstable unit its
    value a and a binary b, with a >= z, a >= 0, a <= z - low * (1 - b), a <= high * b, where z is its affine input, in
    [low, high]. A stable unit is linear.

    Raises:
        DataError: if HiGHS neither finds an optimum nor proves that there is none.
    """
    program = _Program(len(x), norm)
    program.near(x, radius)
    value, constant = program.inputs()
    low, high = x, x
    for place, (weight, bias) in enumerate(zip(net.weights[:-1], net.biases[:-1], strict=True)):
        value, constant = weight @ value, weight @ constant + bias
        if place == 0:
            middle = weight @ x + bias
            low, high = middle - _gains(-weight, x, norm, radius), middle + _gains(weight, x, norm, radius)
        else:
            positive, negative = weight.clip(min=0.0), weight.clip(max=0.0)
            low, high = positive @ low + negative @ high + bias, positive @ high + negative @ low + bias
        value, constant = program.rectified(value, constant, low, high)
        low, high = low.clip(min=0.0), high.clip(min=0.0)
    rise = net.weights[-1][k] - net.weights[-1][y]
    gap = net.biases[-1][k] - net.biases[-1][y]
    unit = np.exp2(np.floor(np.log2(np.abs(rise).max()))) if np.abs(rise).max() > 0 else 1.0
    rise, gap = rise / unit, gap / unit
    if rise.clip(min=0.0) @ high + rise.clip(max=0.0) @ low + gap < 0:
        return float(np.inf)
    row = np.zeros(program.size)
    row[: value.shape[1]] = rise @ value
    program.bounded_below(row, -(gap + rise @ constant))
    return program.least()


def _gains(weight: Array, x: Array, norm: Norm, radius: float) -> Array:
    """Largest gain of each row of `weight` by a change of `x` within `radius` in the box, (outputs,)."""
    room = np.where(weight > 0, 1.0 - x, x)
    if norm is Norm.linf:
        return np.asarray((np.abs(weight) * np.minimum(room, radius)).sum(1))
    order = np.argsort(-np.abs(weight), 1)  # the steepest first, each as far as there is room
    gain, room = np.take_along_axis(np.abs(weight), order, 1), np.take_along_axis(room, order, 1)
    left = np.maximum(radius - (room.cumsum(1) - room), 0.0)
    return np.asarray((gain * np.minimum(room, left)).sum(1))


class _Program:
    """A mixed-integer program under construction: columns are variables, rows are lower bounds on sums."""

    def __init__(self, features: int, norm: Norm) -> None:
        self.features = features
        self.norm = norm
        self.changes = 1 if norm is Norm.linf else features
        self.size = features + self.changes
        self.low: list[float] = [0.0] * self.size
        self.high: list[float] = [1.0] * self.size
        self.binary: list[int] = [0] * self.size
        self.rows: list[tuple[Array, float]] = []

    def near(self, x: Array, radius: float) -> None:
        """Constrain the changes to be at least the movement of the input, and their sum to be at most `radius`."""
        for at in range(self.features):
            change = self.features + (0 if self.changes == 1 else at)
            for sign in (1.0, -1.0):
                row = np.zeros(self.size)
                row[at], row[change] = -sign, 1.0
                self.bounded_below(row, -sign * x[at])
        if np.isfinite(radius):
            row = np.zeros(self.size)
            row[self.features : self.features + self.changes] = -1.0
            self.bounded_below(row, -radius - SLACK)

    def inputs(self) -> tuple[Array, Array]:
        """Input as an affine function of the variables: a matrix and a constant."""
        return np.eye(self.features, self.size), np.zeros(self.features)

    def bounded_below(self, row: Array, bound: float) -> None:
        """Add the constraint row . variables >= bound."""
        self.rows.append((row, bound))

    def rectified(self, value: Array, constant: Array, low: Array, high: Array) -> tuple[Array, Array]:
        """max(0, value . variables + constant) as affine functions; `low` and `high` bound its argument."""
        open_units = [unit for unit in range(len(low)) if low[unit] < 0 < high[unit]]
        first = self.size
        self.size += 2 * len(open_units)
        out, kept = np.zeros((len(low), self.size)), np.where(low >= 0, constant, 0.0)
        out[low >= 0, : value.shape[1]] = value[low >= 0]
        for place, unit in enumerate(open_units):
            a, b = first + 2 * place, first + 2 * place + 1
            self.low += [0.0, 0.0]
            self.high += [float(high[unit]), 1.0]
            self.binary += [0, 1]
            out[unit, a] = 1.0
            row = np.zeros(self.size)
            row[: value.shape[1]], row[a] = -value[unit], 1.0
            self.bounded_below(row, constant[unit])
            row = np.zeros(self.size)
            row[: value.shape[1]], row[a], row[b] = value[unit], -1.0, low[unit]
            self.bounded_below(row, low[unit] - constant[unit])
            row = np.zeros(self.size)
            row[a], row[b] = -1.0, high[unit]
            self.bounded_below(row, 0.0)
        return out, kept

    def least(self) -> float:
        """Smallest sum of changes; infinite if the program is infeasible."""
        from scipy.optimize import Bounds, LinearConstraint, milp

        matrix = np.zeros((len(self.rows), self.size))
        for at, (row, _) in enumerate(self.rows):
            matrix[at, : len(row)] = row
        cost = np.zeros(self.size)
        cost[self.features : self.features + self.changes] = 1.0
        for presolve in (True, False):  # after its presolve HiGHS now and then ends with a solve error
            found = milp(
                cost,
                constraints=LinearConstraint(matrix, [bound for _, bound in self.rows]),
                bounds=Bounds(self.low, self.high),
                integrality=self.binary,
                options={"mip_rel_gap": 0.0, "presolve": presolve},
            )
            if found.status in (INFEASIBLE, OPTIMAL):
                break
        if found.status == INFEASIBLE:
            return float(np.inf)
        if found.status != OPTIMAL:
            raise DataError(f"HiGHS did not solve a program to optimality: {found.message}")
        return float(found.fun)
