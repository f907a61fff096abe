"""The target: access is enforced, every pass is counted for the right example, and no row knows of the others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmark.data import DataSpec
from benchmark.errors import AccessError, AttackFault, BudgetError
from benchmark.oracles.linear import nearest_class_mean
from benchmark.sampling import SampleRandom, using
from benchmark.system import PASS_ROWS, System, padded
from benchmark.system.target import Target
from benchmark.testing.toys import Broken, Constant, Quantised, RandomisedLinear
from benchmark.threat import Access

PROBLEM = nearest_class_mean("digits")
X, Y = PROBLEM.x[:6].float(), PROBLEM.y[:6]


class Counted(nn.Module):
    """A model that counts the rows of its own passes."""

    def __init__(self) -> None:
        super().__init__()
        self.model = PROBLEM.model()
        self.rows: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.rows.append(len(x))
        logits: Tensor = self.model(x)
        return logits


def _target(model: nn.Module | None = None, count: int = 6, **changes: Any) -> Target:
    model = (PROBLEM.model() if model is None else model).eval().requires_grad_(False)
    return Target(model, rng=SampleRandom(0, torch.arange(count)), classes=10, **changes)


def _sum(logits: Tensor) -> Tensor:
    return logits[:, 0]


def test_the_gradient_of_a_linear_model_is_its_weight() -> None:
    target = _target()
    grad, value, logits = target.gradient(X, lambda z: 2.0 * z[:, 3] - z[:, 1])
    weight = PROBLEM.weight.float()
    torch.testing.assert_close(grad, (2.0 * weight[3] - weight[1]).expand(6, -1))
    torch.testing.assert_close(logits, PROBLEM.logits(X).float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(value, 2.0 * logits[:, 3] - logits[:, 1])
    assert not any(tensor.requires_grad for tensor in (grad, value, logits))
    scores, pull = target.pullback(X)
    assert torch.equal(scores, logits)
    for k in (0, 9):
        torch.testing.assert_close(pull(torch.eye(10)[k].expand(6, 10)), weight[k].expand(6, -1))
    torch.testing.assert_close(pull(torch.eye(10)[:4].expand(6, 4, 10)), weight[:4].expand(6, 4, -1))
    assert target.ledger.forwards.tolist() == [2] * 6
    assert target.ledger.backwards.tolist() == [3 + 4] * 6


def test_each_access_gives_what_it_names_and_no_more() -> None:
    for access, allowed in (
        (Access.gradients, {"labels", "logits", "gradient", "pullback"}),
        (Access.transfer, {"labels", "logits", "gradient", "pullback"}),
        (Access.scores, {"labels", "logits"}),
        (Access.labels, {"labels"}),
    ):
        target = _target(access=access)
        calls: dict[str, Callable[[], object]] = {
            "labels": partial(target.labels, X),
            "logits": partial(target.logits, X),
            "gradient": partial(target.gradient, X, _sum),
            "pullback": partial(target.pullback, X),
        }
        for name, call in calls.items():
            if name in allowed:
                call()
                continue
            before = target.ledger.forwards.clone()
            with pytest.raises(AccessError, match=f"but threat.access is {access.value}; an attack must declare"):
                call()
            assert torch.equal(target.ledger.forwards, before)


def test_scores_carry_no_graph_even_if_the_input_asks_for_one() -> None:
    leaf = X.clone().requires_grad_(True)
    target = _target(access=Access.scores)
    assert not target.logits(leaf).requires_grad
    assert not any(isinstance(value, nn.Module) for value in vars(target).values())


def test_passes_are_charged_to_the_example_however_rows_are_chosen() -> None:
    target = _target()
    target.logits(X)
    some = target.rows(torch.tensor([True, False, True, True, False, False]))
    some.gradient(X[[0, 2, 3]], _sum)
    some.rows(torch.tensor([2, 2, 0])).logits(X[[3, 3, 0]])
    assert target.ledger.forwards.tolist() == [3, 1, 2, 4, 1, 1]
    assert target.ledger.backwards.tolist() == [1, 0, 1, 1, 0, 0]
    assert len(some) == 3
    with pytest.raises(AttackFault, match=r"asked about 6 inputs through a target of 3 rows; use target.rows\(index\)"):
        some.logits(X)


def test_the_ledger_agrees_with_a_model_that_counts() -> None:
    model = Counted()
    target = _target(model)
    target.labels(X)
    target.gradient(X, _sum)
    target.pullback(X)[1](torch.ones(6, 10))
    assert model.rows == [PASS_ROWS] * 3
    assert target.ledger.forwards.tolist() == [3] * 6
    assert target.ledger.backwards.tolist() == [2] * 6


def test_the_budget_is_never_exceeded_by_one() -> None:
    model = Counted()
    target = _target(model, queries=3)
    target.logits(X)
    view = target.rows(torch.tensor([1, 1]))
    view.logits(X[[1, 1]])
    left = target.remaining()
    assert left is not None
    assert left.tolist() == [2, 0, 2, 2, 2, 2]
    assert view.remaining() is not None
    for call in (
        lambda: target.logits(X),
        lambda: target.labels(X),
        lambda: target.gradient(X, _sum),
        lambda: target.pullback(X),
        lambda: target.rows(torch.tensor([0, 0, 0])).logits(X[[0, 0, 0]]),
    ):
        with pytest.raises(BudgetError, match=r"asked for query 4 of an example, but threat.queries allows 3"):
            call()
    assert len(model.rows) == 2
    assert target.ledger.forwards.tolist() == [1, 3, 1, 1, 1, 1]
    assert _target().remaining() is None


def test_a_randomised_system_spends_a_query_per_draw() -> None:
    model = RandomisedLinear(PROBLEM.weight, PROBLEM.bias, 0.1)
    target = _target(model, queries=7, eot=3, randomized=True)
    left = target.remaining()
    assert left is not None
    assert left.tolist() == [2] * 6
    target.logits(X)
    target.gradient(X, _sum)
    assert target.ledger.forwards.tolist() == [6] * 6
    left = target.remaining()
    assert left is not None
    assert left.tolist() == [0] * 6
    with pytest.raises(BudgetError):
        target.logits(X)
    assert not target.certain
    assert _target().certain


def test_eot_averages_to_the_gradient_of_the_mean_model() -> None:
    model = RandomisedLinear(PROBLEM.weight, PROBLEM.bias, 0.5)
    weight = PROBLEM.weight[4].float().expand(6, -1)

    def error(draws: int) -> float:
        grad, _, _ = _target(model, eot=draws, randomized=True).gradient(X, lambda z: z[:, 4])
        return float((grad - weight).square().mean().sqrt())

    assert error(1) == pytest.approx(0.5, rel=0.2)
    assert error(400) == pytest.approx(0.5 / 20.0, rel=0.2)


def test_a_randomised_answer_belongs_to_the_example_and_its_turn() -> None:
    model = RandomisedLinear(PROBLEM.weight, PROBLEM.bias, 0.5)
    whole = _target(model, randomized=True)
    first, second = whole.logits(X), whole.logits(X)
    assert not torch.equal(first, second)
    again = _target(model, randomized=True)
    twice = again.rows(torch.tensor([3, 0, 3])).logits(X[[3, 0, 3]])  # two inputs of one example: turns 0 and 1
    torch.testing.assert_close(twice, torch.stack([first[3], first[0], second[3]]))


def test_bpda_passes_the_gradient_straight_through() -> None:
    model = PROBLEM.model()
    shattered, _, _ = _target(Quantised(model, 3)).gradient(X, lambda z: z[:, 2])
    straight, _, logits = _target(Quantised(model, 3, straight_through=True)).gradient(X, lambda z: z[:, 2])
    assert bool((shattered == 0).all())
    torch.testing.assert_close(straight, PROBLEM.weight[2].float().expand(6, -1))
    torch.testing.assert_close(logits, PROBLEM.logits(torch.round(X * 3) / 3).float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("connected", [True, False])
def test_zero_gradients_are_noted(connected: bool) -> None:
    target = _target(Constant(torch.arange(10.0), connected=connected))
    grad, _, _ = target.rows(torch.tensor([2, 2, 4])).gradient(X[[2, 2, 4]], _sum)
    assert bool((grad == 0).all())
    assert target.ledger.zero_gradient.tolist() == [False, False, True, False, True, False]
    assert not bool(target.ledger.bad_gradient.any())


def test_gradients_that_are_no_numbers_are_noted_at_first_sight_only() -> None:
    target = _target(Broken(PROBLEM.model()))
    target.rows(torch.tensor([1])).gradient(X[1:2], _sum)
    assert target.ledger.bad_gradient.tolist() == [False, True, False, False, False, False]
    fine = _target()
    fine.gradient(X, _sum)
    fine.gradient(X, lambda z: z[:, 0] * 0.0)
    assert not bool(fine.ledger.zero_gradient.any())


def _conv() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 16, 10),
    )


@pytest.mark.parametrize("kind", ["linear", "mlp", "conv"])
def test_a_row_gives_the_same_bits_in_every_batch(kind: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        mlp = nn.Sequential(nn.Flatten(), nn.Linear(64, 50), nn.ReLU(), nn.Linear(50, 30), nn.ReLU(), nn.Linear(30, 10))
        model = {"linear": PROBLEM.model(), "mlp": mlp, "conv": _conv()}[kind]
    x = PROBLEM.x[:64].float()
    x = x.reshape(-1, 1, 8, 8) if kind == "conv" else x
    results = []
    for size in (1, 7, 64):
        parts = []
        for at in range(0, 64, size):
            rows = x[at : at + size]
            parts.append(_target(model, count=len(rows)).gradient(rows, lambda z: z.logsumexp(1)))
        results.append([torch.cat(tensors) for tensors in zip(*parts, strict=True)])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_padding_repeats_the_last_row() -> None:
    x = torch.arange(5.0)[:, None]
    assert padded(x).flatten().tolist() == [0, 1, 2, 3] + [4] * (PASS_ROWS - 4)
    assert padded(torch.zeros(PASS_ROWS, 2)).shape == (PASS_ROWS, 2)
    assert padded(torch.zeros(0, 2)).shape == (0, 2)


def test_the_system_and_the_target_give_the_same_bits() -> None:
    system = System(_conv(), DataSpec((1, 8, 8), 10))
    x = PROBLEM.x[:6].float().reshape(-1, 1, 8, 8)
    rng = SampleRandom(0, torch.arange(6))
    assert torch.equal(system.logits(x, rng), _target(system).logits(x))
    assert not system.training
    assert not any(p.requires_grad for p in system.parameters())


def test_a_randomised_model_needs_its_randomness() -> None:
    model = RandomisedLinear(PROBLEM.weight, PROBLEM.bias, 0.5)
    with pytest.raises(RuntimeError, match="randomised module was called without randomness"):
        model(X)
    with using(SampleRandom(0, torch.arange(6))):
        assert model(X).shape == (6, 10)


def test_passes_without_padding_have_as_many_rows_as_are_asked() -> None:
    model = Counted()
    target = Target(model, rng=SampleRandom(0, torch.arange(len(X))), classes=10, padding=False)
    target.logits(X)
    target.rows(torch.tensor([0, 2])).gradient(X[[0, 2]], _sum)
    assert model.rows == [len(X), 2]
