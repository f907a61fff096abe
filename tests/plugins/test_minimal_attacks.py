"""Smallest-perturbation attacks on white boxes, against the exact distances of linear models and closed forms."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from benchmark_plugins.attacks._base.projections import within
from benchmark_plugins.attacks._base.vectors import adam, annealed
from benchmark_plugins.attacks._minimal.weights import least
from benchmark_plugins.attacks.alma import ALMA, pull
from benchmark_plugins.attacks.carlini_wagner import CarliniWagner, CarliniWagnerLoss, objective
from benchmark_plugins.attacks.ddn import DDN
from benchmark_plugins.attacks.deepfool import DeepFool
from benchmark_plugins.attacks.ead import AMPLE, EAD, ample
from benchmark_plugins.attacks.fab import FAB
from benchmark_plugins.attacks.fmn import FMN, largest
from benchmark_plugins.attacks.jsma import JSMA, Saliency, best_pair, slopes
from benchmark_plugins.attacks.lbfgs import LBFGS
from benchmark_plugins.attacks.pdpgd import PDPGD, nearer
from benchmark_plugins.attacks.sigma_zero import SigmaZero
from benchmark_plugins.attacks.superdeepfool import SuperDeepFool
from torch import Tensor, nn

from benchmark.api import Attack
from benchmark.data import DataSpec
from benchmark.errors import ConfigError
from benchmark.oracles.linear import half_space_distance, nearest_class_mean
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.system.target import Target
from benchmark.testing.toys import Scaled, Sphere
from benchmark.threat import Goal, Norm, Region, RegionKind, Threat
from benchmark.threat.ball import Ball
from tests.plugins.black_box import CORRECT, DIGITS, Result, attack

FEW = CORRECT[::40]

# Attack, norm, every which row, the greatest median and the greatest mean of the ratio to the exact distance. Where
# fewer steps than the default reach the bound, they are taken.
ORACLE: tuple[tuple[Attack, Norm, int, float, float], ...] = (
    (DDN(), Norm.l2, 1, 1.05, 1.08),
    *((FMN(), norm, 1, 1.001, 1.02) for norm in Norm),
    (CarliniWagner(), Norm.l2, 8, 1.001, 1.03),
    (SigmaZero(steps=300), Norm.l0, 2, 1.0, 1.03),
    *((PDPGD(), norm, 4, 1.03, 1.05) for norm in (Norm.l1, Norm.l2, Norm.linf)),
    (SuperDeepFool(), Norm.l2, 1, 1.001, 1.008),
    (ALMA(steps=300), Norm.l2, 1, 1.001, 1.002),
    (ALMA(steps=500), Norm.l1, 4, 1.005, 1.01),
    (EAD(steps=300), Norm.l1, 16, 1.08, 1.15),
    (LBFGS(steps=30), Norm.l2, 1, 1.001, 1.03),
)
# The same with fewer steps, for what is no matter of precision.
METHODS: tuple[tuple[Attack, Norm], ...] = (
    (DDN(), Norm.l2),
    *((FMN(), norm) for norm in Norm),
    (CarliniWagner(steps=120, searches=3, initial_c=0.3, step_size=0.05), Norm.l2),
    (CarliniWagner(steps=60, initial_c=0.03, step_size=0.05), Norm.linf),
    (CarliniWagner(steps=60, initial_c=1.0, step_size=0.05), Norm.l0),
    (SigmaZero(steps=120), Norm.l0),
    *((PDPGD(steps=120), norm) for norm in (Norm.l1, Norm.l2, Norm.linf)),
    (SuperDeepFool(), Norm.l2),
    *((ALMA(steps=200), norm) for norm in (Norm.l2, Norm.l1)),
    (EAD(steps=100, searches=3, initial_c=0.1), Norm.l1),
    (LBFGS(steps=15, searches=5, initial_c=0.3), Norm.l2),
    (JSMA(gamma=1.0), Norm.l0),
)
TARGETED = tuple((method, norm) for method, norm in METHODS if method.supports.targeted)


def name(value: object) -> str:
    """For the ids of tests."""
    return value.value if isinstance(value, Norm) else type(value).__name__ if isinstance(value, Attack) else str(value)


def loose(method: Attack, norm: Norm) -> bool:
    """True if the method as it is tried here is not a precise one."""
    return isinstance(method, (JSMA, CarliniWagner, EAD)) or norm is Norm.l0


@pytest.mark.parametrize(("method", "norm", "every", "median", "mean"), ORACLE, ids=name)
def test_distances_are_nearly_the_exact_ones(
    method: Attack, norm: Norm, every: int, median: float, mean: float
) -> None:
    result = attack(method, norm, rows=CORRECT[::every])
    assert bool(result.broken.all())
    assert float(result.ratio.min()) >= 1 - 1e-4
    assert float(result.ratio.median()) <= median
    assert float(result.ratio.mean()) <= mean


@pytest.mark.parametrize(("method", "norm"), METHODS, ids=name)
def test_two_and_three_classes(method: Attack, norm: Norm) -> None:
    problem = nearest_class_mean("iris" if norm in (Norm.l2, Norm.linf) else "breast_cancer")
    rows = (problem.logits(problem.x).argmax(1) == problem.y).nonzero().squeeze(1)[::9]
    result = attack(
        method, norm, rows=rows, model=problem.model(), x=problem.x, y=problem.y, classes=len(problem.weight)
    )
    assert float(result.broken.double().mean()) >= (0.4 if isinstance(method, JSMA) else 1.0)
    ratio = (result.far / problem.distance(norm)[rows])[result.broken]
    assert float(ratio.min()) >= 1 - 1e-4
    assert loose(method, norm) or float(ratio.median()) <= 1.08


def least_targeted_distance(norm: Norm, rows: Tensor) -> Tensor:
    """(N,) float64: what the label of `rows` after the next costs at least: the dearest of nine half-spaces."""
    x, wanted = DIGITS.x[rows], (DIGITS.y[rows] + 1) % 10
    logits = DIGITS.logits(x)
    own = logits.gather(1, wanted[:, None]).squeeze(1)
    sizes = [
        half_space_distance(DIGITS.weight[wanted] - DIGITS.weight[k], logits[:, k] - own, x, norm) for k in range(10)
    ]
    return torch.stack(sizes).amax(0)


@pytest.mark.parametrize(("method", "norm"), TARGETED, ids=name)
def test_targeted_attacks_reach_the_label_at_a_small_distance(method: Attack, norm: Norm) -> None:
    rows = CORRECT[::16]
    result = attack(method, norm, rows=rows, goal=Goal.next_class)
    assert float(result.broken.double().mean()) >= (0.8 if loose(method, norm) else 1.0)
    ratio = (result.far / least_targeted_distance(norm, rows))[result.broken]
    assert float(ratio.min()) >= 1 - 1e-4
    assert float(ratio.median()) <= (2.5 if loose(method, norm) else 1.08)


@pytest.mark.parametrize(("method", "norm"), METHODS, ids=name)
def test_regions_are_kept_and_used(method: Attack, norm: Norm) -> None:
    x = DIGITS.x.reshape(-1, 1, 8, 8)
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, 2:6, 2:6] = True
    rows = CORRECT[::12]
    exact = DIGITS.distance(norm, mask.flatten())[rows]
    rows, exact = rows[torch.isfinite(exact)], exact[torch.isfinite(exact)]
    result = attack(method, norm, rows=rows, x=x, region=Region(RegionKind.square, 4))
    assert bool((result.x_adv == result.x)[:, ~mask].all())
    assert float(result.broken.double().mean()) >= (0.5 if loose(method, norm) else 0.9)
    ratio = (result.far / exact)[result.broken]
    assert float(ratio.min()) >= 1 - 1e-4
    assert float(ratio.median()) <= (2.5 if loose(method, norm) else 1.08)


@pytest.mark.parametrize(("method", "norm"), METHODS, ids=name)
def test_what_is_wrong_already_stays_and_costs_one_pass(method: Attack, norm: Norm) -> None:
    wrong = (DIGITS.logits(DIGITS.x).argmax(1) != DIGITS.y).nonzero().squeeze(1)[:6]
    result = attack(method, norm, rows=wrong)
    assert torch.equal(result.x_adv, result.x)
    assert result.forwards.tolist() == [1] * 6


@pytest.mark.parametrize(("method", "norm"), METHODS, ids=name)
def test_the_query_budget_is_kept_and_used(method: Attack, norm: Norm) -> None:
    for queries in (1, 2, 30):
        result = attack(method, norm, rows=FEW, queries=queries)
        assert bool((result.forwards <= queries).all())
        few = isinstance(method, (JSMA, SuperDeepFool))
        assert float(result.forwards.double().mean()) >= 0.8 * min(queries, 2 if few else 20)


@pytest.mark.parametrize(("method", "norm"), METHODS, ids=name)
def test_saturated_scores_hide_nothing(method: Attack, norm: Norm) -> None:
    """At 1000 times the logits, less 50: a softmax has no gradient left in single precision."""
    if isinstance(method, JSMA):
        method = JSMA(gamma=1.0, saliency=Saliency.logits)  # the paper's map is one of probabilities
    result = attack(method, norm, rows=FEW, model=Scaled(DIGITS.model(), scale=1000.0, shift=-50.0))
    assert bool(result.broken.all())
    assert float(result.ratio.median()) <= (3.0 if loose(method, norm) else 1.1)


L2 = tuple(method for method, norm in METHODS if norm is Norm.l2)


@pytest.mark.parametrize("method", L2, ids=name)
def test_l2_attacks_leave_a_sphere_along_the_radius(method: Attack) -> None:
    centre = torch.full((16,), 0.5)
    direction = nn.functional.normalize(torch.randn(9, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    depth = torch.linspace(0.02, 0.25, 9)
    x = centre + (0.3 - depth)[:, None] * direction
    y = torch.zeros(9, dtype=torch.int64)
    result = attack(method, Norm.l2, rows=torch.arange(9), model=Sphere(centre, 0.3), x=x, y=y, classes=2)
    assert bool(result.broken.all())
    torch.testing.assert_close(result.far.float(), depth, rtol=5e-2, atol=0)


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
    kept = largest(delta, radius.round())
    assert kept.flatten(1).sum(1).tolist() == [12 if row < 5 else int(radius[row].round()) for row in range(40)]
    ties = largest(torch.tensor([[1.0, -1.0, 1.0, 0.0]]), torch.tensor([2.0]))
    assert ties.tolist() == [[True, True, False, False]]


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
    result = attack(DDN(margin_share=0.0), Norm.l2, rows=rows, model=two.model(), x=two.x, y=two.y, classes=2)
    assert float((result.far / two.distance(Norm.l2)[rows]).median()) <= 1.001
    ten: Result = attack(DDN(margin_share=0.0), Norm.l2)
    assert bool(ten.broken.all())
    assert 1.02 < float(ten.ratio.median()) <= 1.07


def test_carlini_wagners_objectives_have_their_values() -> None:
    logits, t = torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([0])

    def value(kind: str, *, targeted: bool = True, scores: Tensor = logits) -> float:
        return float(objective(CarliniWagnerLoss[kind], targeted, t, scores))

    chances = [math.exp(z) / sum(math.exp(v) for v in (1, 3, 2)) for z in (1, 3, 2)]
    assert value("f6") == 2.0
    assert value("f7") == pytest.approx(math.log(1 + math.exp(2)) - math.log(2), abs=1e-6)
    assert value("f7") == pytest.approx(1.4338, abs=1e-4)
    assert value("f1") == pytest.approx(-math.log2(chances[0]) - 1, abs=1e-5)
    assert value("f2") == pytest.approx(chances[1] - chances[0], abs=1e-6)
    assert value("f3") == pytest.approx(math.log1p(math.exp(chances[1] - chances[0])) - math.log(2), abs=1e-6)
    assert value("f4") == pytest.approx(0.5 - chances[0], abs=1e-6)
    assert value("f5") == pytest.approx(-math.log(2 * chances[0]), abs=1e-5)
    assert value("f6", targeted=False) == 0.0
    assert value("f5", targeted=False) == pytest.approx(-math.log(2 * (1 - chances[0])), abs=1e-5)


@pytest.mark.parametrize("kind", list(CarliniWagnerLoss))
def test_carlini_wagners_objectives_are_positive_before_success(kind: CarliniWagnerLoss) -> None:
    """Of two classes all seven are 0 or less exactly where the attacker succeeds; no constant in the logits matters."""
    draw = torch.Generator().manual_seed(0)
    logits, y = torch.randn(200, 2, generator=draw, dtype=torch.float64), torch.arange(200) % 2
    for targeted in (False, True):
        won = (logits.argmax(1) == y) == targeted
        value = objective(kind, targeted, y, logits)
        assert torch.equal(value <= 0, won)
        torch.testing.assert_close(value, objective(kind, targeted, y, logits - 50.0))
    leaf = logits.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda z: objective(kind, False, y[:20], z), (leaf[:20].detach().requires_grad_(True),)
    )


@pytest.mark.parametrize("kind", list(CarliniWagnerLoss))
def test_every_objective_of_carlini_and_wagner_works(kind: CarliniWagnerLoss) -> None:
    result = attack(CarliniWagner(steps=150, searches=4, initial_c=0.3, step_size=0.05, loss=kind), Norm.l2, rows=FEW)
    flat = kind in (CarliniWagnerLoss.f2, CarliniWagnerLoss.f4)  # far from the boundary
    assert float(result.broken.double().mean()) >= (0.9 if flat else 1.0)
    assert float(result.ratio.median()) <= (2.0 if flat else 1.15)


def scores_of_spread_one(count: int) -> Tensor:
    return torch.tensor([[0.0, 1.0]]).expand(count, 2)


def test_the_first_weight_brings_a_linear_objective_to_zero() -> None:
    draw = torch.Generator().manual_seed(5)
    gradient, value = torch.randn(20, 1, 3, 4, generator=draw), torch.rand(20, generator=draw) + 0.1
    c = least(gradient, value, scores_of_spread_one(20))
    delta = -c.reshape(-1, 1, 1, 1) * gradient / 2.0  # the minimiser of ||delta||^2 + c * (value + gradient . delta)
    torch.testing.assert_close(value + (gradient * delta).flatten(1).sum(1), torch.zeros(20), rtol=0, atol=1e-5)
    flat = least(torch.zeros(2, 3), torch.tensor([0.5, torch.inf]), scores_of_spread_one(2))
    assert bool((torch.isfinite(flat) & (flat > 0)).all())


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e8, 3e35])
@pytest.mark.parametrize("method", [CarliniWagner(steps=60), SuperDeepFool(), FAB(steps=5, restarts=1)], ids=str)
def test_the_scale_of_the_scores_changes_no_distance(method: Attack, scale: float) -> None:
    plain = attack(method, Norm.l2, rows=FEW)
    other = attack(method, Norm.l2, rows=FEW, model=Scaled(DIGITS.model(), scale=scale))
    assert torch.equal(plain.broken, other.broken)
    assert float(other.ratio.median()) == pytest.approx(float(plain.ratio.median()), rel=1e-2)


def test_the_first_weight_of_the_elastic_net_is_that_of_a_linear_objective() -> None:
    gradient, value = torch.randn(20, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.rand(20) + 0.1
    c = ample(gradient, value, scores_of_spread_one(20), beta=0.6) / AMPLE
    # the minimiser of ||delta||_2^2 + 0.6 ||delta||_1 + c * (value + gradient . delta)
    delta = -gradient.sign() * (c.reshape(-1, 1, 1, 1) * gradient.abs() - 0.6).clamp_min(0.0) / 2.0
    torch.testing.assert_close(value + (gradient * delta).flatten(1).sum(1), torch.zeros(20), rtol=0, atol=1e-5)
    flat = ample(torch.zeros(2, 3), torch.tensor([0.5, torch.inf]), scores_of_spread_one(2), beta=0.6)
    assert bool((torch.isfinite(flat) & (flat > 0)).all())


@pytest.mark.parametrize("method", [CarliniWagner(steps=60), EAD(steps=60)], ids=name)
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_search_for_the_weight_does_not_depend_on_the_scale_of_the_scores(method: Attack, scale: float) -> None:
    norm = Norm.l2 if isinstance(method, CarliniWagner) else Norm.l1
    plain = attack(method, norm, rows=FEW)
    scaled = attack(method, norm, rows=FEW, model=Scaled(DIGITS.model(), scale=scale, shift=0.0))
    assert bool(scaled.broken.all())
    torch.testing.assert_close(scaled.ratio.mean(), plain.ratio.mean(), rtol=0.03, atol=0)


@pytest.mark.parametrize(("method", "norm"), [(FMN(), Norm.l2), (DDN(), Norm.l2), (ALMA(steps=200), Norm.l1)], ids=name)
def test_settled_examples_are_left(method: DDN | FMN | ALMA, norm: Norm) -> None:
    patient = dataclasses.replace(method, patience=1.0)
    soon, late = attack(method, norm, rows=CORRECT[::8]), attack(patient, norm, rows=CORRECT[::8])
    assert bool((late.forwards >= method.steps).all())
    assert float(soon.forwards.double().mean()) < 0.9 * method.steps
    assert float(soon.ratio.mean()) <= 1.005 * float(late.ratio.mean())


def test_a_rounded_map_is_papernots_until_the_softmax_saturates() -> None:
    plain = attack(JSMA(saliency=Saliency.rounded), Norm.l0, rows=FEW)
    assert bool(plain.broken.all())
    hot = Scaled(DIGITS.model(), scale=1000.0, shift=-50.0)
    lost = attack(JSMA(saliency=Saliency.rounded), Norm.l0, rows=FEW, model=hot)
    found = attack(JSMA(saliency=Saliency.logits), Norm.l0, rows=FEW, model=hot)
    assert int(lost.broken.sum()) < int(found.broken.sum()) == len(FEW)


def test_jsma_takes_papernots_pairs() -> None:
    x, wanted = DIGITS.x[:1].float(), torch.tensor([1])
    rng = SampleRandom(0, torch.arange(1))
    target = Target(System(DIGITS.model(), DataSpec((64,), 10)), rng=rng, classes=10)
    _, alpha = slopes(target, x, wanted, Saliency.probabilities, targeted=True)
    pair, score = best_pair(alpha, x < 1)
    assert sorted(pair[0].tolist()) == [28, 36]
    assert float(score) == pytest.approx(4.9929e-5, rel=1e-4)
    probabilities = torch.autograd.functional.jacobian(lambda v: DIGITS.logits(v).softmax(1)[0], DIGITS.x[:1])[:, 0]
    assert float(probabilities.sum(0).abs().max()) < 1e-12
    best = max(
        (
            (-float(probabilities[1, [p, q]].sum()) * float(probabilities[[0, *range(2, 10)]][:, [p, q]].sum()), (p, q))
            for p, q in itertools.combinations(range(64), 2)
            if float(probabilities[1, [p, q]].sum()) > 0 and float(x[0, [p, q]].max()) < 1
        )
    )
    assert best[1] == (28, 36)
    assert best[0] == pytest.approx(float(score), rel=1e-4)
    none, empty = best_pair(torch.tensor([[-1.0, -2.0, 0.5], [1.0, 2.0, 3.0]]), torch.tensor([[True] * 3, [False] * 3]))
    assert empty.tolist() == [0.0, 0.0]
    assert none.shape == (2, 2)


def test_jsma_leaves_an_input_with_an_empty_map() -> None:
    """All pixels are at the end that theta points to."""
    x = torch.ones(1, 64, dtype=torch.float64)
    y = DIGITS.logits(x).argmax(1)
    result = attack(JSMA(both=False), Norm.l0, rows=torch.arange(1), x=x, y=y)
    assert torch.equal(result.x_adv, result.x)
    assert not bool(result.broken.any())
    assert result.forwards.tolist() == [1]
    assert bool(attack(JSMA(), Norm.l0, rows=torch.arange(1), x=x, y=y).broken.all()), "downwards there is room"


def test_jsma_changes_no_more_than_gamma_allows() -> None:
    for theta, gamma in ((1.0, 0.05), (-1.0, 0.1), (0.3, 0.05)):
        result = attack(JSMA(theta=theta, gamma=gamma, both=False), Norm.l0)
        assert float(result.far.max()) <= gamma * 64
        assert bool(((result.x_adv - result.x) * theta >= 0).all())
        assert 0.2 < float(result.broken.double().mean()) < 1.0


def test_jsma_gives_back_what_a_success_does_not_need() -> None:
    kept = attack(JSMA(search_steps=0), Norm.l0)
    given = attack(JSMA(), Norm.l0)
    assert bool(given.broken.all())
    assert bool((given.far <= kept.far).all())
    assert float(kept.ratio.median()) > 1.3
    assert float(given.ratio.median()) == 1.0
    assert float(given.ratio.mean()) <= 1.1
    changed = given.x_adv != given.x
    assert torch.equal(given.x_adv[changed], kept.x_adv[changed]), "what is kept is as it was"


def test_proximal_maps_minimise() -> None:
    draw = torch.Generator().manual_seed(2)
    delta, amount = torch.randn(30, 6, generator=draw, dtype=torch.float64), torch.rand(30, generator=draw).double()
    for norm, order in ((Norm.l1, 1.0), (Norm.l2, 2.0), (Norm.linf, torch.inf)):
        found = nearer(delta, amount, norm)

        def value(point: Tensor, order: float = order) -> Tensor:
            total: Tensor = (point - delta).square().sum(1) / 2 + amount * point.norm(p=order, dim=1)
            return total

        for scale in (1e-3, 1e-2, 0.3):
            other = found + scale * torch.randn(30, 6, generator=draw, dtype=torch.float64)
            assert bool((value(other) >= value(found) - 1e-12).all())


def test_adam_is_torchs() -> None:
    draw = torch.Generator().manual_seed(4)
    weight = nn.Parameter(torch.zeros(2, 3))
    theirs = torch.optim.Adam([weight], lr=0.1)
    ours, first, second = torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 3)
    for step in range(5):
        weight.grad = torch.randn(2, 3, generator=draw)
        change, first, second = adam(weight.grad, first, second, step)
        ours = ours - 0.1 * change
        theirs.step()
    torch.testing.assert_close(ours, weight.detach())


def test_almas_penalty_has_one_slope_at_the_boundary() -> None:
    multiplier, sharpness = torch.full((5,), 2.0, dtype=torch.float64), torch.full((5,), 3.0, dtype=torch.float64)
    value = torch.tensor([-1.0, -1e-9, 0.0, 1e-9, 1.0], dtype=torch.float64)
    times, plus = pull(value, sharpness)
    slope = times * multiplier + plus
    torch.testing.assert_close(slope[1:4], multiplier[1:4], rtol=0, atol=1e-7)
    assert float(slope[0]) == pytest.approx(2.0 / 16.0)
    assert float(slope[4]) == pytest.approx(2.0 + 12.0 + 4.5)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: DDN(gamma=1.5), r"attack.gamma is 1.5; expected a share between 0 and 1"),
        (lambda: DDN(margin_share=2.0), r"attack.margin_share is 2.0; expected 0 to 1"),
        (lambda: FMN(patience=0.0), r"attack.patience is 0.0; expected a share above 0 and at most 1"),
        (lambda: DDN(steps=0), r"attack.steps is 0; expected at least 1"),
        (lambda: FMN(gamma=0.01, last_gamma=0.1), r"attack.gamma is 0.01 and attack.last_gamma 0.1"),
        (lambda: FMN(candidates=0), r"attack.candidates is 0; expected at least 1"),
        (lambda: JSMA(theta=0.0), r"attack.theta is 0.0; expected a change from -1 to 1"),
        (lambda: JSMA(gamma=2.0), r"attack.gamma is 2.0; expected a share of the features"),
        (lambda: ALMA(last_share=0.0), r"attack.last_share is 0.0"),
        (lambda: EAD(beta=-1.0), r"attack.beta is -1.0; expected more than 0"),
        (lambda: SigmaZero(threshold=2.0), r"attack.threshold is 2.0; expected 0 to 1"),
        (lambda: SuperDeepFool(overshoot=-1.0), r"attack.overshoot is -1.0"),
    ],
)
def test_settings_are_refused_with_a_sentence(make: Callable[[], Attack], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()


def test_deepfool_takes_a_large_batch_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(70, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    system = System(nn.Sequential(nn.Flatten(), nn.Linear(16, 9), nn.ReLU(), nn.Linear(9, 4)), DataSpec((1, 4, 4), 4))
    rng = SampleRandom(0, torch.arange(len(x)))
    y, threat = system.logits(x, rng).argmax(1), Threat(norm=Norm.l2, eps=Fraction(1, 2))
    found = []
    for fewest, size in ((128, 8 << 20), (16, 1)):
        monkeypatch.setattr("benchmark_plugins.attacks.deepfool.FEWEST", fewest)
        monkeypatch.setattr("benchmark_plugins.attacks.deepfool.SLOPES", size)
        target = Target(system, rng=rng, classes=4)
        found.append((DeepFool(steps=8).perturb(target, x, y, threat=threat, rng=rng), target.ledger.forwards))
    for whole, parts in zip(*found, strict=True):
        assert torch.equal(whole, parts)
