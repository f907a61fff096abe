"""The exact distances of linear classifiers: against published values, linear programs, SLSQP and brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

from benchmark.errors import DataError
from benchmark.oracles.linear import exact_distance, half_space_distance, nearest_class_mean
from benchmark.threat import Norm


@pytest.mark.parametrize(
    ("name", "examples", "accuracy"),
    [("digits", 500, 0.870), ("iris", 75, 0.9600), ("wine", 89, 0.9438), ("breast_cancer", 284, 0.9366)],
)
def test_the_problems_have_their_known_accuracy(name: str, examples: int, accuracy: float) -> None:
    problem = nearest_class_mean(name)
    assert len(problem.x) == examples
    assert problem.robust_accuracy(Norm.linf, 0.0) == pytest.approx(accuracy, abs=5e-5)
    logits = problem.model()(problem.x.float())
    assert float((logits.argmax(1) == problem.y).double().mean()) == pytest.approx(accuracy, abs=5e-5)
    assert 0.0 <= float(problem.x.min()) < float(problem.x.max()) <= 1.0


def test_an_unknown_problem_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"no linear problem 'mnist'; choose one of digits, iris"):
        nearest_class_mean("mnist")


@pytest.mark.parametrize(
    ("norm", "median", "robust"),
    [
        (Norm.linf, 0.141750, {0.02: 0.832, 0.05: 0.766, 0.1: 0.622, 0.15: 0.398, 0.2: 0.126}),
        (Norm.l2, 0.669132, {0.25: 0.762, 0.5: 0.590, 0.75: 0.356, 1: 0.120}),
        (Norm.l1, 1.751714, {0.5: 0.776, 1: 0.670, 1.5: 0.530, 2: 0.358, 3: 0.092}),
        (Norm.l0, 2.0, {0: 0.870, 1: 0.682, 2: 0.400, 3: 0.112, 4: 0.010}),
    ],
)
def test_digits_have_their_known_robust_accuracy(norm: Norm, median: float, robust: dict[float, float]) -> None:
    problem = nearest_class_mean("digits")
    distance = problem.distance(norm)
    assert float(distance[distance > 0].median()) == pytest.approx(median, abs=1e-6)
    assert {eps: problem.robust_accuracy(norm, eps) for eps in robust} == pytest.approx(robust, abs=1e-9)


def _by_program(slope: np.ndarray, margin: float, x: np.ndarray, norm: Norm) -> float:
    """The least change by a linear program (linf, l1) or SLSQP (l2)."""
    size = len(x)
    box = [(-v, 1.0 - v) for v in x]
    if norm is Norm.l2:
        start = np.where(slope > 0, 1.0 - x, -x)  # feasible whenever anything is
        found = minimize(
            lambda d: float(d @ d),
            start,
            jac=lambda d: 2.0 * d,
            bounds=box,
            constraints={"type": "ineq", "fun": lambda d: slope @ d - margin, "jac": lambda d: slope},
            method="SLSQP",
            options={"ftol": 1e-15, "maxiter": 500},
        )
        assert found.success
        return float(np.sqrt(found.fun))
    eye = np.eye(size)
    if norm is Norm.linf:  # minimise e with |d_i| <= e
        cost = np.r_[np.zeros(size), 1.0]
        ones = np.ones((size, 1))
        rows = np.block([[eye, -ones], [-eye, -ones], [-slope[None], np.zeros((1, 1))]])
        limits = np.r_[np.zeros(2 * size), -margin]
        bounds = [*box, (0.0, None)]
    else:  # minimise sum e_i with |d_i| <= e_i
        cost = np.r_[np.zeros(size), np.ones(size)]
        rows = np.block([[eye, -eye], [-eye, -eye], [-slope[None], np.zeros((1, size))]])
        limits = np.r_[np.zeros(2 * size), -margin]
        bounds = [*box, *([(0.0, None)] * size)]
    found = linprog(cost, A_ub=rows, b_ub=limits, bounds=bounds, method="highs")
    return float(found.fun) if found.status == 0 else float("inf")


@pytest.mark.filterwarnings("ignore:Values in x were outside bounds:RuntimeWarning")  # the solver's, before SciPy 1.16
@pytest.mark.parametrize("norm", [Norm.linf, Norm.l2, Norm.l1])
def test_distances_agree_with_a_solver(norm: Norm) -> None:
    draw = np.random.default_rng(5)
    slope = draw.normal(size=(40, 6)) * (draw.random((40, 6)) > 0.2)
    x = draw.random((40, 6)).round(1)  # some on the ends of the box
    most = np.where(slope > 0, slope * (1 - x), -slope * x).sum(1)
    margin = most * draw.uniform(0.05, 0.95, 40)
    ours = half_space_distance(torch.from_numpy(slope), torch.from_numpy(margin), torch.from_numpy(x), norm)
    theirs = [_by_program(s, m, v, norm) for s, m, v in zip(slope, margin, x, strict=True)]
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-6 if norm is Norm.l2 else 1e-9)


def test_l0_distances_agree_with_all_subsets_on_iris() -> None:
    problem = nearest_class_mean("iris")
    distance = problem.distance(Norm.l0)
    for x, y, found in zip(problem.x, problem.y, distance, strict=True):
        best = np.inf
        for count in range(5):
            for chosen in itertools.combinations(range(4), count):
                corners = itertools.product((0.0, 1.0), repeat=count)
                trials = x.repeat(2**count, 1)
                if count:
                    trials[:, list(chosen)] = torch.tensor(list(corners), dtype=torch.float64)
                logits = problem.logits(trials)
                if bool((logits.max(1).values > logits[:, y]).any()):
                    best = min(best, count)
        assert float(found) == best


@pytest.mark.parametrize("norm", list(Norm))
def test_a_mask_is_a_slope_of_zero_outside_it(norm: Norm) -> None:
    problem = nearest_class_mean("wine")
    mask = torch.arange(13) % 3 == 0
    masked = problem.distance(norm, mask)
    assert bool((masked >= problem.distance(norm) - 1e-12).all())
    frozen = problem.x[:, ~mask]
    smaller = exact_distance(  # the frozen features become a bias of each row
        problem.weight[:, mask], torch.zeros(3), problem.x[:, mask], problem.y, norm
    )
    assert smaller.shape == masked.shape
    for row in range(0, len(problem.x), 17):
        bias = problem.bias + problem.weight[:, ~mask] @ frozen[row]
        alone = exact_distance(
            problem.weight[:, mask], bias, problem.x[row : row + 1, mask], problem.y[row : row + 1], norm
        )
        assert float(alone) == pytest.approx(float(masked[row]), abs=1e-12)


@pytest.mark.parametrize("norm", list(Norm))
def test_a_margin_out_of_reach_is_infinitely_far_and_a_lost_one_is_at_hand(norm: Norm) -> None:
    slope, x = torch.tensor([[1.0, -2.0]] * 3).double(), torch.full((3, 2), 0.5).double()
    margin = torch.tensor([1.6, 1.5, -0.1]).double()  # the box yields 1.5 at most
    distance = half_space_distance(slope, margin, x, norm)
    whole = {Norm.linf: 0.5, Norm.l2: 0.5**0.5, Norm.l1: 1.0, Norm.l0: 2.0}[norm]
    assert distance.tolist() == pytest.approx([float("inf"), whole, 0.0])
