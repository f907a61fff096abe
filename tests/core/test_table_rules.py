"""Rules of a table's features: what is handed in could be a row of the table, and lies in the ball."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmark.data import DataSpec, FeatureRules
from benchmark.errors import DataError
from benchmark.sampling import SampleRandom
from benchmark.stages.settle import with_fixed_region
from benchmark.system import System
from benchmark.threat import Norm, Threat
from benchmark.threat.ball import Ball
from benchmark.threat.table import TableRegion

RULES = FeatureRules(
    fixed=(True, False, False, False, False, False, False),
    rising=(False, True, False, False, False, False, False),
    falling=(False, False, True, False, False, False, False),
    low=(0.0, 0.0, 0.0, 0.2, 0.0, 0.0, 0.0),
    high=(1.0, 1.0, 1.0, 0.8, 1.0, 1.0, 1.0),
    values=(0, 0, 5, 11, 0, 0, 0),
    groups=((4, 5, 6),),
)
"""Fixed; growing; shrinking in quarters; tenths between 0.2 and 0.8; three columns of one category."""

TABLE = TableRegion(RULES)
X = torch.tensor([[0.3, 0.4, 0.5, 0.1, 0.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.5, 1.0, 0.0, 0.0]])


def could_be_a_row(x_adv: Tensor, x: Tensor) -> bool:
    """By the definition, in loops."""
    for new, old in zip(x_adv.tolist(), x.tolist(), strict=True):
        quarter, tenth = new[2] * 4, new[3] * 10
        ok = (
            new[0] == old[0]
            and old[1] <= new[1] <= 1
            and 0 <= new[2] <= old[2]
            and abs(quarter - round(quarter)) < 1e-6
            and abs(tenth - round(tenth)) < 1e-6
            and (new[3] == old[3] or min(0.2, old[3]) - 1e-6 <= new[3] <= max(0.8, old[3]) + 1e-6)
            and sorted(new[4:]) == [0, 0, 1]
        )
        if not ok:
            return False
    return True


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(-0.5, 1.5, width=32), min_size=14, max_size=14),
    st.sampled_from(list(Norm)),
    st.sampled_from([0.05, 0.3, 1.0, 3.0]),
)
def test_whatever_is_asked_becomes_a_row_in_the_ball(values: list[float], norm: Norm, eps: float) -> None:
    ball = Ball(X, norm, max(1.0, eps) if norm is Norm.l0 else min(eps, 1.0) if norm is Norm.linf else eps, table=TABLE)
    asked = ball.project(torch.tensor(values).reshape(2, 7))
    made = ball.quantise(asked)
    assert could_be_a_row(made, X)
    assert bool(ball.audit(made).inside.all())
    assert torch.equal(ball.quantise(made), made)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.75, 1.0]), min_size=14, max_size=14))
def test_the_audit_knows_rows_from_what_is_none(values: list[float]) -> None:
    asked = torch.tensor(values).reshape(2, 7)
    each = [could_be_a_row(asked[at : at + 1], X[at : at + 1]) for at in range(2)]
    assert Ball(X, Norm.l1, 100.0, table=TABLE).audit(asked).inside.tolist() == each


def test_the_nearest_category_is_the_one_with_the_most_and_its_own_wins_ties() -> None:
    asked = X.clone()
    asked[0, 4:] = torch.tensor([0.6, 0.5, 0.1])
    asked[1, 4:] = torch.tensor([0.6, 0.6, 0.0])
    assert TABLE.nearest(asked, X)[:, 4:].tolist() == [[1, 0, 0], [1, 0, 0]]
    assert TABLE.nearest(asked, X, towards=True)[:, 4:].tolist() == X[:, 4:].tolist()


def test_under_linf_below_one_no_category_changes_and_at_two_features_of_l0_it_does() -> None:
    other = X.clone()
    other[:, 4:] = torch.tensor([0.0, 0.0, 1.0])
    for norm, eps, changed in (
        (Norm.linf, 0.9, False),
        (Norm.linf, 1.0, True),
        (Norm.l0, 1, False),
        (Norm.l0, 2, True),
    ):
        ball = Ball(X, norm, eps, table=TABLE)
        made = ball.quantise(ball.project(other))
        assert torch.equal(made[:, 4:], other[:, 4:] if changed else X[:, 4:]), (norm, eps)


def test_steps_and_starts_leave_fixed_features_alone() -> None:
    system = System(torch.nn.Linear(7, 2), DataSpec((7,), 2, rules=RULES))
    rng = SampleRandom(0, torch.arange(2))
    threat = with_fixed_region(Threat(Norm.linf, Fraction(1, 5)), system, X, torch.tensor([0, 1]), rng)
    ball = threat.around(X, rng)
    assert bool((ball.steepest(torch.ones_like(X))[:, 0] == 0).all())
    start = ball.random(rng, stream="start")
    low, high = TABLE.bounds(X)
    assert bool(((start >= low) & (start <= high)).all())


def test_an_exhaustive_search_finds_no_row_that_the_rules_forbid() -> None:
    """Of all rows of tenths and quarters exactly those are allowed that the definition allows."""
    grid = [(0.3,), (0.4, 0.5), (0.0, 0.25, 0.5, 0.75), (0.1, 0.2, 0.5, 0.9), (0.0, 1.0), (0.0, 1.0), (0.0, 1.0)]
    rows = torch.tensor(list(itertools.product(*grid)))
    x = X[:1].expand(len(rows), 7)
    allowed = Ball(x, Norm.l1, 100.0, table=TABLE).audit(rows).inside
    assert allowed.tolist() == [could_be_a_row(rows[i : i + 1], x[i : i + 1]) for i in range(len(rows))]
    assert 0 < int(allowed.sum()) < len(rows)


def test_rounding_to_levels_and_rules_of_a_table_exclude_each_other() -> None:
    system = System(torch.nn.Linear(7, 2), DataSpec((7,), 2, rules=RULES))
    with pytest.raises(DataError, match=r"threat\.levels is 256, but the features of this table have their own rules"):
        with_fixed_region(Threat(levels=256), system, X, torch.tensor([0, 1]), SampleRandom(0, torch.arange(2)))
