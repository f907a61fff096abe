"""Certificates against closed forms, exact distances and attacks: certified <= exact <= attacked on every example."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from benchmark_plugins.attacks.fmn import FMN
from benchmark_plugins.attacks.pgd import PGD
from benchmark_plugins.certifiers._graph import boxes, relaxations
from benchmark_plugins.certifiers._graph.balls import Around
from benchmark_plugins.certifiers._graph.graph import Graph
from benchmark_plugins.certifiers._graph.reading import differences, read
from benchmark_plugins.certifiers.crown import Crown, least_differences
from benchmark_plugins.certifiers.exact import Exact
from benchmark_plugins.certifiers.interval import IntervalBounds
from benchmark_plugins.certifiers.lipschitz import LipschitzMargin
from benchmark_plugins.certifiers.semidefinite import Semidefinite, dual_bound, optimised_bound, quadratic
from benchmark_plugins.certifiers.smoothing import RandomizedSmoothing, l1_radius, l2_radius, lower_limit
from benchmark_plugins.defenses.smoothing import Smoothing
from torch import Tensor, nn

from benchmark import registry, sampling
from benchmark.api import Certifier, DataSpec, Defense
from benchmark.errors import Refused
from benchmark.oracles.linear import exact_distance, nearest_class_mean
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.testing import contract
from benchmark.threat import Norm, Threat
from tests.plugins.black_box import attack

DIGITS = nearest_class_mean("digits")
LINEAR = System(DIGITS.model(), DataSpec((64,), 10))
ROWS = torch.arange(0, 500, 10)
X, Y = DIGITS.x.float()[ROWS], DIGITS.y[ROWS]


def radii(certifier: Certifier, system: System, x: Tensor, y: Tensor, norm: Norm, eps: str = "1/10") -> Tensor:
    rng = SampleRandom(0, torch.arange(len(x)))
    return certifier.certify(system, x, y, threat=Threat(norm, Fraction(eps)), rng=rng)


class Toy(nn.Module):
    """Scores of one class: h1 + h2 with h = relu((v1 + v2, v1 - v2)) and v = 2 x - 1 in [-1, 1]^2."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
        self.last = nn.Parameter(torch.tensor([[1.0, 1.0], [0.0, 0.0]]))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu((2 * x - 1) @ self.first.T) @ self.last.T


def toy() -> tuple[Graph, Around]:
    x = torch.full((1, 2), 0.5)
    graph = read(System(Toy(), DataSpec((2,), 2)), x, torch.tensor([0]), "certifier.test").graph
    return graph, Around(x.double(), torch.full((1,), 0.5, dtype=torch.float64), Norm.linf)


UP_DOWN = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]], dtype=torch.float64)


def test_intervals_of_the_toy_network_are_0_and_4() -> None:
    graph, around = toy()
    found = boxes.intervals(graph, around.low, around.high)
    assert boxes.least_differences(graph, found, UP_DOWN).tolist() == [[0.0, -4.0]]


def test_relaxations_of_the_toy_network_are_3_and_minus_2_and_optimised_slopes_find_0() -> None:
    graph, around = toy()
    relaxed = relaxations.kinks(graph, around)
    plain = relaxations.lower_bound(graph, {graph.logits: UP_DOWN}, relaxed, around)
    torch.testing.assert_close(plain, torch.tensor([[-2.0, -3.0]], dtype=torch.float64))
    flat = {node: kink.sloped(torch.zeros_like(kink.below)) for node, kink in relaxed.items()}
    zero = relaxations.lower_bound(graph, {graph.logits: UP_DOWN}, flat, around)
    torch.testing.assert_close(zero[:, 0], torch.zeros(1, dtype=torch.float64))
    from benchmark_plugins.certifiers.crown import _optimised

    best = _optimised(graph, around, UP_DOWN, relaxed, 20, 0.2)
    torch.testing.assert_close(best, torch.tensor([[0.0, -3.0]], dtype=torch.float64))


def test_the_toy_network_is_between_0_and_2_by_exhaustion() -> None:
    graph, _ = toy()
    corners = torch.tensor(list(itertools.product((0.0, 0.5, 1.0), repeat=2)), dtype=torch.float64)  # of its pieces
    values = graph(corners)[:, 0]
    assert (float(values.min()), float(values.max())) == (0.0, 2.0)


def network(*sizes: int, seed: int = 0) -> System:
    """Drawn at random; in the middle of the box all scores are zero."""
    draw = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layer = nn.Linear(inputs, outputs)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(outputs, inputs, generator=draw) * 2 / inputs**0.5)
            layer.bias.copy_(torch.randn(outputs, generator=draw) * 0.3)
        layers += [layer, nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    with torch.no_grad():
        layers[-2].get_parameter("bias").sub_(model(torch.full((1, sizes[0]), 0.5))[0])
    return System(model, DataSpec((sizes[0],), sizes[-1]))


def inputs(system: System, count: int = 10) -> tuple[Tensor, Tensor]:
    """In the box, some on its ends, with what the system says of them; the last label is wrong."""
    draw = torch.Generator().manual_seed(1)
    x = (torch.rand(count, *system.spec.shape, generator=draw) * 1.2 - 0.1).clamp(0.0, 1.0)
    y = system.logits(x, SampleRandom(0, torch.arange(count))).argmax(1)
    y[-1] = (y[-1] + 1) % system.spec.classes
    return x, y


class Residual(nn.Module):
    """A residual block, leaky units and a maximum."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.first, self.middle, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(3, 3)
        with torch.no_grad():
            self.last.bias.sub_(self(torch.full((1, 6), 0.5))[0])

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x * 3))
        h = nn.functional.leaky_relu(self.middle(h) + h, 0.2)
        logits: Tensor = self.last(torch.maximum(h[:, :3], h[:, 3:]))
        return logits * 5


SYSTEMS = {
    "one layer": network(6, 8, 3),
    "two layers": network(5, 6, 6, 3, seed=2),
    "residual": System(Residual(), DataSpec((6,), 3)),
}
BOUNDS: tuple[Certifier, ...] = (IntervalBounds(), Crown(steps=0), Crown(), Semidefinite())


@pytest.mark.parametrize("name", SYSTEMS)
def test_certified_exact_and_attacked_stand_in_this_order_on_every_example(name: str) -> None:
    system = SYSTEMS[name]
    x, y = inputs(system)
    exact = radii(Exact(), system, x, y, Norm.linf).double()
    run = attack(FMN(), Norm.linf, rows=torch.arange(9), model=system.model, x=x.double(), y=y, classes=3)
    assert int(run.broken.sum()) >= 5
    assert bool((run.far >= exact[:9] * (1 - 1e-4))[run.broken].all())
    found = {}
    for certifier in BOUNDS:
        try:
            found[certifier] = radii(certifier, system, x, y, Norm.linf)
        except Refused:
            assert isinstance(certifier, Semidefinite)
            assert name != "one layer"
    for certifier, radius in found.items():
        assert bool((radius <= exact * (1 + 1e-5) + 1e-7).all()), certifier
        assert radius[-1] == 0
        assert bool((radius > 0).any()), certifier
    assert bool((found[BOUNDS[0]] <= found[BOUNDS[1]]).all())  # on every example
    assert bool((found[BOUNDS[1]] <= found[BOUNDS[2]]).all())
    assert float(found[BOUNDS[1]].sum()) > float(found[BOUNDS[0]].sum())


@pytest.mark.parametrize("norm", [Norm.l2, Norm.l1])
@pytest.mark.parametrize("name", SYSTEMS)
def test_in_other_norms_no_attack_comes_nearer_than_what_is_certified(name: str, norm: Norm) -> None:
    system = SYSTEMS[name]
    x, y = inputs(system)
    run = attack(FMN(), norm, rows=torch.arange(9), model=system.model, x=x.double(), y=y, classes=3)
    assert int(run.broken.sum()) >= 5
    for certifier in (Crown(), LipschitzMargin()):
        if norm not in certifier.supports.norms:
            continue
        radius = radii(certifier, system, x, y, norm, "1/5")
        assert bool((run.far >= radius[:9].double())[run.broken].all()), certifier
        assert bool((radius > 0).any())
    if norm is Norm.l1:
        exact = radii(Exact(), system, x[:4], y[:4], norm)
        assert bool((radii(Crown(), system, x[:4], y[:4], norm) <= exact + 1e-6).all())


def test_bounds_hold_at_random_points_and_at_no_radius_are_the_scores() -> None:
    system = SYSTEMS["residual"]
    x, y = inputs(system)
    graph = read(system, x, y, "certifier.test").graph
    chosen = differences(graph, y)
    truth = (chosen @ graph(x.double())[:, :, None]).squeeze(2)
    draw = torch.Generator().manual_seed(2)
    for norm in (Norm.linf, Norm.l2, Norm.l1):
        nothing = Around(x.double(), torch.zeros(len(x), dtype=torch.float64), norm)
        torch.testing.assert_close(least_differences(graph, nothing, chosen), truth)
        around = Around(x.double(), torch.full((len(x),), 0.2, dtype=torch.float64), norm)
        bound = least_differences(graph, around, chosen, 5)
        for _ in range(200):
            step = torch.randn(x.shape, generator=draw, dtype=torch.float64)
            size = {Norm.linf: step.abs().amax(1), Norm.l2: step.norm(dim=1), Norm.l1: step.abs().sum(1)}[norm]
            at = (x.double() + 0.2 * step / size[:, None]).clamp(0.0, 1.0)
            assert bool(((chosen @ graph(at)[:, :, None]).squeeze(2) >= bound - 1e-12).all())


def test_merging_the_last_layer_with_the_difference_is_tighter() -> None:
    system = SYSTEMS["one layer"]
    x, y = inputs(system)
    graph = read(system, x, y, "certifier.test").graph
    found = boxes.intervals(graph, (x.double() - 0.05).clamp_min(0), (x.double() + 0.05).clamp_max(1))
    low, high = found[graph.logits]
    merged = boxes.least_differences(graph, found, differences(graph, y)).amin(1)
    apart = (low.gather(1, y[:, None]) - high.scatter(1, y[:, None], -torch.inf).amax(1, keepdim=True)).squeeze(1)
    assert bool((merged >= apart - 1e-12).all())
    assert bool((merged > apart + 1e-3).any())


@pytest.mark.parametrize("certifier", [IntervalBounds(halvings=25), Crown(halvings=25)], ids=["interval", "crown"])
def test_linear_classifiers_are_exact_under_linf(certifier: Certifier) -> None:
    exact = DIGITS.distance(Norm.linf)[ROWS]
    radius = radii(certifier, LINEAR, X, Y, Norm.linf, "1/5").double()
    torch.testing.assert_close(radius, exact, rtol=1e-3, atol=1e-5)
    assert bool((radius <= exact).all())


def test_intervals_are_exact_where_no_weight_is_negative() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.get_parameter("weight").abs_()
    x = torch.rand(6, 4, generator=torch.Generator().manual_seed(0))
    graph = read(System(model, DataSpec((4,), 2)), x, torch.zeros(6).long(), "certifier.test").graph
    low, high = (x.double() - 0.1).clamp_min(0), (x.double() + 0.1).clamp_max(1)
    ends = boxes.intervals(graph, low, high)[graph.logits]
    torch.testing.assert_close(ends[0], graph(low))
    torch.testing.assert_close(ends[1], graph(high))


def test_lipschitz_margins_per_pair_certify_the_shares_of_a_linear_classifier_and_one_constant_does_not() -> None:
    radius = radii(LipschitzMargin(), LINEAR, DIGITS.x.float(), DIGITS.y, Norm.l2)
    shares = [float((radius >= eps).double().mean()) for eps in (0.1, 0.25, 0.5, 0.75)]
    np.testing.assert_allclose(shares, [0.820, 0.752, 0.574, 0.324], atol=1e-9)
    logits = DIGITS.logits(DIGITS.x)
    rival = logits.scatter(1, DIGITS.y[:, None], -torch.inf).amax(1)
    margin = logits.gather(1, DIGITS.y[:, None]).squeeze(1) - rival
    spectral = float(torch.linalg.matrix_norm(DIGITS.weight, 2))
    assert round(spectral, 3) == 20.331
    assert float((margin / (2**0.5 * spectral) >= 0.1).double().mean()) == 0.302
    assert bool((radius.double() <= DIGITS.distance(Norm.l2)).all())


def test_the_semidefinite_bound_holds_for_any_dual_and_optimising_it_helps() -> None:
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 4, generator=draw, dtype=torch.float64)
    direction = torch.randn(5, generator=draw, dtype=torch.float64)
    matrix = quadratic(weight, direction)
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=10)), dtype=torch.float64)
    largest = torch.einsum("ni,ij,nj->n", signs, matrix, signs).max()  # over z z^T, which the bound relaxes
    slopes, moves = signs[:, :5].clamp_min(0.0), signs[:, 5:9]
    rise = torch.einsum("nd,hd,h,nh->n", moves, weight, direction, slopes).max()
    assert float(rise) == pytest.approx(float(largest) / 4)  # what theorem 2 starts from
    for _ in range(20):
        dual = torch.randn(1, 10, generator=draw, dtype=torch.float64) * 5
        assert float(dual_bound(matrix[None], dual)) >= float(largest)
    few, many = optimised_bound(matrix[None], 0), optimised_bound(matrix[None], 300)
    assert float(largest) <= float(many) < float(few)
    assert float(many) <= 1.25 * float(largest)


def test_two_hidden_layers_are_refused_by_the_semidefinite_bound() -> None:
    x, y = inputs(SYSTEMS["two layers"])
    with pytest.raises(
        Refused, match=r"bounds networks with one hidden layer, but this one has 2; use certifier=crown"
    ):
        radii(Semidefinite(), SYSTEMS["two layers"], x, y, Norm.linf)


class Spike(nn.Module):
    """Right everywhere but in a spike around one point, and before it rises away from that point.

    The spike: score 1 - 2 relu(1 - 20 ||x - hidden||_1) + 0.1 sum(hidden - x). Gradients outside it lead away.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Parameter(torch.full((6,), 0.6))

    def forward(self, x: Tensor) -> Tensor:
        far = (x - self.hidden).abs() @ x.new_ones(6, 1)
        margin = 1 - 2 * torch.relu(1 - 20 * far) - 0.1 * (x @ x.new_ones(6, 1) * -1 + 3.6)
        return margin @ x.new_tensor([[1.0, -1.0]])


class Ridge(nn.Module):
    """One hidden layer: wrong on a thin layer of the box, flat on both sides of it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 3)
        self.last = nn.Linear(3, 2)
        with torch.no_grad():
            self.first.weight.fill_(1.0)
            self.first.bias.copy_(torch.tensor([-3.29, -3.30, -3.31]))
            bump = torch.tensor([1.0, -2.0, 1.0]) * 200
            self.last.weight.copy_(torch.stack([-bump, bump]))
            self.last.bias.copy_(torch.tensor([1.0, -1.0]))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(torch.relu(self.first(x)))
        return logits


@pytest.mark.parametrize(("model", "hidden"), [(Spike(), 0.6), (Ridge(), 0.55)], ids=["spike", "ridge"])
def test_a_hidden_counterexample_that_pgd_misses_is_certified_by_nobody(model: nn.Module, hidden: float) -> None:
    system, rng = System(model, DataSpec((6,), 2)), SampleRandom(0, torch.arange(1))
    x, y, eps = torch.full((1, 6), 0.5), torch.tensor([0]), "11/100"
    assert system.logits(x, rng).argmax() == 0
    assert system.logits(torch.full((1, 6), hidden), rng).argmax() == 1
    run = attack(
        PGD(steps=40, step_size=0.02), Norm.linf, eps, rows=torch.arange(1), model=model, x=x.double(), y=y, classes=2
    )
    assert not bool(run.broken.any())
    answered = 0
    for name in registry.names("certifier"):
        certifier = contract.build("certifier", name)
        for norm in certifier.supports.norms:
            far = {Norm.linf: 0.1, Norm.l2: 0.1 * 6**0.5, Norm.l1: 0.6, Norm.l0: 6.0}[norm]
            try:
                radius = certifier.certify(
                    system, x, y, threat=Threat(norm, Fraction(6 if norm is Norm.l0 else eps)), rng=rng
                )
            except Refused:
                continue
            answered += 1
            assert float(radius) <= far, name
    assert answered >= 6


# --- randomised smoothing --------------------------------------------------------------------------------------------


def test_the_limit_of_clopper_and_pearson_gives_the_published_radii() -> None:
    draws = torch.tensor([100, 1000, 10_000, 100_000])
    limits = torch.cat([lower_limit(n[None], int(n), 0.001) for n in draws])
    np.testing.assert_allclose(limits.numpy(), [0.93325, 0.99312, 0.99931, 0.99993], atol=5e-6)
    np.testing.assert_allclose(l2_radius(limits, 1.0).numpy(), [1.5005, 2.4633, 3.1986, 3.8115], atol=5e-5)
    part = lower_limit(torch.tensor([980]), 1000, 0.001)
    np.testing.assert_allclose([float(part), float(l2_radius(part, 1.0))], [0.96230, 1.7780], atol=5e-5)
    known = torch.tensor([0.9, 0.98], dtype=torch.float64)
    np.testing.assert_allclose(l2_radius(known, 1.0).numpy(), [1.281552, 2.0537], atol=5e-5)
    np.testing.assert_allclose(l1_radius(known, 1.0).numpy(), [0.8, 0.96], atol=1e-12)
    for right, total in ((66, 100), (550, 1000), (5156, 10_000)):  # the least that is not abstained
        assert float(lower_limit(torch.tensor([right]), total, 0.001)) > 0.5
        assert float(lower_limit(torch.tensor([right - 1]), total, 0.001)) <= 0.5
    assert float(lower_limit(torch.tensor([0]), 10, 0.001)) == 0.0


@dataclass(frozen=True)
class Noise(Defense):
    """Noise on the input. law: normal or uniform. clipped: to the box. twice: scaled by two in secret.

    fault: fixed, the same in each pass; paired, the same in two features; uneven, larger where the input varies.
    """

    randomized = True
    sigma: float = 0.25
    law: str = "normal"
    clipped: bool = False
    twice: bool = False
    fault: str = ""

    def protect(self, model: nn.Module) -> nn.Module:
        return Noisy(model, self)


class Noisy(nn.Module):
    def __init__(self, model: nn.Module, how: Noise) -> None:
        super().__init__()
        self.model, self.how = model, how

    def forward(self, x: Tensor) -> Tensor:
        rng, how = sampling.ambient(), self.how
        uniform = rng.uniform(*x.shape[1:], stream="noise", low=-1.0, high=1.0)
        if how.fault == "fixed":
            rng = SampleRandom(0, rng.ids)
        noise = rng.normal(*x.shape[1:], stream="noise") if how.law == "normal" else uniform
        if how.fault == "paired":
            noise[:, 1] = noise[:, 0]
        if how.fault == "uneven":
            noise = noise * (1.0 + x.std(1, keepdim=True))
        noisy = x + how.sigma * (2 if how.twice else 1) * noise
        logits: Tensor = self.model(noisy.clamp(0.0, 1.0) if how.clipped else noisy)
        return logits


def binary(*defenses: Defense) -> System:
    """A linear classifier of two classes in four features."""
    model = nn.Linear(4, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 0.5, -0.5, 0.2], [-1.0, -0.5, 0.5, -0.2]]))
        model.bias.copy_(torch.tensor([-0.6, 0.6]))
    return System(model, DataSpec((4,), 2), defenses)


def test_a_linear_classifier_of_two_classes_is_certified_up_to_its_margin() -> None:
    system = binary(Noise(0.25))
    x = torch.rand(8, 4, generator=torch.Generator().manual_seed(0))
    layer: Any = system.model
    weight, bias = layer.weight.double(), layer.bias.double()
    gap = (x.double() @ weight.T + bias) @ torch.tensor([1.0, -1.0]).double()
    y, margin = (gap < 0).long(), gap.abs() / (weight[0] - weight[1]).norm()
    certifier = RandomizedSmoothing(draws=2000)
    radius = radii(certifier, system, x, y, Norm.l2).double()
    assert bool((radius <= margin).all())  # each with probability 0.999, and for this seed
    near = margin < 0.4  # p is not at its ceiling
    assert int(near.sum()) >= 3
    assert bool((radius[near] >= margin[near] - 0.05).all())
    assert bool((radii(certifier, system, x, 1 - y, Norm.l2) == 0).all())
    uniform = radii(certifier, binary(Noise(0.5, "uniform")), x, y, Norm.l1).double()
    assert bool((uniform <= exact_distance(weight, bias, x.double(), y, Norm.l1) + 1e-6).all())
    assert bool((uniform > 0).any())


def test_the_class_is_chosen_by_draws_that_do_not_count() -> None:
    system, rng = binary(Noise(0.25)), SampleRandom(0, torch.arange(1))
    seen: list[Tensor] = []
    system.model.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    RandomizedSmoothing(selection=32, draws=32).certify(
        system, torch.full((1, 4), 0.5), torch.tensor([0]), threat=Threat(Norm.l2, Fraction(1, 4)), rng=rng
    )
    drawn = torch.cat(seen)
    assert len(drawn) == 64
    assert len(drawn.unique(dim=0)) == 64


@pytest.mark.parametrize(
    ("defenses", "norm", "sentence"),
    [
        ((), Norm.l2, r"needs a system whose only defense at inference adds noise .* at inference: none"),
        ((Noise(), Noise()), Norm.l2, r"at inference: Noise, Noise"),
        ((Noise(clipped=True),), Norm.l2, r"depends on its input, or the sum is clipped"),
        ((Noise(twice=True),), Norm.l2, r"needs Gaussian noise of scale 0\.25 under l2, but this system adds another"),
        ((Noise(),), Norm.l1, r"needs uniform noise of scale 0\.25 under l1"),
        ((Noise(law="uniform"),), Norm.l2, r"needs Gaussian noise"),
        ((Noise(fault="fixed"),), Norm.l2, r"needs Gaussian noise"),
        ((Noise(fault="paired"),), Norm.l2, r"independent in each feature and each pass, but .* repeats itself"),
        ((Noise(fault="uneven"),), Norm.l2, r"depends on its input"),
    ],
)
def test_another_system_than_a_smoothed_one_is_refused(
    defenses: tuple[Defense, ...], norm: Norm, sentence: str
) -> None:
    with pytest.raises(Refused, match=sentence):
        radii(RandomizedSmoothing(draws=10), binary(*defenses), torch.rand(2, 4), torch.zeros(2).long(), norm)


def test_scores_that_are_not_finite_count_for_no_class() -> None:
    system = binary(Noise(0.25))
    with torch.no_grad():
        system.get_parameter("model.bias").fill_(torch.nan)
    assert bool(
        (radii(RandomizedSmoothing(draws=100), system, torch.rand(2, 4), torch.zeros(2).long(), Norm.l2) == 0).all()
    )


def test_the_deployed_smoothing_defense_is_certified() -> None:
    x = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    y = binary().logits(x, SampleRandom(0, torch.arange(3))).argmax(1)
    radius = radii(RandomizedSmoothing(draws=500), binary(Smoothing(sigma=0.25)), x, y, Norm.l2)
    torch.testing.assert_close(
        radius, radii(RandomizedSmoothing(draws=500), binary(Noise(0.25)), x, y, Norm.l2), rtol=0, atol=0.1
    )
    assert bool((radius > 0).any())
