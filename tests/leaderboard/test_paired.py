"""Paired tests with several seeds: their level, their power, and that the order is never against them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from benchmark_leaderboard.ranking.paired import paired_tests
from benchmark_leaderboard.ranking.statistics import LEVEL, holm, mcnemar, separable_ranks, wins
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]


def recipe(rng: np.random.Generator, hardness: Floats, runs: int, skill: float, seeds: float) -> NDArray[np.bool_]:
    """(runs, N) the examples that each run holds: a skill, another one per seed, and luck per example."""
    shift = skill + seeds * rng.standard_normal((runs, 1))
    return shift + rng.standard_normal((runs, len(hardness))) > hardness


def p_value(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    held = np.stack([one.mean(axis=0), other.mean(axis=0)])
    counts = [run.sum(axis=1).astype(float).tolist() for run in (one, other)]
    return float(paired_tests(held, counts)[1][0, 1])


def rejected(runs: tuple[int, int], lead: float, seeds: float, trials: int = 600) -> float:
    """Share of trials in which two recipes that differ by `lead` are told apart."""
    rng = np.random.default_rng(17)
    found = 0
    for _ in range(trials):
        hardness = rng.standard_normal(150)
        found += (
            p_value(recipe(rng, hardness, runs[0], lead, seeds), recipe(rng, hardness, runs[1], 0.0, seeds)) <= LEVEL
        )
    return found / trials


@pytest.mark.parametrize("seeds", [0.0, 0.1, 0.3], ids="seeds {}".format)
@pytest.mark.parametrize("runs", [(2, 2), (3, 3), (5, 5), (3, 5), (1, 3), (5, 1)], ids=str)
def test_the_level_is_held_whatever_the_seeds_do(runs: tuple[int, int], seeds: float) -> None:
    assert rejected(runs, 0.0, seeds) <= LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / 600)


def test_a_difference_beyond_that_of_the_seeds_is_found() -> None:
    assert rejected((3, 3), 0.6, 0.05, 200) > 0.9
    assert rejected((5, 5), 0.6, 0.1, 200) > 0.9


def test_seeds_that_differ_more_than_the_recipes_are_no_difference() -> None:
    """The sign test of the shares separates such recipes, which another seed would have ordered the other way."""
    rng = np.random.default_rng(3)
    hardness = rng.standard_normal(400)
    one, other = recipe(rng, hardness, 3, 0.0, 0.5), recipe(rng, hardness, 3, 0.0, 0.5)
    one[0], other[0] = True, False
    held = np.stack([one.mean(axis=0), other.mean(axis=0)])
    won = wins(held)
    assert float(mcnemar(won[0, 1], won[1, 0])) < 1e-6
    assert p_value(one, other) > LEVEL


def test_single_runs_keep_the_exact_test() -> None:
    rng = np.random.default_rng(1)
    held = (rng.random((6, 40)) < 0.7).astype(float)
    won = wins(held)
    np.testing.assert_array_equal(paired_tests(held, [[row.sum()] for row in held])[1], mcnemar(won, won.T))


def test_the_test_by_hand() -> None:
    """Thirty examples, two runs each: 27 and 24 held against 12 and 9."""
    one, other = np.zeros((2, 30), bool), np.zeros((2, 30), bool)
    for of, counts in ((one, (27, 24)), (other, (12, 9))):
        for run, count in zip(of, counts, strict=True):
            run[:count] = True
    apart = one.mean(axis=0) - other.mean(axis=0)
    parts = [(30 * apart.var(ddof=1), 29), (2.25, 1), (2.25, 1)]
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / of for part, of in parts)
    assert apart.sum() == 15.0
    assert p_value(one, other) == pytest.approx(2 * stats.t.sf(15.0 / math.sqrt(variance), freedom))


def test_few_differing_examples_are_never_much_evidence() -> None:
    one, other = np.ones((3, 1000), bool), np.ones((3, 1000), bool)
    other[:, :4] = False
    assert p_value(one, other) == 2.0**-3
    assert p_value(one, one) == 1.0


def test_the_order_is_never_against_a_test() -> None:
    rng = np.random.default_rng(29)
    for _ in range(60):
        hardness = rng.standard_normal(80)
        rows: list[Any] = [recipe(rng, hardness, int(rng.integers(1, 5)), rng.normal(), 0.3) for _ in range(6)]
        held = np.stack([row.mean(axis=0) for row in rows])
        counts = [row.sum(axis=1).astype(float).tolist() for row in rows]
        _, p = paired_tests(held, counts)
        np.testing.assert_array_equal(p, p.T)
        upper = np.triu_indices(6, 1)
        apart = np.zeros((6, 6), bool)
        apart[upper] = holm(p[upper]) <= LEVEL
        value = held.sum(axis=1)
        ranks = separable_ranks(apart | apart.T, value)
        for i, j in zip(*np.nonzero(apart), strict=True):
            better, worse = (i, j) if value[i] > value[j] else (j, i)
            assert value[i] != value[j]
            assert ranks[better][0] < ranks[worse][1]
