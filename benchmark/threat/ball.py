"""The set of allowed inputs around a batch: distances, projections, starts and steepest steps, per example.

Everything is applied to each row separately; no value depends on the rest of the batch. Inputs lie in the box [0, 1].
Distances are computed in double precision.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.sampling import SampleRandom
from benchmark.threat.grid import neighbours, on_grid
from benchmark.threat.kinds import Norm
from benchmark.threat.radius import tolerance
from benchmark.threat.table import TableRegion

__all__ = ["Ball", "BallAudit", "distance", "rows_norm", "tolerance"]


def _columns(values: Tensor, like: Tensor) -> Tensor:
    """`values` (B,), reshaped to broadcast against (B, *S)."""
    return values.reshape(-1, *([1] * (like.ndim - 1)))


def rows_norm(delta: Tensor, norm: Norm) -> Tensor:
    """Norm of each row of `delta` (B, *S), (B,) in the dtype of `delta`."""
    flat = delta.flatten(1)
    if norm is Norm.linf:
        return flat.abs().amax(1)
    if norm is Norm.l2:
        return flat.square().sum(1).sqrt()
    if norm is Norm.l1:
        return flat.abs().sum(1)
    return (flat != 0).sum(1).to(delta.dtype)


def distance(x_adv: Tensor, x: Tensor, norm: Norm) -> Tensor:
    """Distance of each row of `x_adv` (B, *S) from `x` (B, *S), (B,) float64."""
    return rows_norm(x_adv.double() - x.double(), norm)


@dataclass(frozen=True)
class BallAudit:
    """Position of each candidate relative to the allowed set.

    distance: (B,) float64, in the threat's norm. excess: (B,) float64, distance beyond the radius (0 inside).
    outside_box, outside_region, off_grid, non_finite: (B,) bool.
    """

    distance: Tensor
    excess: Tensor
    outside_box: Tensor
    outside_region: Tensor
    off_grid: Tensor
    non_finite: Tensor

    @property
    def allowed(self) -> Tensor:
        """True where allowed in every respect but the distance, (B,) bool."""
        return ~(self.outside_box | self.outside_region | self.off_grid | self.non_finite)

    @property
    def inside(self) -> Tensor:
        """True where allowed in every respect, (B,) bool."""
        return (self.excess <= 0) & self.allowed


@dataclass(frozen=True)
class Ball:
    """The allowed inputs around `x`: the eps-ball of a norm in the box [0, 1], changed inside the mask only.

    x: (B, *S) in [0, 1]. eps: the radius, may be infinite. mask: (B or 1, *S) bool, or None for all features.
    levels: number of values of a changed feature, or None for real numbers; see :meth:`quantise`.
    table: constraints on the features of tabular data, or None.
    """

    x: Tensor
    norm: Norm
    eps: float
    mask: Tensor | None = None
    levels: int | None = None
    table: TableRegion | None = None

    @property
    def rounds(self) -> bool:
        """True if candidates are rounded before they are judged."""
        return self.levels is not None or self.table is not None

    def rows(self, index: Tensor) -> Ball:
        """Balls of the examples at `index` (int64 or bool)."""
        mask = self.mask if self.mask is None or len(self.mask) == 1 else self.mask[index]
        return Ball(self.x[index], self.norm, self.eps, mask, self.levels, self.table)

    def audit(self, x_adv: Tensor) -> BallAudit:
        """Audit candidates `x_adv` (B, *S), as the core does, without changing them."""
        finite = torch.isfinite(x_adv).flatten(1).all(1)
        far = distance(torch.nan_to_num(x_adv, nan=0.0, posinf=1e9, neginf=-1e9), self.x, self.norm)
        excess = (far - self.eps).clamp_min(0.0)
        excess = torch.where(excess <= tolerance(self.norm, self.eps), torch.zeros_like(excess), excess)
        box = ((x_adv < 0) | (x_adv > 1)).flatten(1).any(1)
        if self.mask is None:
            region = torch.zeros_like(box)
        else:
            region = ((x_adv != self.x) & ~self.mask).flatten(1).any(1)
        off_grid = torch.zeros_like(box)
        if self.levels is not None:
            off_grid = ((x_adv != self.x) & (x_adv != on_grid(x_adv, self.levels))).flatten(1).any(1)
        if self.table is not None:
            outside, impossible = self.table.broken(x_adv, self.x)
            region, off_grid = region | outside, off_grid | impossible
        return BallAudit(far, excess, box, region, off_grid, ~finite)

    def project(self, x_adv: Tensor) -> Tensor:
        """Project each candidate into the allowed set, (B, *S); an allowed candidate is unchanged (up to rounding).

        linf, l2 and l1: the Euclidean projection onto the intersection of ball and box. l0: the `eps` largest changes
        are kept.
        """
        if self.norm is Norm.linf:
            return x_adv.clamp(*self._bounds)
        if self.mask is not None:
            x_adv = torch.where(self.mask, x_adv, self.x)
        if math.isinf(self.eps):
            return x_adv.clamp(0.0, 1.0)
        if self.norm is Norm.l2:
            return self._project_l2(x_adv)
        if self.norm is Norm.l1:
            return self._project_l1(x_adv)
        delta = (x_adv.clamp(0.0, 1.0) - self.x).flatten(1)
        keep = min(int(self.eps), delta.shape[1])
        kept = torch.zeros_like(delta)
        if keep:
            top = delta.abs().topk(keep, dim=1).indices
            kept.scatter_(1, top, delta.gather(1, top))
        return torch.where(kept.reshape(self.x.shape) != 0, x_adv.clamp(0.0, 1.0), self.x)

    def _l2_limit(self, size: int) -> float:
        """Radius, minus the error of rounding `x` + delta to single precision beyond the audit's tolerance."""
        rounding = math.sqrt(size) * 2.0**-25  # half the distance between neighbours just below 1, per feature
        return max(0.0, self.eps - max(0.0, rounding - tolerance(Norm.l2, self.eps)))

    @functools.cached_property
    def _bounds(self) -> tuple[Tensor, Tensor]:
        """Lowest and highest allowed value of each feature under linf, (B, *S) each."""
        low, high = (self.x - self.eps).clamp_min(0.0), (self.x + self.eps).clamp_max(1.0)
        if self.table is not None:
            least, most = self.table.bounds(self.x)
            low, high = low.maximum(least), high.minimum(most)
        if self.mask is None:
            return low, high
        return torch.where(self.mask, low, self.x), torch.where(self.mask, high, self.x)

    def _project_l2(self, x_adv: Tensor) -> Tensor:
        """Euclidean projection onto the intersection of the l2 ball and the box.

        The optimum is x + sign(u) * min(s |u|, room) with one s in (0, 1] per row. A feature that has used up its
        room leaves more of the radius to the others, so s grows until no more features do, in a few iterations.
        """
        u = (x_adv - self.x).flatten(1)
        x = self.x.flatten(1)
        limit = self._l2_limit(u.shape[1])
        room, size = torch.where(u > 0, 1.0 - x, x), u.abs()
        scale = (limit / rows_norm(u, Norm.l2).clamp_min(1e-30)).clamp_max(1.0)
        moved = torch.minimum(size * scale[:, None], room)
        for _ in range(u.shape[1]):
            short = (scale < 1.0) & (rows_norm(moved, Norm.l2) < limit * (1.0 - 1e-6))
            if not bool(short.any()):
                break
            full = moved >= room
            left = limit**2 - (moved * full).square().sum(1)
            free = (size * ~full).square().sum(1)
            grown = torch.where(free > 0, (left / free).sqrt(), 1.0).clamp_max(1.0)
            scale = torch.where(short, grown.maximum(scale), scale)
            moved = torch.minimum(size * scale[:, None], room)
        return (x + u.sign() * moved).reshape(self.x.shape)

    def _project_l1(self, x_adv: Tensor) -> Tensor:
        """Euclidean projection onto the intersection of the l1 ball and the box.

        The optimum is sign(u) * clip(|u| - t, 0, room) with one t per row (Croce & Hein, ICML 2021, section 3.1);
        its l1 norm is piecewise linear in t, so t is read off after sorting the 2 D breakpoints.
        """
        u = (x_adv - self.x).flatten(1).double()
        x = self.x.flatten(1).double()
        room = torch.where(u > 0, 1.0 - x, x)
        size = u.abs()
        # At breakpoint `size` a coordinate starts to count as t falls, at `size - room` it stops growing.
        points = torch.cat([size, (size - room).clamp_min(0.0)], 1)
        slopes = torch.cat([torch.ones_like(size), -torch.ones_like(size)], 1)
        points, order = points.sort(dim=1, descending=True)
        slopes = slopes.gather(1, order).cumsum(1)
        gaps = points - torch.cat([points[:, 1:], torch.zeros_like(points[:, :1])], 1)
        mass = (slopes * gaps).cumsum(1)  # l1 norm of the solution at the next breakpoint; the last one is t = 0
        inside = mass[:, -1] <= self.eps
        first = (mass >= self.eps).to(torch.int8).argmax(1, keepdim=True)
        before = torch.where(first > 0, mass.gather(1, (first - 1).clamp_min(0)), torch.zeros_like(mass[:, :1]))
        slope = slopes.gather(1, first).clamp_min(1.0)
        t = points.gather(1, first) - (self.eps - before) / slope
        t = torch.where(inside[:, None], torch.zeros_like(t), t)
        delta = u.sign() * torch.minimum((size - t).clamp_min(0.0), room)
        near = (x + delta).to(self.x.dtype)
        # Rounded towards x: the other way, the errors of many features add up to more than the tolerance.
        near = torch.where((near.double() - x).abs() > delta.abs(), near.nextafter(self.x.flatten(1)), near)
        return near.reshape(self.x.shape).clamp(0.0, 1.0)

    def quantise(self, x_adv: Tensor) -> Tensor:
        """Candidates with each changed feature rounded to k / (levels - 1), (B, *S); unchanged if there are no levels.

        Rows of a table are made valid under its rules (:meth:`benchmark.threat.table.TableRegion.nearest`), within the
        ball.

        The allowed values of a feature are the grid and its value in `x`. Each feature is rounded to the nearer of the
        two neighbouring allowed values, ties towards `x`. If that moves a row out of a ball that it was in, the
        features whose rounding added the most distance are rounded towards `x` instead, as few as necessary: a row in
        the ball stays in it, and in its box and region. Values on the grid do not change.
        """
        if self.table is not None:
            return self._by_rules(x_adv, self.table)
        if self.levels is None:
            return x_adv
        away, towards = neighbours(x_adv, self.x, self.levels)
        near = torch.where((away - x_adv).abs() < (x_adv - towards).abs(), away, towards)
        if self.norm is Norm.l0 or math.isinf(self.eps):
            return near  # no feature changes that was left alone
        limit = self.eps + tolerance(self.norm, self.eps)
        was_inside = distance(x_adv, self.x, self.norm) <= limit
        if self.norm is Norm.linf:
            left = (near.double() - self.x.double()).abs() > limit
            return torch.where(left & _columns(was_inside, left), towards, near)
        left = was_inside & (distance(near, self.x, self.norm) > limit)
        if not bool(left.any()):
            return near
        return near.index_copy(0, left.nonzero().squeeze(1), self.rows(left)._nearer(near[left], towards[left]))

    def _by_rules(self, x_adv: Tensor, table: TableRegion) -> Tensor:
        limit = self.eps + tolerance(self.norm, self.eps)
        near = table.nearest(x_adv, self.x)
        left = (distance(x_adv, self.x, self.norm) <= limit) & (distance(near, self.x, self.norm) > limit)
        return torch.where(_columns(left, x_adv), table.nearest(x_adv, self.x, towards=True), near)

    def _nearer(self, near: Tensor, towards: Tensor) -> Tensor:
        """`near`, with the fewest features set to `towards` that bring its rows into the ball (l1, l2), (B, *S)."""
        power = 2 if self.norm is Norm.l2 else 1
        x = self.x.double().flatten(1)
        cost = (near.double().flatten(1) - x).abs() ** power
        gain, order = (cost - (towards.double().flatten(1) - x).abs() ** power).sort(
            stable=True, dim=1, descending=True
        )
        total = cost.sum(1, keepdim=True)
        left = total - torch.cat([torch.zeros_like(total), gain.cumsum(1)[:, :-1]], 1)  # before the n-th of them
        back = torch.zeros_like(left, dtype=torch.bool).scatter_(1, order, left > self.eps**power)
        return torch.where(back.reshape(near.shape), towards, near)

    def steepest(self, gradient: Tensor) -> Tensor:
        """Step of unit norm that increases a linear function the most, (B, *S); zero where the gradient is.

        linf: the sign. l2: the normalised gradient. l1: all on the coordinates of largest magnitude, split over ties.
        l0: the sign on every coordinate; the projection keeps the largest. The step is zero at a coordinate (l2 and l1:
        in a row) with a NaN gradient, and under l2 in a row with an infinite one.
        """
        if self.mask is not None:
            gradient = torch.where(self.mask, gradient, 0.0)
        if self.norm in (Norm.linf, Norm.l0):
            return gradient.sign()
        if self.norm is Norm.l2:
            peak = _columns(rows_norm(gradient, Norm.linf), gradient)
            scaled = torch.where((peak > 0) & (peak < torch.inf), gradient / peak, torch.zeros_like(gradient))
            size = _columns(rows_norm(scaled, Norm.l2), gradient)
            return torch.where(size > 0, scaled / size, torch.zeros_like(scaled))
        flat = gradient.flatten(1)
        peak = flat.abs().amax(1, keepdim=True)
        ties = (flat.abs() == peak) & (peak > 0)
        step = flat.sign() * ties / ties.sum(1, keepdim=True).clamp_min(1)
        return step.reshape(gradient.shape)

    def random(self, rng: SampleRandom, *, stream: str, draw: int = 0) -> Tensor:
        """Uniform sample of the ball (before clipping to the box), projected into box and region, (B, *S).

        l2: a Gaussian direction with radius eps * u^(1/d). l1: exponential spacings with random signs. l0: uniform
        values on eps random coordinates. An infinite radius draws uniformly in the box.
        """
        shape = self.x.shape[1:]
        size = math.prod(shape)
        if math.isinf(self.eps):
            return self.project(rng.uniform(*shape, stream=stream, draw=draw).to(self.x.dtype))
        if self.norm is Norm.linf:
            delta = rng.uniform(*shape, stream=stream, draw=draw, low=-self.eps, high=self.eps)
        elif self.norm is Norm.l2:
            direction = rng.normal(size, stream=stream, draw=draw)
            radius = rng.uniform(1, stream=stream + "/radius", draw=draw) ** (1.0 / size)
            delta = self.eps * radius * direction / direction.norm(dim=1, keepdim=True).clamp_min(1e-12)
        elif self.norm is Norm.l1:
            spacing = -torch.log1p(-rng.uniform(size + 1, stream=stream, draw=draw))
            signs = rng.signs(size, stream=stream + "/signs", draw=draw)
            delta = self.eps * signs * spacing[:, :size] / spacing.sum(1, keepdim=True).clamp_min(1e-12)
        else:
            order = rng.permutation(size, stream=stream, draw=draw)
            chosen = torch.zeros(len(rng), size, dtype=torch.bool, device=self.x.device)
            chosen.scatter_(1, order[:, : min(int(self.eps), size)], True)
            value = rng.uniform(size, stream=stream + "/values", draw=draw)
            delta = torch.where(chosen, value - self.x.flatten(1), torch.zeros_like(value))
        return self.project(self.x + delta.reshape(self.x.shape).to(self.x.dtype))
