"""The curves of the board: steps, and where half of the examples hold, against brute force."""

import itertools

import numpy as np
import pytest
from benchmark_leaderboard.ranking.curves import half_held, step_points
from hypothesis import given
from hypothesis import strategies as st

DISTANCES = st.lists(st.sampled_from([0.0, 0.01, 0.02, 0.05, 0.05, 0.2, np.inf]), min_size=1, max_size=30)


@given(DISTANCES, st.sampled_from([0.02, 0.05, 0.1, 1.0]))
def test_the_steps_are_the_shares_above_each_distance(distances: list[float], eps0: float) -> None:
    found = step_points(np.sort(distances), eps0)
    radii = [0.0, *sorted({d for d in distances if 0 < d <= eps0})]
    assert [eps for eps, _ in found] == radii
    for eps, share in found:
        assert share == pytest.approx(sum(d > eps for d in distances) / len(distances))


def test_a_long_curve_keeps_points_of_the_curve_spread_by_rank() -> None:
    distances = np.sort(np.random.default_rng(0).gamma(4.0, 0.02, 5000))
    found = step_points(distances, 0.1, limit=50)
    assert len(found) == 50
    assert found[-1][0] == distances[distances <= 0.1].max()
    for eps, share in found:
        assert share == (distances > eps).mean()
    assert max(a - b for (_, a), (_, b) in itertools.pairwise(found)) < 1.5 / 49


@given(DISTANCES)
def test_half_hold_up_to_the_smallest_radius_at_which_fewer_do(distances: list[float]) -> None:
    fewer = [
        r for r in sorted({0.0, *distances}) if np.isfinite(r) and 2 * sum(d > r for d in distances) < len(distances)
    ]
    assert half_held(np.sort(distances)) == (fewer[0] if fewer else None)
