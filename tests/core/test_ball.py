"""Balls: projections, starts, steps and the audit, against solvers, closed forms and their own defining properties."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy.optimize import minimize
from torch import Tensor

from benchmark.errors import DataError
from benchmark.sampling import SampleRandom
from benchmark.threat import Norm, Region, RegionKind, Threat
from benchmark.threat.ball import Ball, distance, tolerance

RADII = {Norm.linf: (0.0, 0.1, 0.7), Norm.l2: (0.0, 0.5, 3.0), Norm.l1: (0.0, 0.8, 6.0), Norm.l0: (0.0, 3.0, 20.0)}


def _draw(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def _batch(seed: int, count: int = 8, size: int = 20) -> tuple[Tensor, Tensor]:
    """Inputs, some features on the ends of the box, and wild candidates."""
    x = (_draw(seed, count, size) * 1.6 - 0.3).clamp(0.0, 1.0)
    return x, x + (_draw(seed + 1, count, size) - 0.5) * 2.0 * _draw(seed + 2, count, 1)


@pytest.mark.parametrize(("norm", "eps"), [(n, e) for n in Norm for e in RADII[n]])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), masked=st.booleans())
def test_projection_lands_inside_and_then_stays(norm: Norm, eps: float, seed: int, masked: bool) -> None:
    x, wild = _batch(seed)
    mask = _draw(seed + 3, len(x), x.shape[1]) > 0.4 if masked else None
    ball = Ball(x, norm, eps, mask)
    once = ball.project(wild)
    assert bool(ball.audit(once).inside.all())
    torch.testing.assert_close(ball.project(once), once, rtol=0.0, atol=2e-7)
    assert torch.equal(torch.cat([ball.rows(torch.tensor([i])).project(wild[i : i + 1]) for i in range(8)]), once)


@pytest.mark.parametrize("norm", list(Norm))
def test_projection_leaves_allowed_points_alone(norm: Norm) -> None:
    x, wild = _batch(3)
    inside = x + 0.01 * (wild.clamp(0, 1) - x)
    if norm is Norm.l0:
        inside = torch.where(torch.arange(20) < 5, inside, x)
    ball = Ball(x, norm, 5.0 if norm is Norm.l0 else 0.5)
    torch.testing.assert_close(ball.project(inside), inside, rtol=0.0, atol=6e-8)
    assert torch.equal(ball.project(x), x)


@pytest.mark.parametrize("norm", [Norm.linf, Norm.l1])
def test_projection_is_the_nearest_allowed_point(norm: Norm) -> None:
    x, wild = _batch(11, count=12, size=6)
    ball = Ball(x.double(), norm, 0.4)
    ours = ball.project(wild.double())
    for row in range(12):
        centre, point = x[row].double().numpy(), wild[row].double().numpy()
        # delta = up - down, both non-negative, so that the l1 norm is linear where it matters
        found = minimize(
            lambda v, c=centre, p=point: float(((c + v[:6] - v[6:] - p) ** 2).sum()),
            np.zeros(12),
            bounds=[*((0.0, min(1 - c, 0.4)) for c in centre), *((0.0, min(c, 0.4)) for c in centre)],
            constraints=[] if norm is Norm.linf else {"type": "ineq", "fun": lambda v: 0.4 - v.sum()},
            method="SLSQP",
            options={"ftol": 1e-16, "maxiter": 1000},
        )
        best = math.sqrt(found.fun)
        assert float((ours[row] - wild[row].double()).norm()) == pytest.approx(best, abs=1e-6)


def test_l1_projection_survives_points_exactly_on_the_sphere() -> None:
    x = torch.zeros(1, 4)
    on = torch.tensor([[0.5, 0.25, 0.125, 0.125]])
    assert torch.equal(Ball(x, Norm.l1, 1.0).project(on), on)
    for seed in range(200):
        x, wild = _batch(seed, count=4, size=50)
        ball = Ball(x.double(), Norm.l1, 0.9)
        once = ball.project(wild.double())
        torch.testing.assert_close(ball.project(once), once, rtol=0.0, atol=1e-14)


def test_l2_projection_scales_to_the_sphere_where_the_box_is_far() -> None:
    x = torch.full((2, 4), 0.5)
    got = Ball(x, Norm.l2, 0.1).project(x + torch.tensor([[0.3, 0.0, 0.4, 0.0], [0.03, 0.0, 0.04, 0.0]]))
    torch.testing.assert_close(got - x, torch.tensor([[0.06, 0.0, 0.08, 0.0], [0.03, 0.0, 0.04, 0.0]]))


@pytest.mark.parametrize("seed", range(3))
def test_l2_projection_is_the_nearest_point_of_ball_and_box(seed: int) -> None:
    x, wild = _batch(seed, count=4, size=12)
    got = Ball(x.double(), Norm.l2, 0.3).project(wild.double())
    assert bool((distance(got, x.double(), Norm.l2) > 0.3 - 1e-6).any())  # the box alone does not settle it
    for row in range(4):
        centre, point = x[row].double().numpy(), wild[row].double().numpy()
        best = minimize(
            lambda z, p=point: ((z - p) ** 2).sum(),
            centre,
            jac=lambda z, p=point: 2 * (z - p),
            bounds=[(0, 1)] * 12,
            constraints={"type": "ineq", "fun": lambda z, c=centre: 0.09 - ((z - c) ** 2).sum()},
            method="SLSQP",
            options={"ftol": 1e-10, "maxiter": 500},
        )
        assert best.success
        torch.testing.assert_close(got[row], torch.from_numpy(best.x), rtol=0.0, atol=1e-4)


def test_l0_projection_keeps_the_largest_changes() -> None:
    x = torch.full((1, 5), 0.5)
    got = Ball(x, Norm.l0, 2.0).project(x + torch.tensor([[0.1, -0.4, 0.2, 0.3, 0.0]]))
    torch.testing.assert_close(got - x, torch.tensor([[0.0, -0.4, 0.0, 0.3, 0.0]]))


@pytest.mark.parametrize("norm", list(Norm))
def test_a_ball_without_limit_is_the_box(norm: Norm) -> None:
    x, wild = _batch(5)
    for ball in (
        Threat(norm, Fraction(1)).unbounded().around(x, SampleRandom(0, torch.arange(8))),
        Ball(x, norm, math.inf),
    ):
        torch.testing.assert_close(ball.project(wild), wild.clamp(0, 1))


@pytest.mark.parametrize("norm", [Norm.linf, Norm.l2, Norm.l1])
def test_large_inputs_stay_within_the_tolerance(norm: Norm) -> None:
    """Rounding to single precision adds up over features; the audit must not throw out what `project` made."""
    size = 3 * 224 * 224
    x = torch.tensor([0.06, 0.45, 0.72, 0.98])[:, None].repeat(1, size)  # flat images: all features round alike
    rng = SampleRandom(0, torch.arange(4))
    for eps in {Norm.linf: (8 / 255,), Norm.l2: (0.5, 3.0), Norm.l1: (1.0, 60.0)}[norm]:
        ball = Ball(x, norm, eps)
        audit = ball.audit(ball.project(x + rng.signs(size, stream="s")))
        assert bool(audit.inside.all()), audit.excess
        assert audit.distance[1:3].tolist() == pytest.approx([eps] * 2, rel=1e-2)
        audit = ball.audit(ball.random(rng, stream="t"))
        assert bool(audit.inside.all()), audit.excess


@pytest.mark.parametrize("norm", list(Norm))
def test_the_audit_sees_every_way_out(norm: Norm) -> None:
    x = torch.full((6, 10), 0.5)
    eps = 2.0 if norm is Norm.l0 else 0.1
    mask = torch.ones(1, 10, dtype=torch.bool)
    mask[0, 0] = False
    ball = Ball(x, norm, eps, mask)
    bad = x.clone()
    bad[1] += 0.2  # too far
    bad[2, 0] += 0.01  # outside the region
    bad[3, 1] = 1.01  # outside the box
    bad[4, 1] = torch.nan
    bad[5, 1] = 0.55 if norm is not Norm.l0 else 0.9
    audit = ball.audit(bad)
    assert audit.inside.tolist() == [True, False, False, False, False, True]
    assert audit.outside_region.tolist() == [False, True, True, False, False, False]
    assert audit.outside_box.tolist() == [False, False, False, True, False, False]
    assert audit.non_finite.tolist() == [False, False, False, False, True, False]
    length = {Norm.linf: 0.2, Norm.l2: 0.2 * math.sqrt(10), Norm.l1: 2.0, Norm.l0: 10.0}[norm]
    assert float(audit.distance[1]) == pytest.approx(length, rel=1e-6)
    assert float(audit.excess[1]) == pytest.approx(length - eps, rel=1e-6)
    assert tolerance(Norm.l0, 3.0) == 0.0


@pytest.mark.parametrize("norm", [Norm.linf, Norm.l2, Norm.l1])
def test_the_steepest_step_gains_the_dual_norm(norm: Norm) -> None:
    gradient = _draw(8, 5, 12) - 0.5
    step = Ball(torch.full((5, 12), 0.5), norm, 1.0).steepest(gradient)
    gained = (step * gradient).sum(1)
    dual = {
        Norm.linf: gradient.abs().sum(1),
        Norm.l2: gradient.norm(dim=1),
        Norm.l1: gradient.abs().amax(1),
    }[norm]
    torch.testing.assert_close(gained, dual)
    assert distance(step, torch.zeros_like(step), norm).tolist() == pytest.approx([1.0] * 5, abs=1e-6)


@pytest.mark.parametrize("norm", list(Norm))
def test_the_steepest_step_is_finite_whatever_the_gradient(norm: Norm) -> None:
    gradient = torch.tensor(
        [[0.0, 0.0, 0.0], [torch.nan, 1.0, 1.0], [torch.inf, 1.0, 1.0], [1e-30, -1e-38, 0.0], [3e38] * 3]
    )
    mask = torch.tensor([[True, True, False]])
    for ball in (Ball(torch.full((5, 3), 0.5), norm, 1.0), Ball(torch.full((5, 3), 0.5), norm, 1.0, mask)):
        step = ball.steepest(gradient)
        assert bool(torch.isfinite(step).all())
        assert step[0].tolist() == [0.0] * 3
        assert bool((step[3:, 0] > 0).all())
        assert ball.mask is None or step[:, 2].tolist() == [0.0] * 5


def test_ties_of_the_steepest_l1_step_share_it() -> None:
    step = Ball(torch.zeros(1, 4), Norm.l1, 1.0).steepest(torch.tensor([[2.0, -2.0, 1.0, 0.0]]))
    assert step.tolist() == [[0.5, -0.5, 0.0, 0.0]]


def test_random_points_are_uniform_in_the_ball() -> None:
    count, size = 4000, 5
    x = torch.full((count, size), 0.5)
    rng = SampleRandom(1, torch.arange(count))
    for norm, eps in ((Norm.l2, 0.4), (Norm.l1, 0.4), (Norm.linf, 0.4)):
        far = distance(Ball(x, norm, eps).random(rng, stream="u"), x, norm) / eps
        # the share of the volume within a radius r is r^d, so r^d is uniform on (0, 1)
        level = (far**size).sort().values
        gap = (level - (torch.arange(count) + 0.5) / count).abs().max()
        assert float(gap) < 1.63 / math.sqrt(count)  # Kolmogorov-Smirnov, 1 %
    changed = (Ball(x, Norm.l0, 2.0).random(rng, stream="u") != x).sum(1)
    assert changed.tolist() == [2] * count


@pytest.mark.parametrize("norm", list(Norm))
def test_random_points_depend_on_the_example_alone(norm: Norm) -> None:
    x, _ = _batch(2)
    rng = SampleRandom(4, torch.arange(8) * 5)
    ball = Ball(x, norm, 2.0 if norm is Norm.l0 else 0.3)
    whole = ball.random(rng, stream="u")
    few = torch.tensor([6, 2])
    assert torch.equal(ball.rows(few).random(rng.rows(few), stream="u"), whole[few])
    assert not torch.equal(ball.random(rng, stream="u", draw=1), whole)
    assert not torch.equal(ball.random(rng, stream="v"), whole)


def test_regions() -> None:
    x, rng = torch.zeros(3, 2, 6, 6), SampleRandom(0, torch.arange(3))

    def mask(kind: RegionKind, size: int = 0, path: str = "") -> Tensor:
        found = Threat(Norm.l2, Fraction(1), region=Region(kind, size, path)).around(x, rng).mask
        assert found is not None
        return found.expand(3, 2, 6, 6)

    assert Threat().around(x, rng).mask is None
    assert mask(RegionKind.square, 2)[0, 1].nonzero().tolist() == [[2, 2], [2, 3], [3, 2], [3, 3]]
    assert int(mask(RegionKind.border, 1)[0, 0].sum()) == 20
    assert bool(mask(RegionKind.border, 3).all())
    drawn = mask(RegionKind.random, 5)
    assert drawn.sum((2, 3)).tolist() == [[5, 5]] * 3
    assert torch.equal(drawn[:, 0], drawn[:, 1])
    assert not torch.equal(drawn[0], drawn[1])
    with pytest.raises(DataError, match="a square region needs images"):
        Threat(region=Region(RegionKind.square, 2)).around(torch.zeros(3, 6), rng)


def test_a_mask_file_is_read_and_checked(tmp_path: Path) -> None:
    x, rng = torch.zeros(2, 3, 4, 4), SampleRandom(0, torch.arange(2))
    np.save(tmp_path / "mask.npy", np.eye(4))
    found = Threat(region=Region(RegionKind.file, path=str(tmp_path / "mask.npy"))).around(x, rng).mask
    assert found is not None
    assert found.shape == (1, 3, 4, 4)
    assert int(found.sum()) == 12
    np.save(tmp_path / "wrong.npy", np.eye(5))
    with pytest.raises(DataError, match=r"has the shape \(5, 5\); expected that of an example, \(3, 4, 4\)"):
        Threat(region=Region(RegionKind.file, path=str(tmp_path / "wrong.npy"))).around(x, rng)
    with pytest.raises(DataError, match="cannot be read"):
        Threat(region=Region(RegionKind.file, path=str(tmp_path / "none.npy"))).around(x, rng)
