"""Mutation testing on digits: the published direction where it holds here, and where it does not.

Wang et al., ICSE 2019 report an area of 0.96 for FGSM and 0.94 to 0.99 for other attacks on MNIST. On 8x8 digits and a
small convolutional network attacks that end at the boundary are detected nearly always, with tens of mutants; one large
step lands far behind the boundary, where mutants agree with it, and about half of that is detected.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.api import Defense, Norm, SampleRandom, Splits, Target, Threat
from benchmark.stages.fit import built, calibrated
from benchmark.system import Detector, System
from benchmark.testing import contract

ATTACKED = 100


def trained(splits: Splits, defense: Defense) -> nn.Module:
    """A small convolutional network after 20 epochs, with its detector fitted."""
    train, spec = splits.train, splits.spec
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = built(contract.build("model", "small_cnn").build(spec), spec, (defense,))
        optimizer = torch.optim.Adam(model.parameters(), 2e-3)
        x = train.x()
        for _ in range(20):
            for at in torch.randperm(len(train)).split(64):
                optimizer.zero_grad()
                F.cross_entropy(model(x[at]), train.y[at]).backward()
                optimizer.step()
    model.eval()
    defense.finish(model, train, lambda module, examples, loss: None)
    return model


def deceptive(system: System, splits: Splits, name: str, threat: Threat) -> Tensor:
    """Candidates of the attack that the classifier gets wrong."""
    test = splits.test.take(torch.arange(ATTACKED))
    rng = SampleRandom(0, test.ids)
    right = system.logits(test.x(), rng).argmax(1) == test.y
    x, y, rng = test.x()[right], test.y[right], rng.rows(right)
    target = Target(system, rng=rng, classes=10)
    made: Tensor = contract.build("attack", name).perturb(target, x, y, threat=threat, rng=rng)
    return made[system.logits(made, rng).argmax(1) != y]


@pytest.mark.parametrize("name", ["mutation_testing", "model_mutation"])
def test_boundary_attacks_are_detected_with_tens_of_mutants(name: str) -> None:
    splits = contract.build("dataset", "digits").load(Path("data"), offline=True)
    defense = contract.build("defense", name)
    system = System(trained(splits, defense), splits.spec, (defense,), (Detector(defense, 0.0, 1.0),))
    select = splits.select
    threshold = calibrated(system.suspicion(select.x(), SampleRandom(0, select.ids)).double(), 0.05)
    linf, l2 = Threat(norm=Norm.linf, eps=Fraction(1, 10)), Threat(norm=Norm.l2, eps=Fraction(3))
    found = {}
    for attack, threat in (("fgsm", linf), ("deepfool", l2), ("carlini_wagner_100", l2)):
        x = deceptive(system, splits, attack, threat)
        with torch.no_grad():
            tested = defense.tested(system, x)
        found[attack] = (float((tested.share > threshold).float().mean()), float(tested.used.float().mean()))
    for attack in ("deepfool", "carlini_wagner_100"):
        rate, used = found[attack]
        assert rate > 0.9, found
        assert 15 <= used < 60, found
    assert 0.2 < found["fgsm"][0] < 0.9, found
