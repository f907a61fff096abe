"""APGD, FAB and AutoAttack against exact distances, their papers' numbers and models with known answers."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

import pytest
import torch
from benchmark_plugins.attacks._ascent.pairs import offer
from benchmark_plugins.attacks._base.best import Best
from benchmark_plugins.attacks._base.classes import dlr_to_rival, logit_difference, top_rivals
from benchmark_plugins.attacks._minimal.hyperplanes import nearest_hyperplane, to_hyperplane
from benchmark_plugins.attacks.apgd import APGD, APGDLoss, checkpoints
from benchmark_plugins.attacks.autoattack import AutoAttack, Version
from benchmark_plugins.attacks.fab import FAB
from benchmark_plugins.attacks.square import Square
from torch import Tensor, nn

from benchmark.api import Attack
from benchmark.data import DataSpec
from benchmark.errors import ConfigError
from benchmark.oracles.linear import LinearProblem, half_space_distance, nearest_class_mean
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.system.target import Target
from benchmark.testing.toys import Broken, Constant, Quantised, RandomisedLinear, Scaled
from benchmark.threat import Access, Goal, Norm, Region, RegionKind, Threat
from benchmark.threat.ball import distance
from tests.plugins.attacked_digits import Result

DIGITS = nearest_class_mean("digits")
EXACT = {norm: DIGITS.distance(norm) for norm in Norm}
NORMS = (Norm.linf, Norm.l2, Norm.l1)
FAMILY: tuple[Attack, ...] = (
    APGD(steps=12),
    APGD(steps=12, loss=APGDLoss.dlr_targeted, targets=4),
    FAB(steps=6),
    FAB(steps=6, targets=4),
    Square(queries=40),
    Square(queries=40, proposals=3),
    AutoAttack(steps=8, queries=30),
    AutoAttack(Version.plus, steps=6, queries=20),
)


def name_of(method: Attack) -> str:
    """A test id."""
    return f"{type(method).__name__}{FAMILY.index(method)}"


def attack(
    method: Attack,
    norm: Norm,
    eps: float | str,
    *,
    problem: LinearProblem = DIGITS,
    model: nn.Module | None = None,
    shape: tuple[int, ...] = (64,),
    rows: Tensor | None = None,
    randomized: bool = False,
    dtype: torch.dtype = torch.float32,
    **threat: Any,
) -> Result:
    """Attack `rows` of a problem, or those that it gets right."""
    model = problem.model() if model is None else model
    system = System(model.to(dtype), DataSpec(shape, len(problem.bias)))
    x, y = problem.x.to(dtype).reshape(-1, *shape), problem.y
    if rows is None:
        rows = (problem.logits(problem.x).argmax(1) == y).nonzero().squeeze(1)
    allowed = Threat(norm, Fraction(str(eps)), **threat)
    rng = SampleRandom(0, rows)
    wanted = (y[rows] + 1) % len(problem.bias) if allowed.targeted else y[rows]
    target = Target(
        system,
        rng=rng.child("system"),
        classes=len(problem.bias),
        access=allowed.access,
        queries=allowed.queries,
        eot=allowed.eot,
        randomized=randomized,
    )
    x_adv = method.perturb(target, x[rows], wanted, threat=allowed, rng=rng)
    audit = allowed.around(x[rows], rng).audit(x_adv)
    assert not bool((audit.outside_box | audit.outside_region | audit.non_finite).any())
    if not method.supports.minimal:
        assert bool(audit.inside.all())
    assert x_adv.dtype == dtype
    said = system.logits(x_adv, rng).argmax(1)
    return Result(rows, x[rows], y[rows], x_adv, (said == wanted) == allowed.targeted, target.ledger)


def some(count: int, problem: LinearProblem = DIGITS) -> Tensor:
    """The first examples that the problem gets right."""
    right = (problem.logits(problem.x).argmax(1) == problem.y).nonzero().squeeze(1)
    return right[:count]


# --- the parts ---


def test_checkpoints_are_those_of_the_paper() -> None:
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    for steps in range(1, 30):
        found = checkpoints(steps)
        assert found == sorted(set(found))
        assert max(found) <= steps


def test_targeted_dlr_is_equation_7_and_falls_back_to_the_difference() -> None:
    logits = torch.tensor([[4.0, 1.0, 3.0, -2.0, 0.5]])
    y, rival = torch.tensor([0]), torch.tensor([2])
    assert float(dlr_to_rival(logits, y, rival)) == pytest.approx((3.0 - 4.0) / (4.0 - (1.0 + 0.5) / 2))
    shifted = dlr_to_rival(3.0 * logits - 50.0, y, rival)
    assert float(shifted) == pytest.approx(float(dlr_to_rival(logits, y, rival)), abs=1e-6)
    for classes in (2, 3):
        few = logits[:, :classes]
        assert (
            float(dlr_to_rival(few, y, torch.tensor([1]))) == float(logit_difference(few, y, torch.tensor([1]))) == -3.0
        )
    assert top_rivals(logits, y, 3).tolist() == [[2, 1, 4]]
    assert top_rivals(logits[:, :2], y, 9).tolist() == [[1]]


def test_the_best_is_a_success_first_and_then_the_higher_value() -> None:
    best = Best(torch.zeros(2, 1))
    one = torch.tensor
    offer(best, one([0, 0, 1]), one([[0.1], [0.2], [0.3]]), one([False, False, False]), one([1.0, 2.0, float("nan")]))
    assert best.x_adv.squeeze(1).tolist() == pytest.approx([0.2, 0.0])
    offer(best, one([0, 0, 0]), one([[0.4], [0.5], [0.6]]), one([True, False, True]), one([-3.0, 9.0, -3.0]))
    assert best.x_adv.squeeze(1).tolist() == pytest.approx([0.4, 0.0])
    offer(best, one([0]), one([[0.7]]), one([False]), one([99.0]))
    assert best.x_adv.squeeze(1).tolist() == pytest.approx([0.4, 0.0])
    assert best.won.tolist() == [True, False]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("share", [0.3, 0.9, 1.5])
def test_the_step_to_a_plane_is_the_shortest_from_either_side(norm: Norm, share: float) -> None:
    draw = torch.Generator().manual_seed(3)
    x = torch.rand(40, 9, generator=draw, dtype=torch.float64)
    slope = torch.randn(40, 9, generator=draw, dtype=torch.float64)
    reach = (slope.abs() * torch.where(slope > 0, 1 - x, x)).sum(1)
    for side in (1.0, -1.0):
        room = reach if side > 0 else (slope.abs() * torch.where(slope < 0, 1 - x, x)).sum(1)
        delta = to_hyperplane(slope, side * share * room, x[:, None], norm).squeeze(1)
        assert bool(((x + delta >= -1e-12) & (x + delta <= 1 + 1e-12)).all())
        gained = side * (slope * delta).sum(1)
        torch.testing.assert_close(gained, min(share, 1.0) * room)
        if share < 1:
            best = half_space_distance(side * slope, share * room, x, norm)
            torch.testing.assert_close(distance(x + delta, x, norm), best)


@pytest.mark.parametrize("norm", NORMS)
def test_the_nearest_plane_is_the_nearest_in_the_box(norm: Norm) -> None:
    draw = torch.Generator().manual_seed(4)
    x = torch.rand(60, 9, generator=draw, dtype=torch.float64) ** 3  # near the lower end, which is in the way
    slopes = torch.randn(60, 7, 9, generator=draw, dtype=torch.float64)
    needs = torch.randn(60, 7, generator=draw, dtype=torch.float64) * 2.0
    slopes[:, 3] = 0.0
    side = needs.sign()
    reach = torch.where(side[:, :, None] * slopes > 0, 1.0 - x[:, None], x[:, None]).mul(slopes.abs()).sum(2)
    exact = torch.full_like(needs, torch.inf)
    for plane in {*range(7)} - {3}:
        ok = reach[:, plane] > needs[:, plane].abs() * 1.001
        toward = side[ok, plane, None] * slopes[ok, plane]
        exact[ok, plane] = half_space_distance(toward, needs[ok, plane].abs(), x[ok], norm)
    assert 20 < int(exact.isinf().sum()) - 60 < 300
    elsewhere = torch.rand(60, 9, generator=draw, dtype=torch.float64)
    which, change = nearest_hyperplane(slopes, needs, torch.stack([x, elsewhere], 1), norm)
    sure = exact.amin(1).isfinite()
    assert torch.equal(which[sure], exact.argmin(1)[sure])
    torch.testing.assert_close(distance(x + change[:, 0], x, norm)[sure], exact.amin(1)[sure])
    slope, need = slopes[torch.arange(60), which], needs[torch.arange(60), which]
    alone = to_hyperplane(slope, need + (slope * (x - elsewhere)).sum(1), elsewhere[:, None], norm)
    torch.testing.assert_close(change[:, 1:], alone)
    free = needs.abs() / slopes.norm(p={Norm.linf: 1, Norm.l2: 2, Norm.l1: torch.inf}[norm], dim=2)
    assert bool((free.argmin(1) != exact.argmin(1))[sure].any())  # the box decides


# --- what is exact ---


@pytest.mark.parametrize(
    ("norm", "eps", "accuracy"),
    [
        *((Norm.linf, *pair) for pair in ((0.02, 0.832), (0.05, 0.766), (0.1, 0.622), (0.15, 0.398), (0.2, 0.126))),
        *((Norm.l2, *pair) for pair in ((0.25, 0.762), (0.5, 0.590), (0.75, 0.356), (1, 0.120))),
        *((Norm.l1, *pair) for pair in ((0.5, 0.776), (1, 0.670), (1.5, 0.530), (2, 0.358), (3, 0.092))),
    ],
)
def test_apgd_towards_each_class_has_the_exact_robust_accuracy(norm: Norm, eps: float, accuracy: float) -> None:
    run = attack(APGD(loss=APGDLoss.margin_targeted), norm, eps)
    assert int((~run.broken).sum()) / 500 == accuracy
    assert int((EXACT[norm] > eps).sum()) / 500 == accuracy
    assert not bool((run.broken & (EXACT[norm][run.rows] > eps)).any())


@pytest.mark.parametrize(
    ("norm", "eps"),
    [
        *((Norm.linf, eps) for eps in (0.02, 0.05, 0.1, 0.15, 0.2)),
        *((Norm.l2, eps) for eps in (0.25, 0.5, 0.75, 1)),
        *((Norm.l1, eps) for eps in (0.5, 1, 1.5, 2, 3)),
    ],
)
def test_apgd_towards_each_class_is_exact_where_it_is_close(norm: Norm, eps: float) -> None:
    """Every example whose distance is within a tenth of the radius, at every radius of the published table."""
    share = EXACT[norm] / eps
    rows = ((share > 0.9) & (share < 1.1)).nonzero().squeeze(1)
    run = attack(APGD(loss=APGDLoss.margin_targeted), norm, eps, rows=rows)
    assert torch.equal(run.broken, EXACT[norm][rows] <= eps)


@pytest.mark.parametrize(("eps", "accuracy"), [(0.05, 0.8805), (0.1, 0.7149), (0.15, 0.4575)])
def test_autoattack_has_the_exact_robust_accuracy(eps: float, accuracy: float) -> None:
    run = attack(AutoAttack(steps=40, queries=50), Norm.linf, eps)
    assert len(run.broken) == 435
    assert float((~run.broken).double().mean()) == pytest.approx(accuracy, abs=5e-5)


@pytest.mark.parametrize(("norm", "eps"), [(Norm.l2, 0.75), (Norm.l1, 2)])
def test_autoattack_is_exact_in_l2_and_l1(norm: Norm, eps: float) -> None:
    rows = some(120)
    run = attack(AutoAttack(steps=60, queries=20), norm, eps, rows=rows)
    assert torch.equal(run.broken, EXACT[norm][rows] <= eps)


@pytest.mark.parametrize("name", ["breast_cancer", "iris", "wine"])
@pytest.mark.parametrize("norm", NORMS)
def test_autoattack_is_exact_on_tables_of_two_and_three_classes(name: str, norm: Norm) -> None:
    problem = nearest_class_mean(name)
    rows = some(40, problem)
    exact = problem.distance(norm)[rows]
    shape = (problem.x.shape[1],)
    eps = middle_of_a_gap(exact)
    run = attack(AutoAttack(steps=40, queries=20), norm, eps, problem=problem, shape=shape, rows=rows)
    assert torch.equal(run.broken, exact <= eps)
    assert 5 < int(run.broken.sum()) < 35


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("targets", [0, 9])
def test_fab_finds_the_smallest_perturbation(norm: Norm, targets: int) -> None:
    run = attack(FAB(steps=20, targets=targets), norm, 0.1)
    assert bool(run.broken.all())
    ratio = distance(run.x_adv, run.x, norm) / EXACT[norm][run.rows]
    assert float(ratio.min()) >= 1 - 1e-4
    assert float(ratio.median()) <= 1.001
    assert float(ratio.mean()) <= 1.002  # 1.006 is asked for


@pytest.mark.parametrize("norm", NORMS)
def test_the_region_is_kept_and_its_optimum_found(norm: Norm) -> None:
    rows = some(60)
    region = Region(RegionKind.square, 6)
    allowed = region_of(region)
    exact = DIGITS.distance(norm, allowed)[rows]
    found = attack(FAB(steps=20), norm, 0.1, rows=rows, shape=(1, 8, 8), region=region)
    ratio = distance(found.x_adv, found.x, norm)[found.broken] / exact[found.broken]
    assert torch.equal(found.broken, exact.isfinite())
    assert 1 - 1e-4 <= float(ratio.min()) <= float(ratio.mean()) <= 1.002
    eps = middle_of_a_gap(exact)
    bounded = attack(AutoAttack(steps=40, queries=20), norm, eps, rows=rows, shape=(1, 8, 8), region=region)
    assert torch.equal(bounded.broken, exact <= eps)


def middle_of_a_gap(exact: Tensor) -> float:
    """A radius between two exact distances that lie well apart, near their median."""
    order = exact.sort().values
    near = order[len(order) // 3 : 2 * len(order) // 3]
    at = int((near[1:] / near[:-1]).argmax())
    return round(float((near[at] + near[at + 1]) / 2), 5)


def region_of(region: Region) -> Tensor:
    """(64,) bool: the features in a region of the digits."""
    mask = Threat(region=region).around(torch.zeros(1, 1, 8, 8), SampleRandom(0, torch.zeros(1).long())).mask
    assert mask is not None
    return mask.flatten()


@pytest.mark.parametrize("method", [APGD(steps=60), FAB(steps=30), AutoAttack(steps=30, queries=20)])
@pytest.mark.parametrize("norm", NORMS)
def test_a_targeted_threat_reaches_its_class_where_that_is_possible(method: Attack, norm: Norm) -> None:
    rows = some(40)
    goal = (DIGITS.y + 1) % 10
    eps = {Norm.linf: 0.3, Norm.l2: 2, Norm.l1: 8}[norm]
    run = attack(method, norm, eps, rows=rows, goal=Goal.next_class)
    # The class is not reached before it has overtaken the label, so this distance is a lower bound.
    weight, logits = DIGITS.weight, DIGITS.logits(DIGITS.x[rows])
    y = DIGITS.y[rows]
    ahead = logits.gather(1, y[:, None]) - logits.gather(1, goal[rows][:, None])
    bound = half_space_distance(weight[goal[rows]] - weight[y], ahead.squeeze(1), DIGITS.x[rows], norm)
    far = distance(run.x_adv, run.x, norm)
    assert not bool((run.broken & (far < bound * (1 - 1e-4))).any())
    assert float(run.broken.double().mean()) > 0.8
    if method.supports.minimal:
        assert float((far / bound)[run.broken].median()) < 1.1


# --- what an attack may not depend on ---


@pytest.mark.parametrize("method", FAMILY, ids=name_of)
@pytest.mark.parametrize("norm", NORMS)
def test_a_batch_of_one_gives_what_a_batch_of_many_gives(method: Attack, norm: Norm) -> None:
    model = nn.Sequential(nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 10))
    draw = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=draw) * 0.5
    rows = torch.arange(12)
    eps = {Norm.linf: 0.05, Norm.l2: 0.3, Norm.l1: 1}[norm]
    problem = dataclasses.replace(DIGITS, y=model(DIGITS.x.float()).argmax(1))
    whole = attack(method, norm, eps, problem=problem, model=model, rows=rows)
    for part in (torch.tensor([4]), torch.tensor([11, 0, 7])):
        alone = attack(method, norm, eps, problem=problem, model=model, rows=part)
        assert torch.equal(alone.x_adv, whole.x_adv[part])
        assert torch.equal(alone.ledger.forwards, whole.ledger.forwards[part])
        assert torch.equal(alone.ledger.backwards, whole.ledger.backwards[part])


@pytest.mark.parametrize("method", FAMILY, ids=name_of)
@pytest.mark.parametrize("norm", NORMS)
def test_models_without_an_answer_are_survived(method: Attack, norm: Norm) -> None:
    rows, eps = some(5), {Norm.linf: 0.1, Norm.l2: 1, Norm.l1: 3}[norm]
    constant = dataclasses.replace(DIGITS, y=torch.full_like(DIGITS.y, 9))
    for model in (Constant(torch.arange(10.0)), Constant(torch.arange(10.0), connected=False)):
        run = attack(method, norm, eps, problem=constant, model=model, rows=rows)
        assert not bool(run.broken.any())
    run = attack(method, norm, eps, model=Constant(torch.full((10,), torch.nan)), rows=rows)
    assert bool(torch.isfinite(run.x_adv).all())
    run = attack(method, norm, eps, model=Broken(DIGITS.model()), rows=rows)
    assert bool(torch.isfinite(run.x_adv).all())


@pytest.mark.parametrize("method", FAMILY, ids=name_of)
def test_a_constant_in_the_logits_changes_no_verdict(method: Attack) -> None:
    rows = some(40)
    eps = 0.3 if isinstance(method, Square) else 0.14
    plain = attack(method, Norm.linf, eps, rows=rows)
    shifted = attack(method, Norm.linf, eps, rows=rows, model=Scaled(DIGITS.model(), shift=-64.0))
    assert int((plain.broken != shifted.broken).sum()) <= 1  # single precision loses digits to the shift
    assert int(plain.broken.sum()) > 3


@pytest.mark.parametrize("method", FAMILY, ids=name_of)
@pytest.mark.parametrize("queries", [1, 2, 5, 23])
def test_the_query_budget_is_kept_and_used(method: Attack, queries: int) -> None:
    run = attack(method, Norm.linf, 0.01, rows=some(6), queries=queries)
    assert int(run.ledger.forwards.max()) <= queries
    if not method.supports.minimal:
        assert int(run.ledger.forwards.max()) >= min(queries, 8) - 1


@pytest.mark.parametrize("method", FAMILY, ids=name_of)
def test_double_precision_is_kept(method: Attack) -> None:
    for norm in NORMS:
        assert attack(method, norm, 0.1, rows=some(4), dtype=torch.float64).x_adv.dtype == torch.float64


# --- cost ---


def test_apgd_costs_what_it_says_and_leaves_broken_examples() -> None:
    run = attack(APGD(steps=30), Norm.linf, 0.05)
    assert set(run.ledger.forwards[~run.broken].tolist()) == {31}
    assert set(run.ledger.backwards[~run.broken].tolist()) == {31}
    assert float(run.ledger.forwards[run.broken].float().mean()) < 15
    towards = attack(APGD(steps=10, loss=APGDLoss.dlr_targeted, targets=3), Norm.linf, 0.05, rows=some(50))
    assert set(towards.ledger.forwards[~towards.broken].tolist()) == {1 + 3 * 11}
    sparse = attack(APGD(steps=20, restarts=2), Norm.l1, 0.5, rows=some(30))
    assert set(sparse.ledger.forwards[~sparse.broken].tolist()) == {2 * 23}


def test_autoattack_costs_the_sum_of_its_parts() -> None:
    run = attack(AutoAttack(steps=5, queries=1), Norm.linf, 0.01, rows=some(30))
    stood = ~run.broken
    before_the_search = 6 + 1 + 9 * 6 + 9 * 10 + 1
    assert int(run.ledger.forwards[stood].min()) >= before_the_search
    assert int(run.ledger.forwards[stood].max()) <= before_the_search + 2 + FAB().search_steps
    assert set(run.ledger.backwards[stood].tolist()) == {6 + 9 * 6 + 9 * 5}


def test_more_steps_and_restarts_break_no_fewer() -> None:
    few = attack(APGD(steps=5), Norm.l2, 0.75)
    more = attack(APGD(steps=5, restarts=4), Norm.l2, 0.75)
    assert not bool((few.broken & ~more.broken).any())
    assert int(few.broken.sum()) < int(more.broken.sum())


# --- difficult systems ---


def test_square_breaks_what_has_no_gradients() -> None:
    model = Quantised(DIGITS.model(), 4)
    rows = (model(DIGITS.x.float()).argmax(1) == DIGITS.y).nonzero().squeeze(1)[:60]
    blind = attack(APGD(steps=5), Norm.linf, 0.15, model=model, rows=rows)
    seen = attack(AutoAttack(steps=5, queries=200), Norm.linf, 0.15, model=model, rows=rows)
    assert int(seen.broken.sum()) > int(blind.broken.sum()) + 10


def test_the_margin_is_found_behind_a_saturated_softmax() -> None:
    model = Scaled(DIGITS.model(), scale=1000.0)
    run = attack(AutoAttack(steps=30, queries=20), Norm.linf, 0.1, model=model)
    assert torch.equal(run.broken, EXACT[Norm.linf][run.rows] <= 0.1)


def test_the_random_version_averages_draws() -> None:
    model = RandomisedLinear(DIGITS.weight, DIGITS.bias, 0.5)
    rows = some(40)
    x, y, exact = DIGITS.x[rows].float(), DIGITS.y[rows], EXACT[Norm.linf][rows]
    threat, rng = Threat(Norm.linf, Fraction(1, 10), eot=4), SampleRandom(0, rows)
    system = System(model, DataSpec((64,), 10))
    found = []
    for _ in range(2):
        target = Target(system, rng=rng, classes=10, eot=4, randomized=True)
        found.append(AutoAttack(Version.rand, steps=10).perturb(target, x, y, threat=threat, rng=rng))
        assert set(target.ledger.forwards.tolist()) <= {11 * 4, 22 * 4}
    assert torch.equal(*found)
    broken = DIGITS.logits(found[0]).argmax(1) != y  # of the mean model
    sure = (exact / 0.1 - 1).abs() > 0.6
    assert float((broken == (exact <= 0.1))[sure].double().mean()) > 0.9
    assert int(sure.sum()) > 5


# --- what is refused ---


def test_settings_without_meaning_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"attack\.steps is 0; expected at least 1"):
        APGD(steps=0)
    with pytest.raises(ConfigError, match=r"attack\.targets is 0; expected at least 1"):
        APGD(targets=0)
    with pytest.raises(ConfigError, match=r"attack\.alpha_max is 1\.5; expected a share between 0 and 1"):
        FAB(alpha_max=1.5)
    with pytest.raises(ConfigError, match=r"attack\.eta is 0\.9; expected at least 1"):
        FAB(eta=0.9)
    with pytest.raises(ConfigError, match=r"attack\.p_init is 0\.0; expected a share of the image in \(0, 1\]"):
        Square(p_init=0.0)
    with pytest.raises(ConfigError, match=r"attack\.queries is 0; expected at least 1"):
        AutoAttack(queries=0)
    assert Square().supports.access is Access.scores
