"""Size and power of the boards' tests, and coverage of their intervals near the ceiling, by simulation.

python -m benchmarks.statistics [--out FILE] [--trials N] draws recipes whose truth is known, and ends with 1 if a level
is not held within Monte Carlo error, an order contradicts a test, or an interval covers too seldom on average.

A recipe has a skill, another one per seed, and luck per example: a run is right where skill + seed + luck exceeds the
hardness of the example. Two recipes of equal skill are equal over seeds, whatever their runs are. Coverage of intervals
of shares is exact, a sum over the binomial distribution, averaged over shares; that of areas is simulated.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from benchmark_leaderboard.ranking.paired import paired_tests
from benchmark_leaderboard.ranking.statistics import (
    LEVEL,
    bounded_interval,
    clopper_pearson,
    holm,
    separable_ranks,
    wilson,
)
from numpy.typing import NDArray
from scipy import stats

from benchmarks.timing import table, write

Floats = NDArray[np.float64]
Line = tuple[object, ...]

HEAD = ("what", "under", "found", "expected", "held")
RUNS = ((1, 1), (2, 2), (3, 3), (1, 3), (5, 5))
ACCURACIES = (0.5, 0.9, 0.99)
SEED_SPREADS = (0.0, 0.1, 0.3)
"""Standard deviations of a seed's skill, in units of the luck per example."""
EXAMPLES = 200
ROWS = 8
LEADS = (0.1, 0.2, 0.4)
SHARES = (100, 1000, 10_000)
MEAN_COVERAGE = 0.94
"""Smallest accepted mean coverage of an interval of 95 %."""


def recipe(rng: np.random.Generator, hardness: Floats, runs: int, skill: float, spread: float) -> NDArray[np.bool_]:
    """Examples that each run of a recipe holds, (runs, N)."""
    shift = skill + spread * rng.standard_normal((runs, 1))
    return shift + rng.standard_normal((runs, len(hardness))) > hardness


def tested(rows: list[NDArray[np.bool_]]) -> tuple[Floats, Floats]:
    """Mean share of robust examples of each row, (R,), and p-values of the pairs, (R, R)."""
    held = np.stack([row.mean(axis=0) if len(row) > 1 else row[0] for row in rows])
    counts = [row.sum(axis=1).astype(float).tolist() for row in rows]
    return held.mean(axis=1), paired_tests(held, counts)[1]


def rejections(runs: tuple[int, int], accuracy: float, spread: float, lead: float, trials: int) -> float:
    """Share of trials in which two recipes that differ in skill by `lead` are separated."""
    rng = np.random.default_rng([*runs, round(1000 * accuracy), round(1000 * spread), round(1000 * lead)])
    skill = math.sqrt(2 + spread**2) * float(stats.norm.ppf(accuracy))
    found = 0
    for _ in range(trials):
        hardness = rng.standard_normal(EXAMPLES)
        rows = [recipe(rng, hardness, runs[at], skill + at * lead, spread) for at in (0, 1)]
        found += bool(tested(rows)[1][0, 1] <= LEVEL)
    return found / trials


def allowed(trials: int) -> float:
    """Largest share of rejections that a level of 5 % explains, with three standard errors of so many trials."""
    return float(LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / trials))


def size_lines(trials: int) -> Iterator[Line]:
    """Level of the test of two equal recipes. A single run against a single run is a test of these two systems."""
    for runs, accuracy, spread in itertools.product(RUNS, ACCURACIES, SEED_SPREADS):
        if spread == 0 or max(runs) > 1:
            share = rejections(runs, accuracy, spread, 0.0, trials)
            yield (
                "false separations", f"{runs[0]} and {runs[1]} runs, accuracy {accuracy}, seeds {spread}",
                f"{share:.3f}", f"<= {allowed(trials):.3f}", share <= allowed(trials),
            )  # fmt: skip


def power_lines(trials: int) -> Iterator[Line]:
    """Power, which has no target but must rise with the difference."""
    for runs, spread in itertools.product(((1, 1), (3, 3), (5, 5)), (0.0, 0.1)):
        if spread == 0 or max(runs) > 1:
            found = [rejections(runs, 0.7, spread, lead, trials) for lead in LEADS]
            under = f"{runs[0]} and {runs[1]} runs, skills apart by {', '.join(map(str, LEADS))}, seeds {spread}"
            yield (
                "separations", under,
                ", ".join(f"{share:.2f}" for share in found), "rising", found == sorted(found),
            )  # fmt: skip


def family_lines(trials: int) -> Iterator[Line]:
    """Boards of equal rows: false separations of any pair after Holm, and orders against a test.

    Single runs are not compared under a spread of seeds: their test is of these systems, and would separate them.
    """
    for runs, spread in (((1,), 0.0), ((1, 3), 0.0), ((3,), 0.1)):
        rng = np.random.default_rng([len(runs), round(10 * spread), 5])
        wrong, against = 0, 0
        upper = np.triu_indices(ROWS, 1)
        for lead in (0.0, 0.3):
            for _ in range(trials // 4):
                hardness = rng.standard_normal(EXAMPLES)
                rows = [recipe(rng, hardness, runs[at % len(runs)], lead * at, spread) for at in range(ROWS)]
                value, p = tested(rows)
                apart = np.zeros((ROWS, ROWS), dtype=bool)
                apart[upper] = holm(p[upper]) <= LEVEL
                apart |= apart.T
                wrong += bool(apart.any()) and lead == 0
                against += against_the_test(apart, value)
        share = wrong / (trials // 4)
        under = f"{ROWS} rows of {' or '.join(map(str, runs))} runs, seeds {spread}"
        yield (
            "any false separation",
            under,
            f"{share:.3f}",
            f"<= {allowed(trials // 4):.3f}",
            share <= allowed(trials // 4),
        )
        yield ("ranks against a test", under, str(against), "0", against == 0)


def against_the_test(apart: NDArray[np.bool_], value: Floats) -> int:
    """Number of separated pairs whose rank intervals or order contradict the test."""
    ranks = separable_ranks(apart, value)
    pairs = [(i, j) if value[i] > value[j] else (j, i) for i, j in zip(*np.nonzero(np.triu(apart)), strict=True)]
    return sum(value[better] <= value[worse] or ranks[better][0] >= ranks[worse][1] for better, worse in pairs)


def coverage(interval: Callable[[Floats, int], tuple[Floats, Floats]], total: int) -> tuple[float, float]:
    """Mean and smallest exact coverage over shares from 0.9 to one expected failure in ten samples."""
    counts = np.arange(total + 1)
    low, high = interval(counts.astype(float), total)
    shares = np.linspace(0.9, 1 - 0.1 / total, 400)
    inside = (low[None] <= shares[:, None] + 1e-12) & (shares[:, None] <= high[None] + 1e-12)
    found = (inside * stats.binom.pmf(counts[None], total, shares[:, None])).sum(axis=1)
    return float(found.mean()), float(found.min())


def intervals(of: Callable[[float, int], tuple[float, float]]) -> Callable[[Floats, int], tuple[Floats, Floats]]:
    """The interval of every count."""

    def every(counts: Floats, total: int) -> tuple[Floats, Floats]:
        low, high = zip(*(of(count, total) for count in counts), strict=True)
        return np.array(low), np.array(high)

    return every


def coverage_lines(trials: int) -> Iterator[Line]:
    """Intervals of shares, exactly, and of areas under curves, by simulation."""
    for name, of in (("Wilson", wilson), ("Clopper-Pearson", lambda c, n: clopper_pearson(int(c), n))):
        for total in SHARES:
            mean, least = coverage(intervals(of), total)
            under = f"{total} examples, shares from 0.9 to the ceiling"
            yield (
                f"coverage of {name}", under, f"{mean:.3f}, least {least:.3f}",
                f"mean >= {MEAN_COVERAGE}", mean >= MEAN_COVERAGE,
            )  # fmt: skip
    rng = np.random.default_rng(11)
    for total, robust in itertools.product((100, 1000), (0.9, 0.99, 0.999)):
        inside = 0
        truth = robust + (1 - robust) / 2
        for _ in range(trials):
            low, high = bounded_interval(np.where(rng.random(total) < robust, 1.0, rng.random(total)))
            inside += low <= truth <= high
        share = inside / trials
        yield (
            "coverage of an area", f"{total} examples, {robust} of them unbroken", f"{share:.3f}",
            f">= {MEAN_COVERAGE}", share >= MEAN_COVERAGE - 3 * math.sqrt(0.05 * 0.95 / trials),
        )  # fmt: skip


def lines(trials: int) -> list[Line]:
    """Every line of the table, the last column a bool."""
    return [*size_lines(trials), *power_lines(trials // 2), *family_lines(trials), *coverage_lines(trials)]


def main() -> int:
    """Simulate, write the table, and return 1 if an expectation is not held."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--trials", type=int, default=1000)
    options = parser.parse_args()
    found = lines(options.trials)
    shown = [(*line[:-1], "yes" if line[-1] else "NO") for line in found]
    write(
        options.out,
        f"# The statistics of a board\n\n{options.trials} trials a line (power half, boards a quarter of them), "
        f"{EXAMPLES} examples. Written by `python -m benchmarks.statistics`; seeded, and without a clock.\n\n"
        f"{table(HEAD, shown)}",
    )
    return 0 if all(line[-1] for line in found) else 1


if __name__ == "__main__":
    sys.exit(main())
