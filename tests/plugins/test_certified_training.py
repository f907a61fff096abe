"""Certified training: the ends of each option, gradients, and what it does to the radius that intervals prove."""

from __future__ import annotations

import copy
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from benchmark_plugins.attacks.pgd import PGD
from benchmark_plugins.certifiers._graph import boxes
from benchmark_plugins.certifiers._graph.lowering import lower
from benchmark_plugins.certifiers._graph.reading import differences
from benchmark_plugins.certifiers._graph.tracing import trace
from benchmark_plugins.certifiers.interval import IntervalBounds
from benchmark_plugins.defenses.adversarial_training import attacked
from benchmark_plugins.defenses.certified_training import COUNTER, CertifiedTraining, Method
from torch import Tensor, nn

from benchmark.api import Batch, DataSpec
from benchmark.errors import ConfigError
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.threat import Norm, Threat

SPEC = DataSpec((1, 4, 4), 3)
ATTACK = PGD(steps=3, step_size=0.05)


def training(method: Method = Method.ibp, **settings: Any) -> CertifiedTraining:
    return CertifiedTraining(**{"method": method, "attack": ATTACK, "ramp": 0, "kappa": 0.0, **settings})


def plain(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch.x), batch.y)


def model_and_batch(dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Batch, SampleRandom]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 2, 3, padding=1),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(8, 6),
            nn.ReLU(),
            nn.Linear(6, 3),
        )
    x = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    batch = Batch(torch.arange(5), x.to(dtype), torch.tensor([0, 1, 2, 1, 0]))
    return model.to(dtype), batch, SampleRandom(0, torch.arange(5))


def loss(defense: CertifiedTraining, model: nn.Module, batch: Batch, rng: SampleRandom) -> Tensor:
    found: Tensor = defense.loss(defense.build(model, SPEC), batch, plain, rng)
    return found


@pytest.mark.parametrize("method", list(Method))
def test_at_eps_0_and_at_kappa_1_it_is_the_plain_loss_bit_for_bit(method: Method) -> None:
    model, batch, rng = model_and_batch()
    assert torch.equal(loss(training(method, eps="0"), model, batch, rng), plain(model, batch))
    assert torch.equal(loss(training(method, kappa=1.0), model, batch, rng), plain(model, batch))


def test_the_bound_at_a_tiny_eps_is_the_cross_entropy() -> None:
    model, batch, rng = model_and_batch()
    tiny = loss(training(eps="1/1000000"), model, batch, rng)
    torch.testing.assert_close(tiny, plain(model, batch), rtol=1e-4, atol=1e-5)


def test_the_loss_is_the_cross_entropy_of_the_worst_scores() -> None:
    model, batch, rng = model_and_batch()
    head = nn.Sequential(*list(model)[:-1])  # type: ignore[call-overload]
    graph = lower(trace(head, (1, 4, 4), "test"), (1, 4, 4), "test")
    x = batch.x.double()
    low, high = boxes.intervals(graph, (x - 0.1).clamp_min(0), (x + 0.1).clamp_max(1))[graph.logits]
    last: Any = list(model.children())[-1]
    rows = []
    for row, label in enumerate(batch.y.tolist()):
        worst = []
        for k in range(3):  # relative to z_y, at its least
            w, b = (last.weight[k] - last.weight[label]).double(), (last.bias[k] - last.bias[label]).double()
            worst.append(w.clamp_min(0) @ high[row] + w.clamp_max(0) @ low[row] + b)
        rows.append(torch.stack(worst))
    expected = F.cross_entropy(torch.stack(rows), batch.y)
    torch.testing.assert_close(loss(training(), model, batch, rng).double(), expected, rtol=1e-5, atol=1e-6)


def test_share_1_is_intervals_and_share_0_is_adversarial_training() -> None:
    model, batch, rng = model_and_batch()
    whole = loss(training(), model, batch, rng)
    assert torch.equal(loss(training(Method.mtl_ibp, share=1.0), model, batch, rng), whole)
    assert torch.equal(loss(training(Method.sabr, share=1.0), model, batch, rng), whole)
    zero = loss(training(Method.mtl_ibp, share=0.0), model, batch, rng)
    x_adv = attacked(model, batch, ATTACK, Threat(Norm.linf, Fraction(0.1)), rng)
    torch.testing.assert_close(zero, plain(model, replace(batch, x=x_adv)))
    between = loss(training(Method.mtl_ibp, share=0.25), model, batch, rng)
    torch.testing.assert_close(between, 0.25 * whole + 0.75 * zero)


def test_a_small_box_lies_in_the_ball_and_its_loss_between_the_attack_and_the_whole_box() -> None:
    model, batch, rng = model_and_batch()
    defense = training(Method.sabr, share=0.3)
    low, high = defense._small_box(model, batch, rng, 0.1)
    assert bool((low >= (batch.x - 0.1).clamp_min(0) - 1e-6).all())
    assert bool((high <= (batch.x + 0.1).clamp_max(1) + 1e-6).all())
    assert float((high - low).max()) <= 0.06 + 1e-6
    small = loss(defense, model, batch, rng)
    assert plain(model, batch) < small < loss(training(), model, batch, rng)


def test_relaxations_are_below_intervals_on_average_and_their_weight_falls_with_the_ramp() -> None:
    model, batch, rng = model_and_batch()
    whole, tight = loss(training(), model, batch, rng), loss(training(Method.crown_ibp), model, batch, rng)
    assert tight < whole
    defense = training(Method.crown_ibp, ramp=4)
    model = defense.build(model, SPEC)
    model.get_buffer(COUNTER).fill_(4)
    assert torch.equal(defense.loss(model, batch, plain, rng), whole)


@pytest.mark.parametrize("method", [Method.ibp, Method.crown_ibp])
def test_gradients_of_the_weights_are_those_of_finite_differences(method: Method) -> None:
    model, batch, rng = model_and_batch(torch.float64)
    defense = training(method)
    model = defense.build(model, SPEC)
    weight = model.get_parameter("4.weight")
    defense.loss(model, batch, plain, rng).backward()
    assert weight.grad is not None
    for at in ((0, 0), (2, 3), (5, 7)):
        ends = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                weight[at] += step
                ends.append(defense.loss(model, batch, plain, rng))
                weight[at] -= step
        assert float(weight.grad[at]) == pytest.approx(float(ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-8)


def test_eps_and_kappa_follow_the_steps_that_the_model_has_counted() -> None:
    model, batch, rng = model_and_batch()
    defense = training(kappa=0.5, ramp=10)
    model = defense.build(model, SPEC)
    assert torch.equal(defense.loss(model, batch, plain, rng), plain(model, batch))
    for _ in range(5):
        defense.after_step(model)
    half = 0.75 * plain(model, batch) + 0.25 * loss(training(eps="1/20"), copy.deepcopy(model), batch, rng)
    torch.testing.assert_close(defense.loss(model, batch, plain, rng), half)
    assert COUNTER in model.state_dict()


def test_a_trained_network_is_certified_where_a_plain_one_is_not() -> None:
    spec = DataSpec((8,), 2)
    x = torch.rand(256, 8, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] + x[:, 1] > 1).long()
    x[:, 0] = (x[:, 0] + 0.2 * (2 * y - 1)).clamp(0, 1)
    shares = {}
    for name, defense in (("plain", training(kappa=1.0)), ("certified", training(kappa=0.25, eps="2/25", ramp=60))):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = defense.build(
                nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 2)), spec
            )
        optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(120):
            optimiser.zero_grad()
            defense.loss(model, Batch(torch.arange(256), x, y), plain, SampleRandom(0, torch.arange(256))).backward()
            optimiser.step()
            defense.after_step(model)
        system, rng = System(model, spec), SampleRandom(0, torch.arange(256))
        radius = IntervalBounds(halvings=0).certify(system, x, y, threat=Threat(Norm.linf, Fraction(2, 25)), rng=rng)
        shares[name] = float((radius > 0).double().mean())
        assert float((system.logits(x, rng).argmax(1) == y).double().mean()) > 0.9
    assert shares["certified"] > shares["plain"] + 0.3


def test_settings_out_of_range_are_refused() -> None:
    wrong: list[dict[str, Any]] = [{"kappa": 1.5}, {"share": -0.1}, {"ramp": -1}]
    for settings in wrong:
        with pytest.raises(ConfigError, match=r"expected two numbers between 0 and 1, and 0 or more steps"):
            training(**settings)
    with pytest.raises(ConfigError, match=r"threat\.eps is 'x'"):
        training(eps="x")


def test_intervals_of_the_last_layer_alone_are_those_of_all_with_pooling_in_one_step() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 2), nn.ReLU())
    net.append(nn.MaxPool2d(2, stride=1)).append(nn.Flatten()).append(nn.Linear(16, 3))
    graph = lower(trace(net, (1, 8, 8), "test"), (1, 8, 8), "test")
    low = torch.rand(5, 1, 8, 8, dtype=torch.float64)
    high, chosen = low + 0.1, differences(graph, torch.tensor([0, 1, 2, 0, 1]))
    each, last = boxes.intervals(graph, low, high), boxes.last_intervals(graph, low, high)
    assert len(last) < len(each) / 2
    assert all(torch.equal(a, b) for node in last for a, b in zip(last[node], each[node], strict=True))
    bounds = [boxes.least_differences(graph, found, chosen) for found in (each, last)]
    assert torch.equal(*bounds)
    slopes = [torch.autograd.grad(bound.sum(), list(net.parameters()), retain_graph=True) for bound in bounds]
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other)
