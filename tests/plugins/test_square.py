"""Square against its paper's schedule and figures, and its own rules: windows, budgets, draws."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from benchmark_plugins.attacks._blackbox.squares import (
    Moves,
    _eta,
    as_image,
    change_linf,
    change_mass,
    first_mass,
    moves,
    worth_asking,
)
from benchmark_plugins.attacks.square import Square
from torch import Tensor

from benchmark.data import DataSpec
from benchmark.oracles.linear import nearest_class_mean
from benchmark.sampling import SampleRandom
from benchmark.system import PASS_ROWS, System
from benchmark.system.target import Target
from benchmark.testing.toys import Constant
from benchmark.threat import Access, Norm, Threat

DIGITS = nearest_class_mean("digits")
RIGHT = (DIGITS.logits(DIGITS.x).argmax(1) == DIGITS.y).nonzero().squeeze(1)


def drawn(queries: list[int], limit: int, shape: tuple[int, int, int], norm: Norm = Norm.linf, **more: Any) -> Moves:
    """One move per query number, each for an example of its own."""
    rng = SampleRandom(0, torch.arange(len(queries)))
    settings = {"p_init": 0.8, "edges": False, **more}
    return moves(rng, torch.tensor(queries), torch.full((len(queries),), limit), shape, norm=norm, **settings)


def test_windows_shrink_as_in_the_paper() -> None:
    queries = [1, 10, 11, 50, 51, 200, 201, 500, 501, 1000, 1001, 2000, 2001, 4000, 4001, 6000, 6001, 8000, 8001]
    parts = [1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 32, 32, 64, 64, 128, 128, 256, 256, 512]
    for size in (32, 224):
        expected = [max(1, round(math.sqrt(0.8 / part * size * size))) for part in parts]
        assert drawn(queries, 10000, (3, size, size)).side.tolist() == expected
    stretched = drawn([query // 10 for query in queries if query % 10 == 0], 1000, (3, 32, 32))
    assert stretched.side.tolist() == drawn([q for q in queries if q % 10 == 0], 10000, (3, 32, 32)).side.tolist()
    odd = drawn(queries, 10000, (3, 32, 32), Norm.l2).side
    assert bool((odd % 2 == 1).all())
    assert odd.tolist()[:2] == [29, 29]
    assert int(odd.min()) == 3
    line = drawn([1, 11], 10000, (1, 1, 100)).side
    assert line.tolist() == [80, 40]


def test_windows_lie_inside_and_reach_the_last_row_only_if_asked() -> None:
    queries = [9000] * 4000
    plain, edges = (drawn(queries, 10000, (3, 8, 8), edges=edges) for edges in (False, True))
    assert set(plain.side.tolist()) == {1}
    for corner in (plain.top, plain.left):
        assert sorted(set(corner.tolist())) == list(range(7))
    for corner in (edges.top, edges.left):
        assert sorted(set(corner.tolist())) == list(range(8))
    wide = change_linf(drawn([1] * 50, 10000, (3, 9, 7)), (3, 9, 7))
    assert set(wide.unique().tolist()) == {-1.0, 0.0, 1.0}
    assert bool(((wide != 0).sum((2, 3)) == 7 * 7).all())
    assert len({tuple(row) for row in wide.amax((2, 3)).tolist()}) > 4  # signs differ between the channels


def pyramid(height: int, width: int, power: int) -> Tensor:
    """The rings of section 4.3, drawn one inside the other."""
    values = torch.zeros(height, width, dtype=torch.float64)
    row, col = height // 2, width // 2
    for ring in range(max(height, width) // 2 + 1):
        top, left = max(row - ring, 0), max(col - ring, 0)
        values[top : row + ring + 1, left : col + ring + 1] += 1.0 / (ring + 1) ** (4 // power)
    norm = values.norm(p=power)
    return values / norm if norm > 0 else values


@pytest.mark.parametrize("side", [1, 2, 3, 5, 7, 8])
@pytest.mark.parametrize("power", [1, 2])
def test_the_change_of_a_window_is_two_pyramids_side_by_side(side: int, power: int) -> None:
    expected = torch.zeros(8, 8, dtype=torch.float64)
    half = side // 2
    expected[:half, :side] = pyramid(half, side, power)
    expected[half:side, :side] = -pyramid(side - half, side, power)
    expected /= expected.norm(p=power)
    zero, sides = torch.zeros(2).long(), torch.full((2,), side)
    found = _eta(zero, zero, sides, torch.tensor([False, True]), (1, 8, 8), power)[:, 0]
    torch.testing.assert_close(found[0], expected)
    torch.testing.assert_close(found[1], expected.T)


@pytest.mark.parametrize(("norm", "power"), [(Norm.l2, 2), (Norm.l1, 1)])
def test_what_is_moved_between_windows_keeps_the_length(norm: Norm, power: int) -> None:
    shape, eps = (1 if norm is Norm.l1 else 3, 10, 10), 2.0
    draw = torch.Generator().manual_seed(0)
    delta = torch.randn(30, *shape, generator=draw, dtype=torch.float64)
    delta = delta * eps / delta.flatten(1).norm(p=power, dim=1)[:, None, None, None]
    move = drawn([300] * 30, 10000, shape, norm)
    changed = change_mass(move, delta, norm, eps)
    torch.testing.assert_close(changed.flatten(1).norm(p=power, dim=1), torch.full((30,), eps, dtype=torch.float64))
    touched = (changed != delta).any(1)
    assert int(touched.sum((1, 2)).max()) <= 2 * int(move.side.max()) ** 2
    assert bool(touched.any((1, 2)).all())


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 8, 8), (1, 1, 3), (1, 1, 50), (3, 12, 7)])
def test_the_first_change_covers_the_input(shape: tuple[int, int, int]) -> None:
    delta = first_mass(SampleRandom(0, torch.arange(4)), shape, Norm.l2)
    assert bool(torch.isfinite(delta).all())
    assert float((delta != 0).double().mean()) > 0.5


def test_what_is_no_image_is_a_line() -> None:
    assert as_image((3, 8, 9)) == (3, 8, 9)
    assert as_image((30,)) == (1, 1, 30)
    assert as_image((4, 5)) == (1, 1, 20)
    assert as_image((2, 3, 4, 5)) == (1, 1, 120)


class Count(torch.nn.Module):
    """Counts the rows that it is asked about, by their value, and never gives way."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach().clone())
        return torch.tensor([1.0, 0.0, -1.0]).expand(len(x), -1) + 0 * x.flatten(1).sum(1, keepdim=True)


@pytest.mark.parametrize(("queries", "allowed", "spent"), [(50, None, 50), (50, 20, 20), (7, 100, 7), (1, 3, 1)])
@pytest.mark.parametrize("proposals", [1, 4])
def test_every_query_is_spent_and_none_more(queries: int, allowed: int | None, spent: int, proposals: int) -> None:
    model = Count()
    system = System(model, DataSpec((1, 8, 8), 3))
    rng = SampleRandom(0, torch.arange(PASS_ROWS))
    threat = Threat(Norm.l2, Fraction(1, 2), access=Access.scores, queries=allowed)
    target = Target(system, rng=rng, classes=3, access=Access.scores, queries=allowed)
    x, y = torch.rand(PASS_ROWS, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(PASS_ROWS).long()
    Square(queries=queries, proposals=proposals).perturb(target, x, y, threat=threat, rng=rng)
    assert set(target.ledger.forwards.tolist()) == {spent}
    assert sum(len(seen) for seen in model.seen) == PASS_ROWS * spent  # so many rows fill a pass without padding


class Recorded(torch.nn.Module):
    """A linear classifier of images that notes what it is asked."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(2)
        self.weight = torch.randn(3, channels * side * side, generator=draw)
        self.seen: list[tuple[float, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen += [tuple(row.tolist()) for row in x.flatten(1)[:1]]  # the pass of a single row is padded with it
        return x.flatten(1) @ self.weight.T


@pytest.mark.parametrize(("channels", "side", "share"), [(1, 6, 0.35), (3, 4, 0.75), (26, 3, 1.0)])
def test_what_is_known_is_not_asked_and_nothing_changes(channels: int, side: int, share: float) -> None:
    """Beside a system that may answer otherwise each time, of which nothing is known, though it does not."""
    found, asked, rng = [], [], SampleRandom(0, torch.tensor([7]))
    x = torch.rand(1, channels, side, side, generator=torch.Generator().manual_seed(0))
    x = torch.where(x < 0.3, torch.zeros_like(x), x)  # features that cannot become smaller
    for randomized in (True, False):
        model = Recorded(channels, side)
        system = System(model, DataSpec((channels, side, side), 3))
        threat = Threat(Norm.linf, Fraction(1, 1000), access=Access.scores)
        target = Target(system, rng=rng, classes=3, access=Access.scores, randomized=randomized)
        y = (x.flatten(1) @ model.weight.T).argmax(1)
        found.append(Square(queries=600, proposals=1, edges=False).perturb(target, x, y, threat=threat, rng=rng))
        assert int(target.ledger.forwards) == len(model.seen)
        asked.append(model.seen)
    assert torch.equal(*found)
    assert len(asked[0]) == 600
    assert len(asked[1]) <= share * 600
    assert set(asked[1]) == set(asked[0])


def test_only_the_first_of_the_same_proposals_and_none_without_a_change_is_worth_a_question() -> None:
    zero = torch.zeros(1, 6).long()
    sign = torch.tensor([[[1.0, 1.0], [1.0, 1.0], [-1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]])
    top = torch.tensor([[0, 0, 0, 0, 1, 1]])
    move = Moves(zero + 2, top, zero, zero, zero, sign, zero.bool())
    rises, falls = torch.ones(2, 1, 2, 3, 3, dtype=torch.bool)
    falls[:] = False
    rises[:, :, 1:] = False
    every = torch.ones(1, 6, dtype=torch.bool)
    assert worth_asking(move, every, rises, falls).tolist() == [[True, False, False, True, False, False]]
    every[0, 0] = False
    assert worth_asking(move, every, rises, falls).tolist() == [[False, True, False, True, False, False]]


def attack(method: Square, norm: Norm, eps: float, rows: Tensor, shape: tuple[int, ...] = (1, 8, 8)) -> Tensor:
    """(b, *shape): candidates for rows of the digits."""
    system = System(DIGITS.model(), DataSpec(shape, 10))
    rng = SampleRandom(0, rows)
    threat = Threat(norm, Fraction(str(eps)), access=Access.scores)
    target = Target(system, rng=rng, classes=10, access=Access.scores)
    x = DIGITS.x[rows].float().reshape(-1, *shape)
    x_adv: Tensor = method.perturb(target, x, DIGITS.y[rows], threat=threat, rng=rng)
    assert bool(threat.around(x, rng).audit(x_adv).inside.all())
    return x_adv


def broken(x_adv: Tensor, rows: Tensor) -> Tensor:
    """(b,) bool: whether the digits' classifier gets them wrong."""
    wrong: Tensor = DIGITS.model()(x_adv).argmax(1) != DIGITS.y[rows]
    return wrong


def test_changes_lie_on_the_edge_of_the_linf_ball() -> None:
    x_adv = attack(Square(queries=30), Norm.linf, 0.1, RIGHT[:40])
    x = DIGITS.x[RIGHT[:40]].float().reshape(-1, 1, 8, 8)
    low, high = (x - 0.1).clamp_min(0), (x + 0.1).clamp_max(1)
    assert bool((((x_adv - low).abs() < 1e-6) | ((x_adv - high).abs() < 1e-6)).all())


@pytest.mark.parametrize("shape", [(1, 8, 8), (64,), (8, 8), (4, 4, 4)])
@pytest.mark.parametrize(("norm", "eps"), [(Norm.linf, 0.15), (Norm.l2, 0.9), (Norm.l1, 4)])
def test_it_comes_near_the_exact_robust_accuracy(norm: Norm, eps: float, shape: tuple[int, ...]) -> None:
    rows = RIGHT[:80]
    exact = DIGITS.distance(norm)[rows]
    assert not bool((broken(attack(Square(queries=300), norm, eps, rows, shape), rows) & (exact > eps)).any())
    few, many = (broken(attack(Square(queries=n), norm, eps, rows, shape), rows).double().mean() for n in (1, 400))
    assert few + 0.05 < many <= float((exact <= eps).double().mean())


def test_a_thousand_queries_are_as_strong_as_the_peers() -> None:
    # Published for 1000 queries on these 435 examples: 0.749 robust at 0.1, 0.536 at 0.15 (exact 0.7149 and 0.4575).
    robust = 1 - float(broken(attack(Square(queries=1000), Norm.linf, 0.15, RIGHT), RIGHT).double().mean())
    assert 0.4575 <= robust <= 0.56  # the seed is worth a percent


@pytest.mark.parametrize("proposals", [1, 3])
def test_a_draw_depends_on_the_example_alone(proposals: int) -> None:
    method, rows = Square(queries=60, proposals=proposals), RIGHT[:10]
    for norm, eps in ((Norm.linf, 0.1), (Norm.l2, 0.5), (Norm.l1, 1)):
        whole = attack(method, norm, eps, rows)
        for part in (torch.tensor([3]), torch.tensor([9, 1, 4])):
            assert torch.equal(attack(method, norm, eps, rows[part]), whole[part])


def test_several_proposals_in_one_pass_are_about_as_strong() -> None:
    one, several = (
        float(broken(attack(Square(queries=600, proposals=n), Norm.linf, 0.15, RIGHT), RIGHT).double().mean())
        for n in (1, 8)
    )
    assert abs(one - several) < 0.04


def test_a_constant_system_ends_where_it_began_to_search() -> None:
    system = System(Constant(torch.tensor([2.0, 1.0])), DataSpec((6,), 2))
    rng = SampleRandom(0, torch.arange(3))
    threat = Threat(Norm.linf, Fraction(1, 10))
    target = Target(system, rng=rng, classes=2)
    x = torch.full((3, 6), 0.5)
    x_adv = Square(queries=20).perturb(target, x, torch.zeros(3).long(), threat=threat, rng=rng)
    torch.testing.assert_close((x_adv - x).abs(), torch.full_like(x, 0.1))
