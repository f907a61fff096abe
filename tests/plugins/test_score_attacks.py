"""Score-based attacks: estimates against known gradients, success against exact distances, passes against a counter."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest
import torch
from benchmark_plugins.attacks._blackbox.estimates import antithetic, visited
from benchmark_plugins.attacks._blackbox.queries import Oracle, gaussian, uniform
from benchmark_plugins.attacks.bandits import Bandits, spread, tiled
from benchmark_plugins.attacks.nes import NES
from benchmark_plugins.attacks.one_pixel import OnePixel
from benchmark_plugins.attacks.parsimonious import Parsimonious, blocks_of
from benchmark_plugins.attacks.random_coordinate import RandomCoordinate, central_differences
from benchmark_plugins.attacks.simba import Basis, SimBA, waves
from benchmark_plugins.attacks.spsa import SPSA
from benchmark_plugins.attacks.surrogate_gradient import SurrogateGradient, shepard
from benchmark_plugins.attacks.zoo import ZOO, Solver, Steps, differences
from torch import Tensor, nn

import benchmark.system.passes
from benchmark.api import Attack
from benchmark.data import DataSpec
from benchmark.errors import ConfigError, Refused
from benchmark.oracles.linear import LinearClassifier
from benchmark.sampling import SampleRandom
from benchmark.system import System, padded
from benchmark.system.target import Target
from benchmark.testing.toys import Quantised
from benchmark.threat import Access, Goal, Norm, Region, RegionKind, Threat
from tests.plugins.black_box import CORRECT, DIGITS, EXACT, attack

FEW = CORRECT[::36]  # 13 digits
EPS = {Norm.linf: 0.15, Norm.l2: 0.6, Norm.l0: 1}
# With the least share of the breakable digits that a thousand queries are to break; what was measured lies above it.
METHODS: tuple[tuple[Attack, Norm, float], ...] = (
    (NES(steps=20), Norm.linf, 0.75),
    (NES(steps=20), Norm.l2, 0.75),
    (SPSA(steps=20, pairs=25, step_size=0.05), Norm.linf, 0.6),
    (SurrogateGradient(steps=20), Norm.linf, 0.75),
    (SurrogateGradient(steps=20), Norm.l2, 0.75),
    (RandomCoordinate(), Norm.linf, 0.9),
    (RandomCoordinate(), Norm.l2, 0.8),
    (SimBA(), Norm.l2, 0.75),
    (SimBA(basis=Basis.dct), Norm.l2, 0.7),
    (OnePixel(), Norm.l0, 0.9),
    (Parsimonious(), Norm.linf, 0.95),
    (Bandits(steps=300), Norm.linf, 0.75),
    (Bandits(steps=300), Norm.l2, 0.75),
)
EACH = pytest.mark.parametrize(("method", "norm"), [m[:2] for m in METHODS], ids=str)


@pytest.mark.parametrize(("method", "norm", "share"), METHODS, ids=str)
def test_what_can_be_broken_is_and_nothing_else(method: Attack, norm: Norm, share: float) -> None:
    rows, eps = CORRECT[::4], EPS[norm]
    result = attack(method, norm, eps, rows=rows, queries=1000)
    breakable = EXACT[norm][rows] <= eps * (1 + 1e-5)
    assert bool(breakable[result.broken].all())
    assert int(result.broken.sum()) >= share * int(breakable.sum())
    assert float(result.forwards[result.broken].double().mean()) < float(
        result.forwards[~result.broken].double().mean()
    )


@EACH
def test_the_label_to_reach_is_reached(method: Attack, norm: Norm) -> None:
    wide = {Norm.linf: 0.3, Norm.l2: 1.5, Norm.l0: 6}[norm]
    result = attack(method, norm, wide, rows=FEW, goal=Goal.next_class, queries=700)
    assert int(result.broken.sum()) >= (3 if isinstance(method, OnePixel) else 7)


@EACH
def test_a_batch_of_one_is_a_batch_of_many(method: Attack, norm: Norm) -> None:
    whole, single = (attack(method, norm, EPS[norm], rows=FEW[:3], batch=n, queries=230) for n in (3, 1))
    assert torch.equal(whole.x_adv, single.x_adv)
    assert torch.equal(whole.forwards, single.forwards)


@EACH
def test_the_budget_is_kept_and_counted_as_an_independent_counter_does(
    method: Attack, norm: Norm, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = 0

    def counting(x: Tensor, rows: int | None = None) -> Tensor:
        nonlocal seen
        seen += len(x)
        return padded(x, rows)

    monkeypatch.setattr(benchmark.system.passes, "padded", counting)
    for queries in (1, 2, 3, 50, 150):
        seen = 0
        result = attack(method, norm, EPS[norm], rows=FEW, queries=queries)
        assert int(result.forwards.max()) <= queries
        assert int(result.forwards.sum()) == seen


@EACH
def test_only_the_region_changes(method: Attack, norm: Norm) -> None:
    x = DIGITS.x.reshape(-1, 1, 8, 8)
    region = Region(RegionKind.square, 4)
    eps = {Norm.linf: 0.5, Norm.l2: 1.2, Norm.l0: 2}[norm]
    result = attack(method, norm, eps, rows=FEW, x=x, region=region, queries=600)
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, 2:6, 2:6] = True
    assert bool((result.x_adv == result.x)[:, ~mask].all())
    exact = DIGITS.distance(norm, mask.flatten())[FEW]
    assert bool((exact[result.broken] <= eps * (1 + 1e-5)).all())
    assert int(result.broken.sum()) >= 0.5 * int((exact <= eps).sum())


@EACH
def test_a_model_without_gradients_is_no_obstacle(method: Attack, norm: Norm) -> None:
    if isinstance(method, NES):  # its differences must be longer than the model's steps
        method = dataclasses.replace(method, sigma=0.01)
    plain = attack(method, norm, EPS[norm], rows=FEW, queries=400)
    hidden = attack(method, norm, EPS[norm], rows=FEW, queries=400, model=Quantised(DIGITS.model(), 255))
    assert int(hidden.broken.sum()) >= int(plain.broken.sum()) - 2
    assert bool(plain.broken.any())


# --- estimates ---


def _linear(features: int) -> tuple[Oracle, Tensor, Tensor, SampleRandom]:
    """A two-class linear model at the middle of the box, and the gradient of its margin."""
    draw = torch.Generator().manual_seed(1)
    weight = torch.randn(2, features, generator=draw) / 8.0
    weight[0] = 0.0
    system = System(LinearClassifier(weight, torch.tensor([5.0, 0.0])), DataSpec((features,), 2))
    rng = SampleRandom(0, torch.arange(3))
    target = Target(system, rng=rng, classes=2, access=Access.scores)
    return Oracle(target, torch.zeros(3, dtype=torch.int64)), torch.full((3, features), 0.5), weight[1], rng


@pytest.mark.parametrize("kind", ["nes", "spsa"])
def test_nes_and_spsa_estimate_the_gradient(kind: str) -> None:
    """100 d antithetic queries on a linear model."""
    features = 20
    oracle, x, slope, rng = _linear(features)

    def noise(mine: SampleRandom, count: int, first: int) -> Tensor:
        draw = gaussian if kind == "nes" else uniform
        drawn: Tensor = draw(mine, x.shape[1:], count, stream="test", first=first)
        return drawn if kind == "nes" else drawn.sign()

    ball = Threat(Norm.linf, Fraction(1, 10)).around(x, rng)
    pairs = 50 * features
    found = antithetic(oracle, torch.arange(3), ball, x, rng=rng, noise=noise, pairs=pairs, sigma=0.01)
    assert float(nn.functional.cosine_similarity(found, slope.expand_as(found)).min()) > 0.98
    torch.testing.assert_close(found.norm(dim=1), slope.norm().expand(3), rtol=0.1, atol=0)
    assert oracle.target.ledger.forwards.tolist() == [2 * pairs] * 3


@pytest.mark.parametrize("power", [1.0, 2.0, 3.5])
def test_the_surrogate_of_a_linear_function_is_its_gradient_scaled(power: float) -> None:
    """With the 2 d points x +- r e_i the gradient is exactly (power / d) g, for every r."""
    d = 6
    slope = torch.randn(2, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.rand(2, d, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for radius in (1e-3, 0.1, 2.0):
        ahead = radius * torch.cat([torch.eye(d, dtype=torch.float64), -torch.eye(d, dtype=torch.float64)])
        points = x[:, None] + ahead
        value, gradient = shepard(x, points, (points * slope[:, None]).sum(2), power)
        torch.testing.assert_close(gradient, power / d * slope)
        torch.testing.assert_close(value, (x * slope).sum(1))


def test_the_surrogate_interpolates_and_has_the_gradient_of_autograd() -> None:
    draw = torch.Generator().manual_seed(2)
    x, points = (torch.randn(*shape, generator=draw, dtype=torch.float64) for shape in ((4, 5), (4, 9, 5)))
    values = torch.randn(4, 9, generator=draw, dtype=torch.float64)
    leaf = x.clone().requires_grad_(True)
    weight = (leaf[:, None] - points).square().sum(2).sqrt() ** -1.5
    (expected,) = torch.autograd.grad(((weight * values).sum(1) / weight.sum(1)).sum(), leaf)
    value, gradient = shepard(x, points, values, 1.5)
    torch.testing.assert_close(gradient, expected)
    assert bool(((value >= values.amin(1)) & (value <= values.amax(1))).all())
    constant = shepard(x, points, torch.full((4, 9), 3.0, dtype=torch.float64), 1.5)
    torch.testing.assert_close(constant[1], torch.zeros_like(x))
    holes = values.clone()
    holes[:, 3] = torch.nan
    kept = torch.tensor([0, 1, 2, 4, 5, 6, 7, 8])
    torch.testing.assert_close(shepard(x, points, holes, 1.5)[1], shepard(x, points[:, kept], values[:, kept], 1.5)[1])


def test_lines_through_coordinates_have_the_slopes_of_the_model() -> None:
    oracle, x, slope, rng = _linear(12)
    ball = Threat(Norm.linf, Fraction(1, 10)).around(x, rng)
    total = torch.zeros_like(x)
    for step in range(3):
        chosen = visited(rng, 12, 5, step, stream="test")
        total += central_differences(oracle, torch.arange(3), ball, x, chosen, 0.01)
    torch.testing.assert_close(total, slope.expand(3, -1), rtol=1e-3, atol=1e-4)  # each coordinate once per sweep
    assert oracle.target.ledger.forwards.tolist() == [24] * 3


# --- single methods ---


def test_one_pixel_finds_exactly_what_one_pixel_breaks() -> None:
    """94 of the 435 digits have an exact l0 distance of 1; ten candidates per pixel find them all."""
    exact = EXACT[Norm.l0][CORRECT]
    assert int((exact == 1).sum()) == 94
    rows = torch.cat([CORRECT[exact == 1], CORRECT[exact == 2][:20]])
    result = attack(OnePixel(population=640, steps=10), Norm.l0, 1, rows=rows)
    assert result.broken.tolist() == [True] * 94 + [False] * 20
    assert bool((result.far <= 1).all())


def test_one_pixel_changes_whole_pixels_and_no_more_than_eps_allows() -> None:
    x = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    model = LinearClassifier(torch.randn(4, 75, generator=torch.Generator().manual_seed(1)), torch.zeros(4))
    y = model(x).argmax(1).detach()
    result = attack(
        OnePixel(population=20, steps=3), Norm.l0, 7, rows=torch.arange(4), model=model, x=x, y=y, classes=4
    )
    changed = (result.x_adv != result.x).any(1).flatten(1).sum(1)
    assert bool((changed <= 2).all())
    assert bool((result.far <= 6).all())
    with pytest.raises(Refused, match=r"changes pixels of 3 features, but threat.eps is 2; choose at least 3"):
        attack(OnePixel(), Norm.l0, 2, rows=torch.arange(4), model=model, x=x, y=y, classes=4)


@pytest.mark.parametrize("shape", [(7,), (2, 5), (3, 4, 6)])
@pytest.mark.parametrize("basis", list(Basis))
def test_bases_are_orthonormal(shape: tuple[int, ...], basis: Basis) -> None:
    size = torch.Size(shape).numel()
    vectors = waves(torch.arange(size), torch.Size(shape), basis, torch.float64)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(size, dtype=torch.float64))


def test_the_cosine_basis_is_scipys() -> None:
    import scipy.fft

    vectors = waves(torch.arange(24), torch.Size((1, 4, 6)), Basis.dct, torch.float64).reshape(24, 4, 6)
    unit = torch.eye(24, dtype=torch.float64).reshape(24, 4, 6).numpy()
    torch.testing.assert_close(vectors, torch.from_numpy(scipy.fft.idctn(unit, axes=(1, 2), norm="ortho")))


def test_simba_moves_along_one_feature_per_query() -> None:
    result = attack(SimBA(steps=4), Norm.l2, 3, rows=FEW)
    assert bool((result.forwards <= 5).all())
    assert bool(((result.x_adv != result.x).sum(1) <= 4).all())


def test_parsimonious_ends_in_corners_and_is_exact_on_a_two_class_model() -> None:
    """With two classes the margin is a modular function of the set, and the greedy search finds its maximum."""
    two = DIGITS.weight[[3, 8]]
    bias = DIGITS.bias[[3, 8]]
    model = LinearClassifier(two, bias)
    x = DIGITS.x[CORRECT[:40]]
    y = model(x.float()).argmax(1)
    eps = 0.05
    result = attack(Parsimonious(), Norm.linf, eps, rows=torch.arange(40), model=model, x=x, y=y, classes=2)
    sign = torch.where(y == 0, 1.0, -1.0)[:, None] * (two[1] - two[0]).sign()
    best = (x + eps * sign).clamp(0, 1)
    reached = model(best.float()).argmax(1) != y
    assert torch.equal(result.broken, reached)


def test_blocks_partition_the_features() -> None:
    for shape, side, count in (((3, 6, 6), 4, 12), ((10,), 4, 3), ((2, 5), 2, 6), ((1, 8, 8), 1, 64)):
        blocks = blocks_of(torch.Size(shape), side)
        assert len(blocks) == count
        assert bool((blocks.sum(0) == 1).all())


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: NES(pairs=0), "attack.pairs is 0; expected at least 1"),
        (lambda: SPSA(sigma=0.0), "attack.sigma is 0.0; expected more than 0"),
        (lambda: OnePixel(population=3), "attack.population is 3; expected at least 4"),
        (lambda: SurrogateGradient(power=-1.0), "attack.power is -1.0; expected more than 0"),
    ],
)
def test_settings_are_checked(build: type, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        build()


# --- ZOO and Bandits ---


def test_newton_solves_a_separable_quadratic_in_one_visit_per_coordinate() -> None:
    draw = torch.Generator().manual_seed(0)
    centre, start = torch.rand(2, 4, 9, generator=draw, dtype=torch.float64)
    scale = 0.1 + torch.rand(4, 9, generator=draw, dtype=torch.float64)
    x, state, rows, h = start.clone(), Steps(Solver.newton, 1.0, start), torch.arange(4), 1e-3

    def value(at: Tensor) -> Tensor:
        squares: Tensor = scale * (at - centre).square()
        return squares.sum(1) / 2.0

    rng = SampleRandom(0, rows)
    for step in range(3):  # nine coordinates, four at a time
        chosen = visited(rng, 9, 4, step, stream="test")
        ahead = torch.stack([torch.zeros_like(x).scatter_(1, chosen[:, k : k + 1], h) for k in range(chosen.shape[1])])
        plus, minus = (torch.stack([value(x + sign * a) for a in ahead], 1) for sign in (1, -1))
        slope, curvature = differences(plus, minus, value(x)[:, None], h)
        x = x.scatter_add(1, chosen, state.change(rows, chosen, slope, curvature))
    torch.testing.assert_close(x, centre, rtol=0, atol=1e-7)


def test_solvers_take_the_steps_of_the_paper() -> None:
    like, rows, chosen = torch.zeros(2, 5, dtype=torch.float64), torch.arange(2), torch.tensor([[1, 4], [0, 2]])
    slope = torch.tensor([[0.3, -2.0], [1e-3, 5.0]], dtype=torch.float64)
    curvature = torch.tensor([[-1.0, 0.01], [2.0, 0.5]], dtype=torch.float64)
    adam = Steps(Solver.adam, 0.01, like)
    torch.testing.assert_close(adam.change(rows, chosen, slope, curvature), -0.01 * slope.sign(), rtol=1e-4, atol=0)
    other = torch.tensor([[0, 4], [3, 2]])  # the first of each is new, the second has its second step
    change = adam.change(rows, other, -slope, curvature)
    torch.testing.assert_close(change[:, 0], 0.01 * slope[:, 0].sign(), rtol=1e-4, atol=0)
    mean = (0.9 * 0.1 - 0.1) * slope[:, 1] / (1 - 0.81)
    torch.testing.assert_close(change[:, 1], -0.01 * mean / slope[:, 1].abs(), rtol=1e-4, atol=0)
    torch.testing.assert_close(Steps(Solver.sgd, 0.01, like).change(rows, chosen, slope, curvature), -0.01 * slope)
    newton = Steps(Solver.newton, 1.0, like).change(rows, chosen, slope, curvature)
    torch.testing.assert_close(newton, -slope / torch.tensor([[1.0, 0.1], [2.0, 0.5]], dtype=torch.float64))


@pytest.mark.parametrize(
    ("solver", "steps", "median"), [(Solver.adam, 60, 1.01), (Solver.sgd, 60, 1.01), (Solver.newton, 60, 1.2)]
)
def test_zoo_comes_near_the_exact_distances_and_never_below(solver: Solver, steps: int, median: float) -> None:
    result = attack(ZOO(steps=steps, solver=solver), Norm.l2, rows=FEW[::3])
    assert bool(result.broken.all())
    assert float(result.ratio.min()) >= 1 - 1e-4
    assert float(result.ratio.median()) <= median
    # 64 features: every iteration asks about all of them, at two points each, and about the iterate.
    assert result.forwards.tolist() == [129 * steps * 5] * 5


def test_zoo_leaves_misclassified_inputs() -> None:
    wrong = (DIGITS.logits(DIGITS.x).argmax(1) != DIGITS.y).nonzero().squeeze(1)[:8]
    result = attack(ZOO(steps=3), Norm.l2, rows=wrong)
    assert bool((result.far == 0).all())
    assert result.forwards.tolist() == [1] * 8


def test_zoo_and_bandits_reach_a_label_within_a_budget_batch_by_batch() -> None:
    for method, norm in ((ZOO(steps=8, step_size=0.1, constant=5.0), Norm.l2), (Bandits(steps=100), Norm.linf)):
        whole, single = (
            attack(method, norm, 0.4, rows=FEW[:6], batch=n, queries=1001, goal=Goal.next_class) for n in (6, 1)
        )
        assert torch.equal(whole.x_adv, single.x_adv)
        assert torch.equal(whole.forwards, single.forwards)
        assert int(whole.broken.sum()) >= 4


def test_tiles_share_a_value() -> None:
    for shape, tile, small in (((3, 5, 7), 2, (3, 3, 4)), ((9,), 4, (3,)), ((2, 5), 5, (2, 1))):
        assert tiled(torch.Size(shape), tile) == torch.Size(small)
        values = torch.arange(2 * torch.Size(small).numel(), dtype=torch.float32).reshape(2, *small)
        wide = spread(values, torch.Size(shape), tile)
        assert wide.shape == (2, *shape)
        assert torch.equal(wide[..., ::tile] if len(shape) < 3 else wide[..., ::tile, ::tile], values)
        assert set(wide.flatten().tolist()) == set(values.flatten().tolist())
