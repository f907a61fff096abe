"""The exact distances of ReLU networks: against grids, every activation pattern, closed forms and attacks."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from benchmark_plugins.attacks.fmn import FMN
from benchmark_plugins.attacks.pdpgd import PDPGD
from benchmark_plugins.certifiers.exact import Exact
from benchmark_plugins.defenses.jpeg import Jpeg
from scipy.optimize import linprog
from torch import Tensor, nn

from benchmark.data import DataSpec
from benchmark.errors import DataError, Refused
from benchmark.oracles.linear import nearest_class_mean
from benchmark.oracles.relu import SOLVED, ReLUNet
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.threat import Norm, Threat
from tests.plugins.black_box import attack


def network(*sizes: int, seed: int = 0) -> nn.Sequential:
    """Drawn at random; in the middle of the box all logits are zero."""
    draw = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in itertools.pairwise(sizes):
        layer = nn.Linear(inputs, outputs)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(outputs, inputs, generator=draw) * 2 / inputs**0.5)
            layer.bias.copy_(torch.randn(outputs, generator=draw) * 0.3)
        layers += [layer, nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    with torch.no_grad():
        layers[-2].bias.sub_(model(torch.full((1, sizes[0]), 0.5))[0])  # type: ignore[operator]
    return model


def inputs(count: int, features: int) -> Tensor:
    """In the box, some on its ends."""
    draw = torch.Generator().manual_seed(1)
    return (torch.rand(count, features, generator=draw) * 1.2 - 0.1).clamp(0.0, 1.0)


@pytest.mark.parametrize("norm", SOLVED)
def test_in_the_plane_a_grid_finds_the_same(norm: Norm) -> None:
    net = ReLUNet.of(network(2, 6, 5, 3), (2,))
    x = inputs(12, 2)
    y = net.logits(x).argmax(1)
    axis = torch.linspace(0.0, 1.0, 301, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    said = net.logits(grid).argmax(1)
    gap = (grid[None] - x.double()[:, None]).abs()
    far = gap.amax(2) if norm is Norm.linf else gap.sum(2)
    least = torch.where(said[None] != y[:, None], far, torch.inf).amin(1)
    exact = net.distance(x, y, norm)
    assert int(exact.isfinite().sum()) > 0
    assert torch.equal(exact.isfinite(), least.isfinite())
    known = exact.isfinite()
    assert bool((exact[known] <= least[known] + 1e-6).all())
    assert bool((exact[known] >= least[known] - 2 * 2 / 300).all())  # the next point of the grid is that near


def by_patterns(net: ReLUNet, x: np.ndarray, y: int, norm: Norm) -> float:
    """The least distance over all patterns of active units, classes and faces: a linear program for each."""
    (first, last), (shift, end) = net.weights, net.biases
    size, best = len(x), np.inf
    changes = 1 if norm is Norm.linf else size
    spread = np.ones((size, 1)) if norm is Norm.linf else np.eye(size)
    for pattern in itertools.product((0.0, 1.0), repeat=len(shift)):
        on = np.array(pattern)
        inside = (1.0 - 2.0 * on)[:, None] * first  # (1 - 2 on) z <= 0
        for k in set(range(len(end))) - {y}:
            rise = (last[y] - last[k]) * on
            rows = np.block(
                [
                    [np.eye(size), -spread],
                    [-np.eye(size), -spread],
                    [inside, np.zeros((len(shift), changes))],
                    [(rise @ first)[None], np.zeros((1, changes))],
                ]
            )
            limits = np.r_[x, -x, -(1.0 - 2.0 * on) * shift, end[k] - end[y] - rise @ shift]
            cost = np.r_[np.zeros(size), np.ones(changes)]
            found = linprog(cost, A_ub=rows, b_ub=limits, bounds=[(0, 1)] * size + [(0, None)] * changes)
            if found.status == 0:
                best = min(best, found.fun)
    return float(best)


@pytest.mark.parametrize("norm", SOLVED)
def test_every_pattern_of_active_units_gives_the_same(norm: Norm) -> None:
    net = ReLUNet.of(network(4, 5, 3, seed=3), (4,))
    x = inputs(5, 4)
    y = net.logits(x).argmax(1)
    theirs = [by_patterns(net, row.double().numpy(), int(label), norm) for row, label in zip(x, y, strict=True)]
    np.testing.assert_allclose(net.distance(x, y, norm).numpy(), theirs, atol=1e-6)


@pytest.mark.parametrize("norm", SOLVED)
def test_a_network_whose_units_are_all_active_is_linear(norm: Norm) -> None:
    problem = nearest_class_mean("iris")
    lift = 10.0  # relu(x + lift) - lift is x, in the box
    net = ReLUNet(
        (np.eye(4), problem.weight.numpy()), (np.full(4, lift), (problem.bias - lift * problem.weight.sum(1)).numpy())
    )
    np.testing.assert_allclose(net.distance(problem.x, problem.y, norm), problem.distance(norm), atol=1e-6)
    folded = (torch.cat([problem.x, -problem.x], 1) * 2).relu()  # and one with kinks: relu(v) - relu(-v) is v
    assert torch.equal(folded[:, :4] - folded[:, 4:], problem.x * 2)
    kinked = ReLUNet(
        (np.r_[np.eye(4), -np.eye(4)], np.c_[problem.weight.numpy(), -problem.weight.numpy()]),
        (np.r_[np.full(4, -0.5), np.full(4, 0.5)], (problem.bias + 0.5 * problem.weight.sum(1)).numpy()),
    )
    np.testing.assert_allclose(
        kinked.distance(problem.x[::5], problem.y[::5], norm), problem.distance(norm)[::5], atol=1e-6
    )


@pytest.mark.parametrize(("norm", "method"), [(Norm.linf, FMN()), (Norm.l1, PDPGD(steps=200))])
def test_attacks_come_near_and_never_nearer(norm: Norm, method: FMN | PDPGD) -> None:
    model, x = network(9, 6, 6, 4, seed=2), inputs(20, 9)
    net = ReLUNet.of(model, (9,))
    y = net.logits(x).argmax(1)
    exact = net.distance(x, y, norm)
    run = attack(method, norm, rows=torch.arange(20), model=model, x=x.double(), y=y, classes=4)
    ratio = (run.far / exact)[run.broken & exact.isfinite()]
    assert int(run.broken.sum()) >= 15
    assert float(ratio.min()) >= 1 - 1e-4
    assert float(ratio.median()) <= 1.05


def test_scales_and_shifts_before_the_first_layer_are_read() -> None:
    class Shifted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x - torch.tensor([[0.1], [0.2], [0.3]])) / 0.5

    model = nn.Sequential(Shifted(), network(6, 5, 4))
    x = inputs(7, 6).reshape(7, 3, 2)
    torch.testing.assert_close(ReLUNet.of(model, (3, 2)).logits(x).float(), model(x).detach(), rtol=0, atol=1e-5)


class Curved(nn.Module):
    """A curve that a line meets at 0, at one half and at 1."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * torch.sin(2 * torch.pi * x)


class Around(nn.Module):
    """A layer of its own with a way around it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = self.inner(x)
        return inner + x


def test_what_is_no_such_network_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"Conv2d is not a sequence with linear layers; exact distances are known only for"
    ):
        ReLUNet.of(nn.Conv2d(1, 1, 1), (1, 2, 2))
    with pytest.raises(DataError, match=r"between two linear layers there must be one ReLU and nothing else"):
        ReLUNet.of(nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)), (2,))
    with pytest.raises(DataError, match=r"must scale and shift each feature separately"):
        ReLUNet.of(nn.Sequential(nn.Softmax(1), nn.Linear(2, 2)), (2,))
    for curved in (Curved(), nn.Sigmoid(), nn.Hardtanh(0.2, 0.8)):  # of one or two features, too
        for size in (1, 2, 3):
            with pytest.raises(DataError, match=r"must scale and shift each feature separately"):
                ReLUNet.of(nn.Sequential(curved, nn.Linear(size, 2)), (size,))
    with pytest.raises(DataError, match=r"its scores are not those of its layers one after the other"):
        ReLUNet.of(nn.Sequential(nn.Flatten(), Around()), (2,))
    with pytest.raises(DataError, match=r"a ReLU network is solved under linf, l1, not l2"):
        ReLUNet.of(network(2, 3, 2), (2,)).distance(inputs(1, 2), torch.tensor([0]), Norm.l2)


def test_the_certifier_gives_the_exact_distance_and_refuses_what_it_cannot_read() -> None:
    x, rng = inputs(4, 12).reshape(4, 3, 2, 2), SampleRandom(0, torch.arange(4))
    spec = DataSpec((3, 2, 2), 3)
    system = System(network(12, 5, 3), spec)
    y = system.logits(x, rng).argmax(1)
    exact = ReLUNet.of(system.model, (3, 2, 2)).distance(x, y, Norm.linf)
    radius = Exact().certify(system, x, y, threat=Threat(Norm.linf, Fraction(1, 10)), rng=rng)
    torch.testing.assert_close(radius.double(), (exact * (1 - 1e-5)).clamp_max(12.0), rtol=1e-6, atol=0)
    with pytest.raises(Refused, match=r"hidden layers under linf, l1, but threat\.norm is l2; choose another norm"):
        Exact().certify(system, x, y, threat=Threat(Norm.l2, Fraction(1, 10)), rng=rng)
    with pytest.raises(Refused, match=r"certifier\.exact takes a system with scores \(B, K\), but this one gives"):
        Exact().certify(System(nn.Conv2d(3, 3, 2), spec), x, y, threat=Threat(Norm.linf, Fraction(1, 10)), rng=rng)
    protected = System(network(12, 5, 3), spec, (Jpeg(),))
    with pytest.raises(Refused, match=r"certifier\.exact does not understand the operator"):
        Exact().certify(protected, x, y, threat=Threat(Norm.linf, Fraction(1, 10)), rng=rng)
