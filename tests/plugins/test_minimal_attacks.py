"""Smallest-perturbation attacks on white boxes, against the exact distances of linear models and closed forms."""

from __future__ import annotations

import pytest
import torch
from benchmark_plugins.attacks._losses import AttackLoss
from benchmark_plugins.attacks._minimal import annealed, within
from benchmark_plugins.attacks.ddn import DDN
from benchmark_plugins.attacks.fmn import FMN
from torch import Tensor, nn

from benchmark.api import Attack
from benchmark.ball import Ball
from benchmark.errors import ConfigError
from benchmark.testing.linear import half_space_distance, nearest_class_mean
from benchmark.testing.toys import Scaled, Sphere
from benchmark.threat import Goal, Norm, Region, RegionKind
from tests.plugins.black_box import CORRECT, DIGITS, Result, attack

FEW = CORRECT[::20]

# The attack, the norm, the greatest median and the greatest mean of the ratio to the exact distance.
ORACLE: tuple[tuple[Attack, Norm, float, float], ...] = (
    (DDN(), Norm.l2, 1.05, 1.08),
    *((FMN(), norm, 1.001, 1.02) for norm in Norm),
)
METHODS = tuple(dict.fromkeys((method, norm) for method, norm, _, _ in ORACLE))
TARGETED = tuple((method, norm) for method, norm in METHODS if method.supports.targeted)


@pytest.mark.parametrize(("method", "norm", "median", "mean"), ORACLE, ids=str)
def test_distances_are_nearly_the_exact_ones(method: Attack, norm: Norm, median: float, mean: float) -> None:
    result = attack(method, norm)
    assert bool(result.broken.all())
    assert float(result.ratio.min()) >= 1 - 1e-4
    assert float(result.ratio.median()) <= median
    assert float(result.ratio.mean()) <= mean


@pytest.mark.parametrize(("method", "norm"), METHODS, ids=str)
def test_two_and_three_classes(method: Attack, norm: Norm) -> None:
    for name in ("iris", "breast_cancer"):
        problem = nearest_class_mean(name)
        rows = (problem.logits(problem.x).argmax(1) == problem.y).nonzero().squeeze(1)[::6]
        result = attack(
            method, norm, rows=rows, model=problem.model(), x=problem.x, y=problem.y, classes=len(problem.weight)
        )
        assert bool(result.broken.all())
        ratio = result.far / problem.distance(norm)[rows]
        assert float(ratio.min()) >= 1 - 1e-4
        assert float(ratio.median()) <= 1.06


def least_targeted_distance(norm: Norm, rows: Tensor) -> Tensor:
    """(N,) float64: what the label of `rows` after the next costs at least: the dearest of nine half-spaces."""
    x, wanted = DIGITS.x[rows], (DIGITS.y[rows] + 1) % 10
    logits = DIGITS.logits(x)
    own = logits.gather(1, wanted[:, None]).squeeze(1)
    sizes = [
        half_space_distance(DIGITS.weight[wanted] - DIGITS.weight[k], logits[:, k] - own, x, norm) for k in range(10)
    ]
    return torch.stack(sizes).amax(0)


@pytest.mark.parametrize(("method", "norm"), TARGETED, ids=str)
def test_targeted_attacks_reach_the_label_at_a_small_distance(method: Attack, norm: Norm) -> None:
    rows = CORRECT[::6]
    result = attack(method, norm, rows=rows, goal=Goal.next_class)
    assert bool(result.broken.all())
    ratio = result.far / least_targeted_distance(norm, rows)
    assert float(ratio.min()) >= 1 - 1e-4
    assert float(ratio.median()) <= 1.03


@pytest.mark.parametrize(("method", "norm"), METHODS, ids=str)
def test_regions_are_kept_and_used(method: Attack, norm: Norm) -> None:
    x = DIGITS.x.reshape(-1, 1, 8, 8)
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, 2:6, 2:6] = True
    rows = CORRECT[::4]
    exact = DIGITS.distance(norm, mask.flatten())[rows]
    rows, exact = rows[torch.isfinite(exact)], exact[torch.isfinite(exact)]
    result = attack(method, norm, rows=rows, x=x, region=Region(RegionKind.square, 4))
    assert bool((result.x_adv == result.x)[:, ~mask].all())
    assert float(result.broken.double().mean()) >= 0.95
    ratio = (result.far / exact)[result.broken]
    assert float(ratio.min()) >= 1 - 1e-4
    assert float(ratio.median()) <= 1.02


@pytest.mark.parametrize(("method", "norm"), METHODS, ids=str)
def test_what_is_wrong_already_stays_and_costs_one_pass(method: Attack, norm: Norm) -> None:
    wrong = (DIGITS.logits(DIGITS.x).argmax(1) != DIGITS.y).nonzero().squeeze(1)[:6]
    result = attack(method, norm, rows=wrong)
    assert torch.equal(result.x_adv, result.x)
    assert result.forwards.tolist() == [1] * 6


@pytest.mark.parametrize(("method", "norm"), METHODS, ids=str)
@pytest.mark.parametrize("queries", [1, 2, 30])
def test_the_query_budget_is_kept_and_used(method: Attack, norm: Norm, queries: int) -> None:
    result = attack(method, norm, rows=FEW, queries=queries)
    assert bool((result.forwards <= queries).all())
    assert float(result.forwards.double().mean()) >= 0.8 * min(queries, 20)


@pytest.mark.parametrize(("method", "norm"), METHODS, ids=str)
def test_a_batch_of_one_is_a_batch_of_many(method: Attack, norm: Norm) -> None:
    whole, odd = attack(method, norm, rows=FEW[:8], queries=60), attack(method, norm, rows=FEW[:8], queries=60, batch=3)
    assert torch.equal(whole.x_adv, odd.x_adv)
    assert torch.equal(whole.forwards, odd.forwards)


@pytest.mark.parametrize(("method", "norm"), METHODS, ids=str)
def test_saturated_scores_hide_nothing(method: Attack, norm: Norm) -> None:
    """At 1000 times the logits, less 50: a softmax has no gradient left in single precision."""
    result = attack(method, norm, rows=FEW, model=Scaled(DIGITS.model(), scale=1000.0, shift=-50.0))
    assert bool(result.broken.all())
    assert float(result.ratio.median()) <= 1.1


L2 = tuple(method for method, norm in METHODS if norm is Norm.l2)


@pytest.mark.parametrize("method", L2, ids=str)
def test_l2_attacks_leave_a_sphere_along_the_radius(method: Attack) -> None:
    centre = torch.full((16,), 0.5)
    direction = nn.functional.normalize(torch.randn(9, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    depth = torch.linspace(0.02, 0.25, 9)
    x = centre + (0.3 - depth)[:, None] * direction
    y = torch.zeros(9, dtype=torch.int64)
    result = attack(method, Norm.l2, rows=torch.arange(9), model=Sphere(centre, 0.3), x=x, y=y, classes=2)
    assert bool(result.broken.all())
    torch.testing.assert_close(result.far.float(), depth, rtol=1e-2, atol=0)


# --- what they share ---


def test_projections_with_a_radius_per_row() -> None:
    draw = torch.Generator().manual_seed(1)
    delta = torch.randn(40, 1, 3, 4, generator=draw)
    radius = torch.rand(40, generator=draw) * 3.0
    radius[:5] = torch.inf
    radius[5] = 0.0
    for norm in (Norm.linf, Norm.l2, Norm.l1):
        inside = within(delta, radius, norm)
        assert torch.equal(inside[:5], delta[:5])
        for row in range(5, 40):
            # From the middle of a box that is never reached, the core's projection is that onto the ball alone.
            ball = Ball(torch.full((1, 1, 3, 4), 0.5), norm, float(radius[row]) / 100.0)
            exact = (ball.project(0.5 + delta[row : row + 1] / 100.0) - 0.5) * 100.0
            torch.testing.assert_close(inside[row : row + 1], exact, rtol=0, atol=2e-4)
    kept = within(delta, radius.round(), Norm.l0)
    assert (kept != 0).flatten(1).sum(1).tolist() == [12 if row < 5 else int(radius[row].round()) for row in range(40)]
    ties = within(torch.tensor([[1.0, -1.0, 1.0, 0.0]]), torch.tensor([2.0]), Norm.l0)
    assert ties.tolist() == [[1.0, -1.0, 0.0, 0.0]]


def test_annealing_runs_from_first_to_last() -> None:
    values = [annealed(1.0, 0.2, step, 11) for step in range(11)]
    assert values[0] == 1.0
    assert values[5] == pytest.approx(0.6)
    assert values[10] == pytest.approx(0.2)
    assert annealed(1.0, 0.2, 0, 1) == 1.0


# --- one by one ---


def test_ddn_with_the_papers_loss_is_near_on_two_classes_and_further_on_ten() -> None:
    two = nearest_class_mean("breast_cancer")
    rows = torch.arange(0, len(two.x), 5)
    rows = rows[two.logits(two.x[rows]).argmax(1) == two.y[rows]]
    result = attack(DDN(loss=AttackLoss.ce), Norm.l2, rows=rows, model=two.model(), x=two.x, y=two.y, classes=2)
    assert float((result.far / two.distance(Norm.l2)[rows]).median()) <= 1.001
    ten: Result = attack(DDN(loss=AttackLoss.ce), Norm.l2)
    assert bool(ten.broken.all())
    assert 1.02 < float(ten.ratio.median()) <= 1.07


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: DDN(gamma=1.5), r"attack.gamma is 1.5; expected a share between 0 and 1"),
        (lambda: DDN(steps=0), r"attack.steps is 0; expected at least 1"),
        (lambda: FMN(gamma=0.01, last_gamma=0.1), r"attack.gamma is 0.01 and attack.last_gamma 0.1"),
        (lambda: FMN(candidates=0), r"attack.candidates is 0; expected at least 1"),
    ],
)
def test_settings_are_refused_with_a_sentence(make: type, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()
