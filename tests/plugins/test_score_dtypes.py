"""Every attack against systems that answer in float64, bfloat16 or float16: none crashes, and none is blamed."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmark import registry
from benchmark.api import Attack, PreparedAttack
from benchmark.data import DataSpec, Examples
from benchmark.errors import Refused
from benchmark.oracles.worlds import attack_world
from benchmark.sampling import SampleRandom
from benchmark.stages.batch import Job, attack_batch
from benchmark.stages.prepare import prepare
from benchmark.system import System
from benchmark.system.references import References
from benchmark.system.target import Target
from benchmark.tasks.task import CLASSIFICATION
from benchmark.testing.contract import build
from benchmark.threat import Access, Norm, Threat
from benchmark.threat.ball import distance
from tests.house.checkout import optional_packages

SHORT = {
    **dict.fromkeys(("restarts", "epochs", "search_steps"), 1),
    **dict.fromkeys(("samples", "searches", "rounds", "starts", "neighbours", "candidates"), 2),
    **{
        "steps": 3,
        "pairs": 4,
        "coordinates": 4,
        "population": 8,
        "probes": 8,
        "examples": 20,
        "passes": 25,
        "tries": 9,
    },
    "queries": 60,
}
"""Settings that make a search short, where an attack has them."""

RADII = {Norm.linf: Fraction(1, 4), Norm.l2: Fraction(3, 2), Norm.l1: Fraction(8), Norm.l0: Fraction(12)}
DTYPES = (torch.float64, torch.bfloat16, torch.float16)


class Answering(nn.Module):
    """A classifier that computes in another precision inside."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model.to(dtype), dtype

    def forward(self, x: Tensor) -> Tensor:
        """(B, *S) to (B, K) in that precision."""
        scores: Tensor = self.model(x.to(self.dtype))
        return scores


def short(name: str) -> Attack:
    """The attack with its search made short."""
    plugin = registry.load("attack", name)
    known = {field.name: field.default for field in dataclasses.fields(plugin) if isinstance(field.default, int)}
    fewer = {key: value for key, value in SHORT.items() if known.get(key, 0) > value}
    holds_plugins = any("plugin" in field.metadata for field in dataclasses.fields(plugin))
    attack = build("attack", name, **fewer) if holds_plugins else plugin(**fewer)
    assert isinstance(attack, Attack)
    return attack


@pytest.mark.parametrize(
    "name", [name for name in registry.names("attack") if name != "cascade"]
)  # of members tried here
def test_scores_of_any_precision_are_attacked(name: str, tmp_path: Path) -> None:
    with optional_packages():
        attack = short(name)
    if CLASSIFICATION not in attack.tasks:
        pytest.skip("is for scenes of several sites")
    if attack.supports.trigger or not attack.supports.norms:
        pytest.skip("shows the trigger of a poison")
    norm = next(n for n in RADII if n in attack.supports.norms)
    spec = DataSpec((1, 8, 8), 10)
    threat = Threat(norm, RADII[norm], access=attack.supports.access, queries=100, surrogate="")
    if threat.access is Access.transfer:
        pytest.skip("needs a surrogate")
    try:
        attack.check(spec, threat)
    except Refused as refusal:
        pytest.skip(str(refusal))
    for dtype in DTYPES:
        world = attack_world("tanh", 20)
        system = System(Answering(world.model, dtype), spec)
        ids = torch.arange(20)
        shown = system.logits(world.x, SampleRandom(0, ids))
        assert shown.dtype == torch.float32
        examples = Examples.of(ids, world.x, shown.argmax(1))
        job = Job(attack, threat, system, system, examples, 0, 20, tmp_path, owned=References.of(examples, 10))
        if isinstance(attack, PreparedAttack):
            job = dataclasses.replace(job, folder=tmp_path / str(dtype))
            job.folder.mkdir()
            job = dataclasses.replace(job, prepared=prepare(job, torch.device("cpu")))
        outcomes = attack_batch(job, examples.x(ids[:2]), examples.y[:2], ids[:2]).outcomes
        assert bool(outcomes.attacked.all())
        assert bool(outcomes.valid.all()), dtype
        assert bool((outcomes.adv_label != outcomes.y)[outcomes.broken].all())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["deepfool", "superdeepfool"])
def test_a_boundary_where_rounded_scores_are_equal_is_crossed(name: str, dtype: torch.dtype) -> None:
    world = attack_world("plain", 20)
    model = Answering(world.model, dtype)
    y = model(world.x).float().argmax(1)
    ids, attack = torch.arange(len(y)), registry.load("attack", name)()
    assert isinstance(attack, Attack)
    target = Target(System(model, world.spec), rng=SampleRandom(1, ids), classes=world.spec.classes)
    x_adv = attack.perturb(target, world.x, y, threat=Threat(Norm.l2), rng=SampleRandom(0, ids))
    assert bool((model(x_adv).float().argmax(1) != y).all())
    far, exact = distance(x_adv, world.x, Norm.l2), attack_world("plain", 20).exact(Norm.l2)
    assert exact is not None
    assert float((far / exact).median()) < 1.3
