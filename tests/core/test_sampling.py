"""Randomness per example: reproducible, independent of the batch, and of the distribution it claims."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from benchmark.sampling import SampleRandom, ambient, derive_seed, using

IDS = torch.tensor([0, 3, 10**12, 7, 8])


def _draws(rng: SampleRandom, draw: int = 0) -> dict[str, torch.Tensor]:
    return {
        "uniform": rng.uniform(3, 4, stream="s", draw=draw),
        "normal": rng.normal(12, stream="s", draw=draw),
        "integers": rng.integers(1000, 12, stream="s", draw=draw),
        "signs": rng.signs(40, stream="s", draw=draw),
        "permutation": rng.permutation(12, stream="s", draw=draw),
    }


@pytest.mark.parametrize("kind", ["uniform", "normal", "integers", "signs", "permutation"])
def test_values_belong_to_the_example_and_to_nothing_else(kind: str) -> None:
    whole = _draws(SampleRandom(5, IDS))[kind]
    order = torch.tensor([4, 0, 2, 2])
    assert torch.equal(_draws(SampleRandom(5, IDS).rows(order))[kind], whole[order])
    assert torch.equal(_draws(SampleRandom(5, IDS[2:3]))[kind], whole[2:3])
    torch.manual_seed(123)
    assert torch.equal(_draws(SampleRandom(5, IDS))[kind], whole)
    assert len({tuple(row.flatten().tolist()) for row in whole}) == len(IDS)


@pytest.mark.parametrize("kind", ["uniform", "normal", "integers", "signs", "permutation"])
def test_seed_stream_draw_turn_and_child_give_other_values(kind: str) -> None:
    rng = SampleRandom(5, IDS)
    others = [
        _draws(SampleRandom(6, IDS))[kind],
        _draws(rng, draw=1)[kind],
        _draws(rng.child("inner"))[kind],
        _draws(rng.child("inner", 2))[kind],
        _draws(rng.at_turn(torch.zeros(5, dtype=torch.int64)))[kind],
        _draws(rng.at_turn(torch.ones(5, dtype=torch.int64)))[kind],
    ]
    seen = [_draws(rng)[kind], *others]
    assert all(not torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])
    assert not torch.equal(rng.uniform(4, stream="a"), rng.uniform(4, stream="b"))


def test_a_draw_may_differ_between_rows() -> None:
    rng = SampleRandom(5, IDS)
    mixed = rng.uniform(4, stream="s", draw=torch.tensor([0, 1, 0, 1, 2]))
    for row, draw in enumerate([0, 1, 0, 1, 2]):
        assert torch.equal(mixed[row], rng.uniform(4, stream="s", draw=draw)[row])


def test_longer_rows_begin_with_shorter_ones() -> None:
    rng = SampleRandom(5, IDS)
    assert torch.equal(rng.normal(30, stream="s")[:, :7], rng.normal(7, stream="s"))


def test_values_are_pinned() -> None:
    """A change of the hash would silently change every published number."""
    assert derive_seed(0, "cell") == derive_seed(0, "cell") != derive_seed("0cell")
    assert derive_seed(1, "a") == 475944544596965755
    got = SampleRandom(7, torch.tensor([42])).integers(1 << 31, 3, stream="s")
    assert got.tolist() == [[159225935, 2063203342, 624053462]]


@pytest.mark.parametrize("along", ["within a row", "across rows", "across draws"])
def test_distributions(along: str) -> None:
    count = 20000
    if along == "within a row":
        shape, rng, draw = (count,), SampleRandom(1, torch.tensor([3])), torch.zeros(1, dtype=torch.int64)
    elif along == "across rows":
        shape, rng, draw = (1,), SampleRandom(1, torch.arange(count)), torch.zeros(count, dtype=torch.int64)
    else:
        shape, rng = (1,), SampleRandom(1, torch.zeros(count, dtype=torch.int64))
        draw = torch.arange(count)
    uniform = rng.uniform(*shape, stream="u", draw=draw).flatten().double().numpy()
    normal = rng.normal(*shape, stream="n", draw=draw).flatten().double().numpy()
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3
    assert stats.kstest(normal, "norm").pvalue > 1e-3
    assert 0.0 <= uniform.min() < uniform.max() < 1.0
    pairs = abs(float(np.corrcoef(uniform[:-1], uniform[1:])[0, 1]))
    assert pairs < 4.0 / math.sqrt(count)
    counts = torch.bincount(rng.integers(10, *shape, stream="i", draw=draw).flatten(), minlength=10)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3
    signs = rng.signs(*shape, stream="+", draw=draw)
    assert set(signs.flatten().tolist()) == {-1.0, 1.0}
    assert abs(float(signs.mean())) < 4.0 / math.sqrt(count)


def test_permutations_are_permutations_and_uniform() -> None:
    rows = SampleRandom(1, torch.arange(6000)).permutation(3, stream="p")
    assert torch.equal(rows.sort(1).values, torch.arange(3).expand(6000, 3))
    counts = torch.bincount((rows * torch.tensor([9, 3, 1])).sum(1))
    assert stats.chisquare(counts[counts > 0].numpy()).pvalue > 1e-3
    assert int((counts > 0).sum()) == 6


def test_limits_of_uniform() -> None:
    values = SampleRandom(1, torch.arange(1000)).uniform(10, stream="u", low=-0.3, high=0.3)
    assert values.dtype == torch.float32
    assert -0.3 <= float(values.min()) < -0.29
    assert 0.29 < float(values.max()) <= 0.3


def test_the_ambient_randomness_has_an_end() -> None:
    rng = SampleRandom(1, IDS)
    with using(rng):
        assert ambient() is rng
        with using(rng.child("inner")):
            assert ambient() is not rng
        assert ambient() is rng
    with pytest.raises(RuntimeError, match=r"call it inside `with benchmark.sampling.using\(rng\):`"):
        ambient()
