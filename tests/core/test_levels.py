"""Candidates of few values: rounding stays in the ball, against every choice there is; the attacker sees it."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from benchmark.errors import ConfigError
from benchmark.oracles.linear import nearest_class_mean
from benchmark.sampling import SampleRandom
from benchmark.system.target import Target
from benchmark.threat import Access, Norm, Threat
from benchmark.threat.ball import Ball, distance, tolerance

DIGITS = nearest_class_mean("digits")


def _drawn(count: int, size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """x on sixteenths, as the digits are, and anything else in the box."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 17, (count, size), generator=draw) / 16
    return x, torch.rand(count, size, generator=draw)


def _allowed(ball: Ball, rounded: Tensor, levels: int) -> bool:
    grid = torch.arange(levels) / (levels - 1)
    return bool(((rounded == ball.x) | torch.isin(rounded, grid)).all())


@pytest.mark.parametrize("levels", [2, 5, 16, 256, 65536])
@pytest.mark.parametrize("norm", list(Norm))
def test_a_row_of_the_ball_stays_in_it_and_lands_on_the_grid(norm: Norm, levels: int) -> None:
    x, x_adv = _drawn(200, 24)
    eps = {Norm.linf: 8 / 255, Norm.l2: 0.5, Norm.l1: 1.0, Norm.l0: 5.0}[norm]
    mask = torch.arange(24) % 3 > 0
    ball = Ball(x, norm, eps, mask.expand(1, 24), levels)
    inside = ball.project(x_adv)
    rounded = ball.quantise(inside)
    audit = ball.audit(rounded)
    assert _allowed(ball, rounded, levels)
    assert bool(audit.inside.all())
    assert bool((rounded[:, ~mask] == x[:, ~mask]).all())
    assert torch.equal(ball.quantise(rounded), rounded)
    assert bool(((rounded - x) * (inside - x) >= 0).all())  # never to the other side of x
    # Another row with the same values is rounded alike, whatever stands beside it.
    few = torch.tensor([7, 3, 150])
    assert torch.equal(ball.rows(few).quantise(inside[few]), rounded[few])


def _neighbours(clean: float, now: float, grid: list[float]) -> tuple[float, float]:
    """The allowed values next to `now`, towards `clean` and away from it."""
    towards = [v for v in (*grid, clean) if min(clean, now) <= v <= max(clean, now)]
    away = [v for v in grid if (v - now) * (now - clean) >= 0]
    return min(towards, key=lambda v: abs(v - now)), min(away, key=lambda v: abs(v - now))


@pytest.mark.parametrize(("norm", "eps"), [(Norm.linf, 0.3), (Norm.l2, 0.45), (Norm.l1, 0.7), (Norm.l0, 3.0)])
def test_each_feature_goes_to_the_nearer_neighbour_and_back_only_where_it_must(norm: Norm, eps: float) -> None:
    """Against a reckoning feature by feature in Python, on a coarse grid."""
    levels, size, limit = 5, 4, eps + tolerance(norm, eps)
    x, x_adv = _drawn(60, size, seed=3)
    ball = Ball(x, norm, eps, None, levels)
    inside = ball.project(x_adv)
    rounded = ball.quantise(inside)
    grid = (torch.arange(levels) / (levels - 1)).tolist()
    put_back = 0
    for row in range(60):
        pairs = [
            (c, c) if c == now else _neighbours(c, now, grid)
            for c, now in zip(x[row].tolist(), inside[row].tolist(), strict=True)
        ]
        back, away = torch.tensor(pairs).T
        near = torch.where((away - inside[row]).abs() < (inside[row] - back).abs(), away, back)

        def far(values: Tensor, clean: Tensor = x[row]) -> float:
            return float(distance(values[None], clean[None], norm))

        if far(near) <= limit:
            torch.testing.assert_close(rounded[row], near, rtol=0, atol=1e-6)
            continue
        changed = rounded[row] != near
        put_back += int(changed.sum())
        assert torch.equal(rounded[row], torch.where(changed, back, near))
        assert far(rounded[row]) <= limit
        power = 2 if norm is Norm.l2 else 1
        gain = (near - x[row]).abs() ** power - (back - x[row]).abs() ** power
        least = int(torch.where(changed, gain, torch.inf).argmin())
        assert far(torch.where(torch.arange(size) == least, near, rounded[row])) > eps
    assert put_back > 5 or norm is Norm.l0


def test_eight_bit_images_of_eight_bit_steps_are_left_as_they_are() -> None:
    x = torch.arange(256).float() / 255
    for steps in (-8, -1, 0, 1, 8):
        x_adv = (torch.arange(256) + steps).clamp(0, 255).float() / 255
        ball = Ball(x[None], Norm.linf, 8 / 255, None, 256)
        assert torch.equal(ball.quantise(x_adv[None])[0], x_adv)
    assert torch.equal(Ball(x[None], Norm.linf, 8 / 255).quantise(x[None] + 1e-3), x[None] + 1e-3)


def test_what_is_off_the_grid_is_found_out() -> None:
    x = torch.tensor([[0.3, 0.5], [0.3, 0.5], [0.3, 0.5]])
    x_adv = torch.tensor([[0.3, 102 / 255], [0.3, 0.45], [0.31, 0.5]])
    audit = Ball(x, Norm.linf, 1.0, None, 256).audit(x_adv)
    assert audit.off_grid.tolist() == [False, True, True]
    assert audit.inside.tolist() == [True, False, False]
    assert Ball(x, Norm.linf, 1.0).audit(x_adv).inside.tolist() == [True] * 3


def test_the_attacker_sees_the_answer_to_what_would_be_handed_in() -> None:
    x, rng = DIGITS.x[:8].float(), SampleRandom(0, torch.arange(8))
    ball = Threat(Norm.linf, Fraction(1, 5), levels=4).around(x, rng)
    model = DIGITS.model().eval().requires_grad_(False)
    target = Target(model, rng=rng, classes=10, ball=ball)
    asked = ball.random(rng, stream="asked")
    rounded = ball.quantise(asked)
    assert not torch.equal(asked, rounded)
    torch.testing.assert_close(target.logits(asked), model(rounded), rtol=0, atol=1e-5)
    some = torch.tensor([5, 1, 5])
    gradient, _, logits = target.rows(some).gradient(asked[some], lambda z: z.square().sum(1))
    leaf = rounded[some].requires_grad_()
    (expected,) = torch.autograd.grad(model(leaf).square().sum(), leaf)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits, model(rounded[some]), rtol=0, atol=1e-5)
    labels = Target(model, rng=rng, classes=10, access=Access.labels, ball=ball).labels(asked)
    assert torch.equal(labels, model(rounded).argmax(1))


@pytest.mark.parametrize("levels", [0, 1, 65537])
def test_other_numbers_of_levels_are_refused(levels: int) -> None:
    with pytest.raises(ConfigError, match=rf"threat\.levels is {levels}; expected 2 to 65536 values per feature"):
        Threat(levels=levels)
