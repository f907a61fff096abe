"""The exact denoiser: its limits, its Gaussian case, and what attacks leave of it on the digits."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from benchmark_plugins.defenses.diffusion_purification import DiffusionPurification, denoised
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmark.api import DataSpec, Examples
from benchmark.errors import ConfigError
from benchmark.oracles.linear import nearest_class_mean
from benchmark.sampling import SampleRandom
from benchmark.stages.fit import built
from benchmark.stages.judge import answer
from benchmark.system import System
from benchmark.threat import Norm

PROBLEM = nearest_class_mean("digits")
X, Y, EPS = PROBLEM.x, PROBLEM.y, 0.1
SPEC = DataSpec((64,), 10)


def _train() -> Examples:
    digits = load_digits()
    x = torch.from_numpy(digits.data[:1297] / 16.0)
    return Examples.of(torch.arange(1297) + 1000, x, torch.from_numpy(digits.target[:1297]).long())


POINTS = _train().x().double()
ONES = torch.ones(len(POINTS))


def _linear(x: Tensor) -> Tensor:
    return PROBLEM.logits(x)


def _behind(sigma: float) -> Callable[[Tensor], Tensor]:
    return lambda x: _linear(denoised(x, POINTS, ONES, sigma))


def _ascended(model: Callable[[Tensor], Tensor], steps: int, step_size: float) -> Tensor:
    """(N, D): PGD under linf from the clean inputs, on the cross-entropy."""
    x_adv = X
    for _ in range(steps):
        leaf = x_adv.clone().requires_grad_(True)
        (grad,) = torch.autograd.grad(cross_entropy(model(leaf), Y, reduction="sum"), leaf)
        x_adv = torch.clamp(x_adv + step_size * grad.sign(), X - EPS, X + EPS).clamp(0.0, 1.0)
    return x_adv


@cache
def _oblivious() -> Tensor:
    return _ascended(_linear, 20, EPS / 4)


def _right(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return model(x).argmax(1) == Y


def _near(found: float, expected: float) -> bool:
    """Within two binomial standard deviations of 500 rows."""
    return bool(abs(found - expected) < 2 * (expected * (1 - expected) / 500) ** 0.5)


def test_the_denoiser_of_many_normal_points_is_the_linear_one() -> None:
    """For N(mu, s^2) it is mu + s^2 / (s^2 + sigma^2) (x - mu)."""
    points = 0.4 + 0.2 * torch.erfinv(torch.linspace(-1, 1, 4003)[1:-1, None].double()) * 2**0.5
    x, sigma = torch.linspace(0, 1, 9)[:, None].double(), 0.3
    expected = 0.4 + 0.2**2 / (0.2**2 + sigma**2) * (x - 0.4)
    torch.testing.assert_close(denoised(x, points, torch.ones(4001), sigma), expected, rtol=0, atol=5e-4)


def test_the_denoiser_goes_from_the_nearest_point_to_the_mean() -> None:
    x = torch.rand(50, 64, generator=torch.Generator().manual_seed(0)).double()  # no two points are equally near
    nearest = POINTS[torch.cdist(x, POINTS).argmin(1)]
    torch.testing.assert_close(denoised(x, POINTS, ONES, 1e-3), nearest, rtol=0, atol=1e-6)
    mean = POINTS.mean(0).expand_as(X)
    torch.testing.assert_close(denoised(X, POINTS, ONES, 1e4), mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(denoised(POINTS[:9], POINTS, ONES, 1e-3), POINTS[:9])


def test_points_of_no_weight_have_no_part() -> None:
    weight = (torch.arange(len(POINTS)) < 40).float()
    torch.testing.assert_close(denoised(X, POINTS, weight, 0.2), denoised(X, POINTS[:40], ONES[:40], 0.2))


@pytest.mark.parametrize(
    ("sigma", "clean", "oblivious", "aware"),
    [(0.2, 0.892, 0.808, 0.768), (0.4, 0.904, 0.798, 0.726), (0.8, 0.866, 0.670, 0.650)],
)
def test_denoised_digits_without_noise(sigma: float, clean: float, oblivious: float, aware: float) -> None:
    model = _behind(sigma)
    assert abs(float(_right(model, X).double().mean()) - clean) < 0.003
    assert _near(float(_right(model, _oblivious()).double().mean()), oblivious)
    assert _near(float(_right(model, _ascended(model, 20, EPS / 4)).double().mean()), aware)


def test_what_the_gradient_hides_transfers_from_smoother_settings() -> None:
    """At sigma .05 the softmax is saturated: attacks on the smoother settings break what its own gradient leaves."""
    model = _behind(0.05)
    own = _right(model, X) & _right(model, _ascended(model, 20, EPS / 4))
    transferred = own.clone()
    for sigma in (0.1, 0.2, 0.4):
        transferred &= _right(model, _ascended(_behind(sigma), 40, EPS / 10))
    exact = PROBLEM.robust_accuracy(Norm.linf, EPS)
    assert float(own.double().mean()) > 0.77  # robust in appearance: the linear model alone keeps .622
    assert _near(float(transferred.double().mean()), 0.694)
    assert abs(exact - 0.622) < 1e-9


@pytest.mark.parametrize(
    ("sigma", "clean", "oblivious"),
    [(0.05, 0.890, 0.810), (0.2, 0.894, 0.804), (0.4, 0.898, 0.762), (0.8, 0.848, 0.626)],
)
def test_noised_and_denoised_digits_by_a_vote_of_twenty_draws(sigma: float, clean: float, oblivious: float) -> None:
    defense = DiffusionPurification(sigma=sigma, examples=1297, votes=20)
    model = built(PROBLEM.model(), SPEC, (defense,))
    defense.finish(model, _train(), lambda *_: None)
    system, rng = System(model, SPEC, (defense,)), SampleRandom(0, torch.arange(500))
    for x, expected in ((X, clean), (_oblivious(), oblivious)):
        found = answer(system, x.float(), Y, rng).label == Y
        assert _near(float(found.double().mean()), expected)


def test_fewer_examples_than_room_and_more() -> None:
    for room, kept in ((2000, 1297), (100, 100)):
        defense = DiffusionPurification(examples=room)
        model = built(PROBLEM.model(), SPEC, (defense,))
        before = System(model, SPEC, (DiffusionPurification(examples=room, noise=False, votes=1),))
        x, rng = X[:20].float(), SampleRandom(0, torch.arange(20))
        assert torch.equal(before.logits(x, rng), before.undefended().logits(x, rng))  # not fitted yet: the identity
        defense.finish(model, _train(), lambda *_: None)
        assert int(model.get_buffer("purifier.weight").sum()) == kept
        assert torch.equal(model.get_buffer("purifier.points")[kept - 1], POINTS[(kept - 1) * 1297 // kept].float())
        assert not torch.equal(before.logits(x, rng), before.undefended().logits(x, rng))


def test_senseless_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"diffusion_purification\.sigma is 0\.0 .*; expected a positive stand"):
        DiffusionPurification(sigma=0.0)
    with pytest.raises(ConfigError, match=r"votes is 20 with diffusion_purification\.noise=False; expected at least 1"):
        DiffusionPurification(noise=False)
