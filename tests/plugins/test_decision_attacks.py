"""Decision-based attacks: never below the exact distance, near it after a few thousand labels, alone as in a batch."""

from __future__ import annotations

import itertools

import pytest
import torch
from benchmark_plugins.attacks.boundary import Boundary
from benchmark_plugins.attacks.geoda import GeoDA
from benchmark_plugins.attacks.hop_skip_jump import HopSkipJump
from benchmark_plugins.attacks.pointwise import Pointwise
from benchmark_plugins.attacks.rays import RayS
from benchmark_plugins.attacks.sign_opt import SignOPT
from torch import Tensor, nn

import benchmark.target
from benchmark.api import Attack
from benchmark.ball import distance
from benchmark.system import padded
from benchmark.testing.toys import Quantised, Sphere
from benchmark.threat import Norm, Region, RegionKind
from tests.plugins.black_box import CORRECT, DIGITS, attack

FEW = CORRECT[::36]  # 13 digits
MORE = CORRECT[::18]  # 25 digits
METHODS: tuple[tuple[Attack, Norm], ...] = (
    (HopSkipJump(), Norm.l2),
    (HopSkipJump(), Norm.linf),
    (Boundary(), Norm.l2),
    (RayS(), Norm.linf),
    (GeoDA(), Norm.l2),
    (GeoDA(), Norm.linf),
    (SignOPT(), Norm.l2),
    (Pointwise(), Norm.l0),
)


# The median and the mean ratio to the exact distance, with slack, on few digits and with fewer queries. With at most
# 5000 queries on all 435 digits they were, for HopSkipJump under l2 1.053 and 1.27, under linf 1.055 and 1.27; for
# Boundary 1.029 and 1.15; for RayS 1.001 and 1.05; for GeoDA under l2 1.051 and 1.18, under linf 1.048 and 1.16; for
# Sign-OPT 1.003 and 1.06; for Pointwise 1.0 and 1.11.
@pytest.mark.parametrize(
    ("method", "norm", "queries", "median", "mean"),
    [
        (HopSkipJump(), Norm.l2, 2500, 1.1, 1.6),
        (HopSkipJump(), Norm.linf, 2500, 1.15, 1.6),
        (Boundary(), Norm.l2, 1000, 1.2, 1.6),
        (RayS(), Norm.linf, 800, 1.003, 1.2),
        (GeoDA(), Norm.l2, 5000, 1.07, 1.4),
        (GeoDA(), Norm.linf, 5000, 1.08, 1.5),
        (SignOPT(), Norm.l2, 2500, 1.02, 1.2),
        (Pointwise(), Norm.l0, 5000, 1.0, 1.25),
    ],
    ids=str,
)
def test_distances_come_near_the_exact_ones_and_never_below(
    method: Attack, norm: Norm, queries: int, median: float, mean: float
) -> None:
    result = attack(method, norm, rows=MORE, queries=queries)
    assert bool(result.broken.all())
    assert float(result.ratio.min()) >= 1 - 1e-4
    assert float(result.ratio.median()) <= median
    assert float(result.ratio.mean()) <= mean


@pytest.mark.parametrize(("method", "norm"), METHODS, ids=str)
def test_candidates_are_adversarial_or_the_clean_input(method: Attack, norm: Norm) -> None:
    for queries in (1, 2, 60):
        result = attack(method, norm, rows=FEW, queries=queries)
        assert bool((result.broken | (result.far == 0)).all())
        assert bool((result.forwards <= queries).all())
    assert bool(result.broken.all())


@pytest.mark.parametrize(("method", "norm"), METHODS, ids=str)
def test_more_queries_never_lead_further_away(method: Attack, norm: Norm) -> None:
    results = [attack(method, norm, rows=FEW, queries=queries) for queries in (100, 200, 300)]
    if isinstance(method, GeoDA):  # how it spends a budget depends on the budget
        results = results[::2]
    for less, more in itertools.pairwise(results):
        assert bool((more.far <= less.far).all())
    assert bool((results[0].forwards == 100).all()) or isinstance(method, (GeoDA, Pointwise))


@pytest.mark.parametrize(("method", "norm"), METHODS, ids=str)
def test_a_batch_of_one_is_a_batch_of_many(method: Attack, norm: Norm) -> None:
    whole, single = (attack(method, norm, rows=FEW[:3], batch=n, queries=130) for n in (3, 1))
    assert torch.equal(whole.x_adv, single.x_adv)
    assert torch.equal(whole.forwards, single.forwards)


@pytest.mark.parametrize(("method", "norm"), METHODS, ids=str)
def test_misclassified_inputs_stay_and_cost_one_query(method: Attack, norm: Norm) -> None:
    wrong = (DIGITS.logits(DIGITS.x).argmax(1) != DIGITS.y).nonzero().squeeze(1)[:8]
    result = attack(method, norm, rows=wrong)
    assert bool((result.far == 0).all())
    assert result.forwards.tolist() == [1] * 8


@pytest.mark.parametrize(("method", "norm"), METHODS, ids=str)
def test_passes_are_counted_as_an_independent_counter_does(
    method: Attack, norm: Norm, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = 0

    def counting(x: Tensor) -> Tensor:
        nonlocal seen
        seen += len(x)
        return padded(x)

    monkeypatch.setattr(benchmark.target, "padded", counting)
    result = attack(method, norm, rows=FEW, queries=150)
    assert int(result.forwards.sum()) == seen


@pytest.mark.parametrize(("method", "norm"), METHODS, ids=str)
def test_only_the_region_changes(method: Attack, norm: Norm) -> None:
    x = DIGITS.x.reshape(-1, 1, 8, 8)
    result = attack(method, norm, rows=FEW, x=x, region=Region(RegionKind.square, 4), queries=400)
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, 2:6, 2:6] = True
    assert bool((result.x_adv == result.x)[:, ~mask].all())
    exact = DIGITS.distance(norm, mask.flatten())[FEW]
    assert bool((result.far >= exact * (1 - 1e-4))[result.broken].all())
    assert int(result.broken.sum()) >= 0.9 * int(torch.isfinite(exact).sum())


@pytest.mark.parametrize(("method", "norm"), METHODS, ids=str)
def test_a_model_without_gradients_is_no_obstacle(method: Attack, norm: Norm) -> None:
    result = attack(method, norm, rows=FEW, model=Quantised(DIGITS.model(), 8), queries=400)
    assert float(result.broken.double().mean()) > 0.9


@pytest.mark.parametrize(("method", "norm"), [m for m in METHODS if m[1] is Norm.l2], ids=str)
def test_a_sphere_is_left_along_the_radius(method: Attack, norm: Norm) -> None:
    centre = torch.full((16,), 0.5)
    direction = nn.functional.normalize(torch.randn(9, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    depth = torch.linspace(0.05, 0.25, 9)
    x, y = centre + (0.3 - depth)[:, None] * direction, torch.zeros(9, dtype=torch.int64)
    model = Sphere(centre, 0.3)
    result = attack(method, norm, rows=torch.arange(9), model=model, x=x, y=y, classes=2, queries=1000)
    ratio = distance(result.x_adv, x.float(), norm) / depth
    assert float(ratio.min()) >= 1 - 1e-4
    assert float(ratio.median()) <= 1.2
