"""Reprogramming: what a program changes, what it can do to a linear host, and the tasks' pictures."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import scipy.optimize
import torch
from benchmark_plugins.attacks._physical.tasks import Task, least_side, pictures
from benchmark_plugins.attacks.reprogramming import Reprogramming, embedded
from torch import Tensor, nn

from benchmark.data import DataSpec
from benchmark.errors import ConfigError, Refused
from benchmark.oracles.linear import LinearClassifier
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.system.target import Target
from benchmark.threat import Goal, Norm, Region, RegionKind, Threat

THREAT = Threat(Norm.linf, Fraction(8, 255), goal=Goal.random_class)
CLASSES = 4


def host(seed: int = 0, size: int = 12) -> LinearClassifier:
    """A linear host of four classes for images of 12 x 12 pixels."""
    generator = torch.Generator().manual_seed(seed)
    return LinearClassifier(
        torch.randn(CLASSES, size * size, generator=generator), torch.randn(CLASSES, generator=generator)
    ).requires_grad_(False)


def learnt(method: Reprogramming, model: nn.Module, threat: Threat = THREAT, count: int = 60) -> tuple[Tensor, Target]:
    x, rng = torch.zeros(count, 1, 12, 12), SampleRandom(0, torch.arange(count))
    target = Target(System(model, DataSpec((1, 12, 12), CLASSES)), rng=rng, classes=CLASSES, queries=threat.queries)
    y = torch.zeros(count, dtype=torch.int64)
    return method.prepare(target, x, y, threat=threat, rng=rng)["program"], target


def answers(
    method: Reprogramming, model: nn.Module, program: Tensor, count: int = 400
) -> tuple[Tensor, Tensor, Tensor]:
    """The inputs, their labels in the task, and the host's answers."""
    x, rng = torch.rand(count, 1, 12, 12), SampleRandom(0, torch.arange(count) + 9000)
    system = System(model, DataSpec((1, 12, 12), CLASSES))
    target = Target(system, rng=rng, classes=CLASSES, prepared={"program": program})
    y = torch.arange(count) % CLASSES
    x_adv = method.perturb(target, x, y, threat=THREAT, rng=rng)
    assert int(target.ledger.forwards.sum()) == 0
    return x_adv, y, model(x_adv).argmax(1)


def test_the_program_leaves_the_picture_alone_and_keeps_to_its_range() -> None:
    method = Reprogramming(epochs=10)
    program, target = learnt(method, host())
    assert program.shape == (1, 12, 12)
    assert float(program.abs().max()) <= 1.0
    assert bool((program[:, 3:9, 3:9] == 0).all())
    assert bool((program[:, 0] != 0).all())
    assert target.ledger.forwards.unique().tolist() == [10]
    x_adv, y, _ = answers(method, host(), program)
    shown = pictures(Task.squares, y, CLASSES, 6, SampleRandom(0, torch.arange(400) + 9000), draw=None)
    assert torch.equal(x_adv[:, 0, 3:9, 3:9], shown)
    around = x_adv.clone()
    around[:, :, 3:9, 3:9] = 0
    assert torch.equal(around, around[:1].expand_as(around))  # the same program for all
    torch.testing.assert_close(x_adv[0, :, :3], (program[:, :3] + 1) / 2)


def test_a_program_moves_all_logits_of_a_linear_host_alike_and_no_bias_is_better() -> None:
    """Its gradient is the same for every picture of a label, so it can learn a bias and nothing else."""
    model, method = host(1), Reprogramming(epochs=60, examples=200)
    program, _ = learnt(method, model, count=200)
    x_adv, y, _ = answers(method, model, program)
    still = embedded(x_adv, torch.zeros_like(program), x_adv[:, 0, 3:9, 3:9], None)
    moved = model(x_adv) - model(still)
    torch.testing.assert_close(moved, moved[:1].expand_as(moved), rtol=0, atol=1e-4)
    logits = model(still).double().numpy()
    picked = y.numpy()

    def mean_ce(bias: np.ndarray) -> float:
        scores = logits + np.append(bias, 0.0)
        return float(np.mean(np.log(np.exp(scores).sum(1)) - scores[np.arange(len(scores)), picked]))

    best = scipy.optimize.minimize(mean_ce, np.zeros(CLASSES - 1)).fun
    reached = float(nn.functional.cross_entropy(model(x_adv), y))
    before = float(nn.functional.cross_entropy(model(still), y))
    assert best <= reached + 1e-6
    assert reached < best + 0.05
    assert before > best + 0.3


class Counting(nn.Module):
    """A host that would count, were it not for the mean of its frame: that must be 1 for it to answer the count."""

    def forward(self, x: Tensor) -> Tensor:
        frame = x.clone()
        frame[:, :, 3:9, 3:9] = 0.0
        white = x[:, :, 3:9, 3:9].flatten(1).sum(1, keepdim=True) / 1.0
        gate = frame.flatten(1).sum(1, keepdim=True) / 108.0
        counts = torch.arange(CLASSES, dtype=x.dtype) + 1
        return -(white * gate - counts).square()


def test_a_host_that_can_do_the_task_is_made_to() -> None:
    method = Reprogramming(epochs=60)
    plain = answers(method, Counting(), torch.zeros(1, 12, 12))
    program, _ = learnt(method, Counting())
    _, y, said = answers(method, Counting(), program)
    assert float((plain[2] == plain[1]).float().mean()) < 0.7
    assert float((said == y).float().mean()) > 0.95
    assert float(program[:, :3].mean()) > 0.8


def test_without_a_label_to_reach_the_picture_has_another_one() -> None:
    x, rng = torch.rand(50, 1, 12, 12), SampleRandom(0, torch.arange(50))
    program = torch.zeros(1, 12, 12)
    spec = DataSpec((1, 12, 12), CLASSES)
    target = Target(System(host(), spec), rng=rng, classes=CLASSES, prepared={"program": program})
    y = torch.arange(50) % CLASSES
    x_adv = Reprogramming().perturb(target, x, y, threat=Threat(), rng=rng)
    count = x_adv[:, 0, 3:9, 3:9].flatten(1).sum(1)
    assert not bool((count == y + 1).any())
    assert sorted(count.unique().tolist()) == [1, 2, 3, 4]


def test_the_example_shows_outside_the_region_and_budgets_hold() -> None:
    threat = Threat(goal=Goal.random_class, region=Region(RegionKind.border, 2), queries=3)
    method = Reprogramming()
    program, target = learnt(method, host(), threat)
    assert int(target.ledger.forwards.max()) == 3
    assert bool((program[:, 2, 2:10] == 0).all())  # nothing is learnt where nothing may change
    x, rng = torch.rand(5, 1, 12, 12), SampleRandom(0, torch.arange(5))
    system = System(host(), DataSpec((1, 12, 12), CLASSES))
    here = Target(system, rng=rng, classes=CLASSES, prepared={"program": program})
    x_adv = method.perturb(here, x, torch.arange(5) % 4, threat=threat, rng=rng)
    assert torch.equal(x_adv[:, :, 2:10, 2:10], x[:, :, 2:10, 2:10])
    assert bool((x_adv[:, :, :2] != x[:, :, :2]).all())


# --- the tasks ---


@pytest.mark.parametrize(("classes", "side", "cell"), [(4, 6, 3), (10, 4, 1), (10, 36, 9), (2, 5, 2), (100, 40, 4)])
def test_squares_are_counted(classes: int, side: int, cell: int) -> None:
    labels = torch.arange(60) % classes
    rng = SampleRandom(0, torch.arange(60))
    shown = pictures(Task.squares, labels, classes, side, rng, draw=0)
    assert shown.shape == (60, side, side)
    inner = (cell - 2) ** 2 if cell >= 3 else cell**2
    assert torch.equal(shown.flatten(1).sum(1), (labels + 1.0) * inner)
    other = pictures(Task.squares, labels, classes, side, rng, draw=1)
    test = pictures(Task.squares, labels, classes, side, rng, draw=None)
    assert bool((shown != other).any())
    assert bool((shown != test).any())
    part = torch.tensor([7, 3])
    assert torch.equal(pictures(Task.squares, labels[part], classes, side, rng.rows(part), draw=0), shown[part])


def test_digits_are_of_their_label_and_of_other_writers_in_the_test() -> None:
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    values, targets = sklearn_datasets.load_digits(return_X_y=True)
    labels, rng = torch.arange(40) % 10, SampleRandom(0, torch.arange(40))
    known = {
        tuple((row / 16).astype("float32")): (place, int(y))
        for place, (row, y) in enumerate(zip(values, targets, strict=True))
    }
    for draw, learn in ((0, True), (5, True), (None, False)):
        shown = pictures(Task.digits, labels, 10, 8, rng, draw=draw)
        for row, label in zip(shown, labels.tolist(), strict=True):
            place, said = known[tuple(row.flatten().tolist())]
            assert said == label
            assert (place < 1297) is learn
    small = pictures(Task.digits, labels, 10, 4, rng, draw=0)
    torch.testing.assert_close(small, nn.functional.avg_pool2d(pictures(Task.digits, labels, 10, 8, rng, draw=0), 2))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(
        Refused, match=r"attack\.task=digits has 10 labels, and the system has 11 classes; choose attack"
    ):
        least_side(Task.digits, 11)
    with pytest.raises(
        Refused, match=r"needs pictures of 6 pixels a side for 30 labels, and room for a program around"
    ):
        Reprogramming().check(DataSpec((1, 5, 5), 30), THREAT)
    with pytest.raises(ConfigError, match=r"attack\.share is 1\.0; expected a share of the image's side"):
        Reprogramming(share=1.0)
