"""The statistics against scipy, statsmodels, brute force and properties."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from benchmark_leaderboard.ranking.statistics import (
    area_under_curve,
    bounded_interval,
    clopper_pearson,
    detectable_difference,
    dkw_half_width,
    examples_to_separate,
    holm,
    mcnemar,
    optimality,
    resampled_ranks,
    separable_ranks,
    spread,
    tie_groups,
    wilson,
    wins,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as theirs_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

COUNTS = st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
BITS = st.tuples(st.integers(1, 6), st.integers(1, 12)).flatmap(
    lambda shape: st.lists(
        st.lists(st.integers(0, 3), min_size=shape[1], max_size=shape[1]), min_size=shape[0], max_size=shape[0]
    )
)


@given(COUNTS)
def test_intervals_of_shares_are_those_of_scipy(pair: tuple[int, int]) -> None:
    k, n = pair
    test = stats.binomtest(k, n)
    for ours, method in ((wilson(k, n), "wilson"), (clopper_pearson(k, n), "exact")):
        theirs = test.proportion_ci(0.95, method=method)
        assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@given(COUNTS)
def test_intervals_of_shares_are_those_of_statsmodels(pair: tuple[int, int]) -> None:
    k, n = pair
    for ours, method in ((wilson(k, n), "wilson"), (clopper_pearson(k, n), "beta")):
        assert ours == pytest.approx(proportion_confint(k, n, 0.05, method=method), abs=1e-9)


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_that_of_statsmodels(b: int, c: int) -> None:
    expected = theirs_mcnemar([[10, b], [c, 10]], exact=True).pvalue if b + c else 1.0
    assert float(mcnemar(b, c)) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_holm_is_that_of_statsmodels(p: list[float]) -> None:
    assert holm(np.array(p)) == pytest.approx(multipletests(p, method="holm")[1], rel=1e-9)


def test_wilson_by_hand() -> None:
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)  # Newcombe, Stat. Med. 17 (1998), table I
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


@pytest.mark.parametrize(("successes", "total"), [(1, 0), (-1, 5), (6, 5), (math.nan, 5)])
def test_a_count_that_fits_no_total_is_refused(successes: float, total: int) -> None:
    with pytest.raises(ValueError, match=r"is not a proportion; expected 0 <= successes <= total"):
        wilson(successes, total)


def test_clopper_pearson_covers() -> None:
    for p in (0.02, 0.3, 0.71):
        k = np.arange(41)
        inside = [low <= p <= high for low, high in (clopper_pearson(int(i), 40) for i in k)]
        assert stats.binom.pmf(k, 40, p)[inside].sum() >= 0.95


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar_is_the_exact_binomial_test(b: int, c: int) -> None:
    expected = stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert float(mcnemar(b, c)) == pytest.approx(expected, rel=1e-9)


def _holm_by_definition(p: list[float]) -> list[float]:
    order = sorted(range(len(p)), key=lambda i: p[i])
    return [max(min(1.0, (len(p) - j) * p[order[j]]) for j in range(order.index(i) + 1)) for i in range(len(p))]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_its_definition_and_lies_between_nothing_and_bonferroni(p: list[float]) -> None:
    adjusted = holm(np.array(p))
    assert adjusted == pytest.approx(_holm_by_definition(p), rel=1e-12)
    assert (adjusted >= np.array(p)).all()
    assert (adjusted <= np.minimum(1, len(p) * np.array(p)) + 1e-12).all()


def test_holm_by_hand() -> None:
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert len(holm(np.array([]))) == 0


@given(BITS)
def test_wins_are_counted_one_by_one(rows: list[list[int]]) -> None:
    held = np.array(rows) / 3
    expected = [[sum(a > b for a, b in zip(one, two, strict=True)) for two in rows] for one in rows]
    assert wins(held).tolist() == expected


def _tie_groups_by_search(apart: NDArray[np.bool_]) -> list[tuple[int, int]]:
    n = len(apart)
    runs = [(i, j) for i in range(n) for j in range(i, n) if not apart[i : j + 1, i : j + 1].any()]
    return [r for r in runs if not any(o != r and o[0] <= r[0] and r[1] <= o[1] for o in runs)]


@given(st.integers(0, 8), st.integers(0, 2**28 - 1))
def test_tie_groups_are_the_maximal_runs_without_a_difference(n: int, bits: int) -> None:
    apart = np.zeros((n, n), dtype=bool)
    for at, (i, j) in enumerate(itertools.combinations(range(n), 2)):
        apart[i, j] = apart[j, i] = bool(bits >> at & 1)
    assert tie_groups(apart) == _tie_groups_by_search(apart)


def test_ranks_that_tests_leave() -> None:
    apart = np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]], dtype=bool)
    assert separable_ranks(apart, np.array([0.9, 0.8, 0.7])) == [(1, 2), (1, 3), (2, 3)]
    assert separable_ranks(np.zeros((3, 3), dtype=bool), np.array([0.9, 0.8, 0.7])) == [(1, 3)] * 3


def test_resampled_ranks_of_two_systems_follow_the_binomial_law() -> None:
    """With b and c disagreements the first is best where more of the drawn ones are its own: normal approximation."""
    held = np.zeros((2, 400))
    held[0, :55] = 1
    held[1, 55:100] = 1
    ranks = resampled_ranks(held, 4000, seed=3)
    gap, deviation = 10, math.sqrt(100 - 10**2 / 400)
    expected = stats.norm.cdf(gap / deviation)
    assert ranks.best[0] == pytest.approx(expected, abs=0.015)
    assert ranks.best.sum() == pytest.approx(1)
    assert ranks.low.tolist() == [1, 1]
    assert ranks.high.tolist() == [2, 2]


def test_resampled_ranks_leave_out_two_and_a_half_percent_on_either_side() -> None:
    """Of two systems, the worse one comes level or better in 3 to 4.5 % of the samples, by the exact law."""
    only_first, only_second, total = 13, 5, 60
    held = np.zeros((2, total))
    held[0, :only_first] = 1
    held[1, only_first : only_first + only_second] = 1
    share = (only_first / total, only_second / total, 1 - (only_first + only_second) / total)
    level = sum(
        stats.multinomial.pmf((b, c, total - b - c), total, share)
        for b in range(total + 1)
        for c in range(b, total + 1 - b)
    )
    assert 0.03 < level < 0.045
    ranks = resampled_ranks(held, 8000, seed=5)
    assert ranks.low.tolist() == [1, 1]  # 2 if five percent were left out
    assert ranks.high.tolist() == [2, 2]


@settings(max_examples=30)
@given(BITS, st.integers(0, 5))
def test_resampled_ranks_do_not_depend_on_the_order_of_rows(rows: list[list[int]], seed: int) -> None:
    held = np.array(rows) / 3
    once, back = resampled_ranks(held, 70, seed), resampled_ranks(held[::-1].copy(), 70, seed)
    assert once.low.tolist() == back.low[::-1].tolist()
    assert once.high.tolist() == back.high[::-1].tolist()
    assert once.best == pytest.approx(back.best[::-1])


def test_identical_rows_share_every_rank() -> None:
    rng = np.random.default_rng(0)
    row = rng.integers(0, 4, 997) / 3
    ranks = resampled_ranks(np.stack([row, row, np.zeros(997)]), 200, seed=1)
    assert ranks.best.tolist() == [0.5, 0.5, 0.0]
    assert ranks.low.tolist() == [1, 1, 3]
    assert ranks.high.tolist() == [2, 2, 3]


def test_resampling_draws_as_many_examples_as_there_are() -> None:
    """A row of ones always scores the number of examples, so it is never worse than any other."""
    held = np.stack([np.ones(50), np.r_[np.ones(49), 0]])
    ranks = resampled_ranks(held, 2000, seed=0)
    absent = (1 - 1 / 50) ** 50  # the chance that a sample misses the one example that tells them apart
    assert ranks.best[1] == pytest.approx(absent / 2, abs=0.02)


@pytest.mark.parametrize(("disagreement", "total"), [(0.2, 500), (0.05, 10_000), (0.3, 200)])
def test_detectable_difference_is_found_with_the_power_it_claims(disagreement: float, total: int) -> None:
    difference = detectable_difference(disagreement, total)
    rng = np.random.default_rng(1)
    p = ((disagreement + difference) / 2, (disagreement - difference) / 2, 1 - disagreement)
    drawn = rng.multinomial(total, p, size=4000)
    z = (drawn[:, 0] - drawn[:, 1]) / np.sqrt(np.maximum(1, drawn[:, 0] + drawn[:, 1]))
    assert (np.abs(z) > stats.norm.ppf(0.975)).mean() == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(("disagreement", "total"), [(0.2, 500), (0.9, 60), (1.0, 30)])
def test_detectable_difference_solves_connors_formula(disagreement: float, total: int) -> None:
    found = detectable_difference(disagreement, total)
    root = stats.norm.ppf(0.975) * math.sqrt(disagreement) + stats.norm.ppf(0.8) * math.sqrt(disagreement - found**2)
    assert (root / found) ** 2 == pytest.approx(total)


def test_examples_to_separate() -> None:
    assert examples_to_separate(10, 10, 500) is None
    assert examples_to_separate(40, 10, 500) == 0
    more = examples_to_separate(20, 10, 500)
    assert more is not None
    factor = (500 + more) / 500
    assert mcnemar(round(20 * factor), round(10 * factor)) <= 0.05
    assert mcnemar(round(20 * factor) - 2, round(10 * factor)) > 0.05


def test_dkw_band_covers_the_whole_curve() -> None:
    rng = np.random.default_rng(2)
    n, misses = 60, 0
    for _ in range(2000):
        drawn = np.sort(rng.random(n))
        gap = max((np.arange(1, n + 1) / n - drawn).max(), (drawn - np.arange(n) / n).max())
        misses += gap > dkw_half_width(n)
    assert 0.02 < misses / 2000 < 0.055


@given(st.lists(st.floats(0, 2) | st.just(math.inf), min_size=2, max_size=40), st.floats(0.01, 1.5))
def test_area_is_the_integral_of_the_step_curve(distances: list[float], eps0: float) -> None:
    d = np.array(distances)
    edges = np.unique(np.r_[0.0, d[d < eps0], eps0])
    expected = sum((d > left).mean() * (right - left) for left, right in itertools.pairwise(edges)) / eps0
    area, low, high = area_under_curve(d, eps0)
    assert area == pytest.approx(expected, abs=1e-9)
    assert 0 <= low <= area + 1e-12
    assert area - 1e-12 <= high <= 1


def test_an_attack_that_never_succeeds_leaves_the_whole_area() -> None:
    assert area_under_curve(np.full(10, np.inf), 0.3)[0] == 1.0


@pytest.mark.parametrize("share", [0.5, 0.9, 0.97, 0.99, 1.0])
@pytest.mark.parametrize("total", [20, 100, 400])
def test_the_interval_of_an_area_covers_near_the_ceiling(share: float, total: int) -> None:
    rng = np.random.default_rng(5)
    trials, covered = 2000, 0
    fallen = rng.random((trials, total))  # where an example falls, as a share of the largest radius
    held = rng.random((trials, total)) < share
    parts = np.where(held, 1.0, fallen)
    mean = share + (1 - share) / 2
    for row in parts:
        low, high = bounded_interval(row)
        assert 0.0 <= low <= row.mean() <= high <= 1.0
        covered += low <= mean <= high
    assert covered / trials >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / trials)


def test_an_area_without_any_loss_has_an_interval() -> None:
    low, high = bounded_interval(np.ones(50))
    assert high == 1.0
    assert 0.85 < low < 0.95
    assert bounded_interval(np.zeros(50)) == pytest.approx((0.0, 1.0 - low))


def test_optimality_by_the_formula() -> None:
    d = np.array([0.0, 0.1, 0.3, np.inf, 0.2])
    best = np.array([0.0, 0.1, 0.2, 0.4, 0.05])
    eps0 = 0.5
    star = np.minimum(best, eps0).mean()
    expected = 1 - (np.minimum(d, eps0).mean() - star) / (0.8 * eps0 - star)
    result = optimality(d, best, eps0)
    assert result is not None
    assert result[0] == pytest.approx(expected)
    assert result[1].mean() == pytest.approx(0)
    perfect, nothing = optimality(best, best, eps0), optimality(np.where(best > 0, np.inf, 0), best, eps0)
    assert perfect is not None
    assert nothing is not None
    assert (perfect[0], nothing[0]) == (1.0, 0.0)
    assert optimality(d, np.where(best > 0, np.inf, 0), eps0) is None


def test_the_influence_on_optimality_gives_the_error_of_the_bootstrap() -> None:
    rng = np.random.default_rng(5)
    best = rng.gamma(4, 0.05, 800)
    d = best * (1 + rng.exponential(0.3, 800))
    result = optimality(d, best, 0.5)
    assert result is not None
    drawn = []
    for _ in range(1500):
        at = rng.integers(0, 800, 800)
        again = optimality(d[at], best[at], 0.5)
        assert again is not None
        drawn.append(again[0])
    assert result[1].std(ddof=1) / math.sqrt(800) == pytest.approx(np.std(drawn), rel=0.08)


def test_spread() -> None:
    assert spread([0.5]) == (0.5, 0.5, 0.5, None)
    mean, low, high, deviation = spread([0.2, 0.4, 0.9])
    assert (mean, low, high) == (pytest.approx(0.5), 0.2, 0.9)
    assert deviation == pytest.approx(np.std([0.2, 0.4, 0.9], ddof=1))
