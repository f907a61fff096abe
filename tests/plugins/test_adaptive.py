"""The adaptive search: a linear program as its oracle, and systems whose own gradient hides what can be broken."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from benchmark_plugins.attacks.adaptive import Adaptive
from benchmark_plugins.attacks.apgd import APGD, APGDLoss
from benchmark_plugins.attacks.pgd import PGD
from benchmark_plugins.attacks.square import Square
from benchmark_plugins.defenses.diffusion_purification import DiffusionPurification
from benchmark_plugins.defenses.jpeg import Jpeg
from scipy.optimize import linprog
from sklearn.datasets import load_digits
from torch import Tensor, nn

from benchmark.api import Attack, DataSpec, Defense, Examples
from benchmark.errors import ConfigError
from benchmark.oracles.linear import LinearClassifier, nearest_class_mean
from benchmark.sampling import SampleRandom, ambient
from benchmark.stages.fit import built
from benchmark.stages.judge import answer
from benchmark.system import REJECTED, Detector, System
from benchmark.system.target import Target
from benchmark.threat import Threat, parse_eps

PROBLEM = nearest_class_mean("digits")


def _target(system: System, x: Tensor, threat: Threat, *, aware: bool = True) -> Target:
    rng = SampleRandom(0, torch.arange(len(x)))
    view = system if aware else system.undefended()
    return Target(
        view,
        rng=rng.child("system"),
        classes=system.spec.classes,
        queries=threat.queries,
        eot=threat.eot,
        randomized=view.randomized,
        detectors=view.detectors,
        ball=threat.around(x, rng),
        passes=view.passes,
        votes=view.votes,
        smoother=view.smoother if aware else None,
    )


@dataclass(frozen=True)
class Attempt:
    """robust: (B,) bool, right before and after. rejected: (B,) bool, of the candidates. target: with its ledger."""

    robust: Tensor
    rejected: Tensor
    target: Target


def _attempt(attack: Attack, system: System, x: Tensor, y: Tensor, threat: Threat, *, aware: bool = True) -> Attempt:
    rng = SampleRandom(0, torch.arange(len(x)))
    target = _target(system, x, threat, aware=aware)
    x_adv = attack.perturb(target, x, y, threat=threat, rng=rng)
    said = answer(system, x_adv, y, rng.child("verdict")).label
    clean = answer(system, x, y, rng.child("verdict")).label == y
    return Attempt(clean & ((said == y) | (said == REJECTED)), said == REJECTED, target)


# --- a linear classifier beside a linear detector: what is possible is a linear program ---

ROWS, SIZE, EPS = 60, 8, 0.1


@dataclass(frozen=True)
class Slope(Defense):
    """Suspects an input by v.x."""

    detects = True

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        return x @ _slopes()[1].to(x)


@cache
def _slopes() -> tuple[Tensor, Tensor, Tensor, float]:
    """w and v (SIZE,), neither parallel nor orthogonal; inputs (ROWS, SIZE) of label 0; the detector's threshold."""
    draw = torch.Generator().manual_seed(3)
    w = torch.randn(SIZE, generator=draw)
    v = torch.randn(SIZE, generator=draw) + w
    x = 0.45 + 0.1 * torch.rand(ROWS, SIZE, generator=draw)
    x = x - ((x - 0.5) @ v / (v @ v))[:, None] * v  # all equally suspicious
    return w, v, x, float((x @ v).mean()) + 0.02


def _room(x: np.ndarray) -> tuple[float, float]:
    """The largest w.x in the ball, and the largest that the detector accepts: the solution of a linear program."""
    w, v, _, threshold = _slopes()
    bounds = [(max(0.0, value - EPS), min(1.0, value + EPS)) for value in x]
    free = linprog(-w.numpy(), bounds=bounds)
    aware = linprog(-w.numpy(), A_ub=v.numpy()[None], b_ub=[threshold], bounds=bounds)
    return -float(free.fun), -float(aware.fun)


def test_an_aware_attack_passes_a_linear_detector_where_a_linear_program_does() -> None:
    """The oblivious optimum breaks every example and is refused; the aware one breaks what can be broken with room."""
    w, _, x, threshold = _slopes()
    rooms = torch.tensor([_room(row) for row in x.double().numpy()])
    caught = rooms[:, 0] > rooms[:, 1] + 0.02
    assert bool(caught.all())  # w and v are not orthogonal
    # The boundary is such that for half of the examples what is possible is just enough, and for half it is not.
    bias = -float(rooms[:, 1].median())
    system = System(
        LinearClassifier(torch.stack([torch.zeros(SIZE), w]).double(), torch.tensor([0.0, bias]).double()).float(),
        DataSpec((SIZE,), 2),
        (Slope(),),
        [Detector(Slope(), threshold, 1.0)],
    )
    y, threat = torch.zeros(len(x), dtype=torch.int64), Threat(eps=parse_eps("1/10"))
    possible, impossible = rooms[:, 1] + bias > 0.025, rooms[:, 1] + bias < 0
    clean = (x @ w + bias) < 0
    oblivious = _attempt(Adaptive(passes=200), system, x, y, threat, aware=False)
    aware = _attempt(Adaptive(passes=400), system, x, y, threat)
    reachable = clean & (rooms[:, 0] + bias > 0.02)
    assert int((reachable & possible).sum()) >= 5
    assert int((reachable & impossible).sum()) >= 4
    assert bool(oblivious.rejected[reachable].all())
    assert not bool((aware.robust & clean & possible).any())
    assert bool(aware.robust[clean & impossible].all())


# --- transformed systems: no more is left than by the best attack chosen by hand at as many passes ---


@cache
def _purified() -> System:
    digits = load_digits()
    train = Examples.of(
        torch.arange(1297) + 1000, torch.from_numpy(digits.data[:1297] / 16.0), torch.from_numpy(digits.target[:1297])
    )
    defense = DiffusionPurification(sigma=0.05, noise=False, votes=1, examples=1297)
    spec = DataSpec((64,), 10)
    model = built(PROBLEM.model().float(), spec, (defense,))
    defense.finish(model, train, lambda *_: None)
    return System(model, spec, (defense,))


class _Image(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = PROBLEM.model().float()

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, 8, 8) to (B, 10)."""
        logits: Tensor = self.linear(x.flatten(1))
        return logits


@cache
def _compressed() -> System:
    return System(_Image(), DataSpec((1, 8, 8), 10), (Jpeg(quality=40),))


@pytest.mark.parametrize(("name", "count", "passes"), [("purified", 60, 150), ("compressed", 40, 100)])
def test_no_more_is_left_than_by_the_best_attack_chosen_by_hand_at_as_many_passes(
    name: str, count: int, passes: int
) -> None:
    system = _purified() if name == "purified" else _compressed()
    x, y = PROBLEM.x[:count].float().reshape(count, *system.spec.shape), PROBLEM.y[:count]
    threat = Threat(eps=parse_eps("1/10"), queries=passes)
    by_hand = (
        PGD(steps=passes),
        APGD(steps=passes - 1),
        APGD(steps=passes - 1, loss=APGDLoss.margin),
        Square(queries=passes),
    )
    fewest = min(int(_attempt(attack, system, x, y, threat).robust.sum()) for attack in by_hand)
    found = _attempt(Adaptive(passes=passes), system, x, y, threat)
    assert int(found.robust.sum()) <= fewest
    assert int(found.target.ledger.forwards.max()) <= passes
    if name == "purified":  # what its own gradient hides, the smoother settings show
        assert int(found.robust.sum()) <= fewest - 2
        assert any("through smoother" in part for part in Counter(found.target.ledger.found_by))


# --- random systems ---


@dataclass(frozen=True)
class Coin(Defense):
    """Answers wrongly in one draw of five, whatever the input."""

    randomized = True
    votes: int = 15

    def protect(self, model: nn.Module) -> nn.Module:
        return _Coin(model)


class _Coin(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x)
        turned = ambient().uniform(1, stream="coin") < 0.2
        return torch.where(turned, -logits, logits)


def test_one_lucky_draw_breaks_nothing() -> None:
    """The search claims nothing if no point of the ball is wrong in most draws."""
    x = torch.full((12, 4), 0.5)
    weight = torch.tensor([[1.0, 1.0, 1.0, 1.0], [-1.0, -1.0, -1.0, -1.0]])
    system = System(LinearClassifier(weight.double(), torch.zeros(2).double()).float(), DataSpec((4,), 2), (Coin(),))
    y, threat = torch.zeros(12, dtype=torch.int64), Threat(eps=parse_eps("1/10"), eot=2)
    rng = SampleRandom(0, torch.arange(12))
    target = _target(system, x, threat)
    x_adv = Adaptive(passes=400).perturb(target, x, y, threat=threat, rng=rng)
    assert bool((answer(system, x_adv, y, rng.child("clean")).label == y).all())
    assert bool((target.answers(x_adv) == y).all())


def test_senseless_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"attack\.passes is 0; expected at least 1"):
        Adaptive(passes=0)
