"""Defenses at inference in whole runs: trained, stored, read again, attacked and verified, alone and stacked."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from benchmark_plugins.defenses.bit_depth import BitDepth
from benchmark_plugins.defenses.class_manifold import ClassManifold
from benchmark_plugins.defenses.defense_gan import DefenseGAN
from benchmark_plugins.defenses.diffusion_purification import DiffusionPurification
from benchmark_plugins.defenses.ensemble import Combination, Ensemble
from benchmark_plugins.defenses.median_smoothing import MedianSmoothing
from benchmark_plugins.defenses.random_resize_pad import RandomResizePad
from benchmark_plugins.defenses.thermometer import Thermometer
from benchmark_plugins.defenses.vae_purification import VAEPurification
from benchmark_plugins.models.linear import Linear

from benchmark.api import Defense, SampleRandom
from benchmark.commands.verify import verify_record
from benchmark.records.store import Store
from benchmark.run import run
from tests.core.cells import fitted_of, loaded_of, plugin, small_config

STACKS: dict[str, tuple[Defense, ...]] = {
    "squeezed": (BitDepth(1), MedianSmoothing(2)),
    "random": (RandomResizePad(votes=3), Thermometer(4)),
    "generated": (DefenseGAN(steps=2, restarts=2, rounds=1, width=16), BitDepth(4)),
    "autoencoded": (VAEPurification(width=16), Ensemble(2, Linear(), 0, Combination.vote)),
    "manifold": (ClassManifold(width=16),),
    "diffused": (DiffusionPurification(votes=3), Thermometer(8)),
}


ONE_EPOCH = ("generated", "autoencoded", "manifold")
"""Stacks whose purifiers give the same for every input after one epoch, so that no input can be broken."""


@pytest.mark.parametrize("name", STACKS)
def test_a_stack_is_trained_read_again_attacked_and_verified(name: str, tmp_path: Path) -> None:
    config = small_config(tmp_path, defenses=STACKS[name], examples=40)
    result = run(config)
    assert result.error is None
    store = Store(tmp_path / "results")
    record = store.record(result.key)
    assert record is not None
    proof = verify_record(store.cell(result.key), record, store, tmp_path / "data")
    assert proof.broken == proof.claimed
    assert proof.claimed > 0 or name in ONE_EPOCH
    assert {f.name for f in record.findings if f.severity == "error"} == set()
    loaded = loaded_of(config)
    system, _ = fitted_of(config, loaded)
    assert record.cost is not None
    assert record.counts is not None
    assert record.cost.forwards == record.counts.clean_correct * system.passes  # FGSM asks once
    x, rng = loaded.splits.test.x(torch.arange(32)), SampleRandom(0, torch.arange(32))
    assert not torch.equal(system.logits(x, rng), system.undefended().logits(x, rng))


def test_weights_that_are_given_stay_those_of_the_classifier(tmp_path: Path) -> None:
    stack = (DiffusionPurification(votes=1),)
    config = small_config(tmp_path, model=plugin("model", "nearest_class_mean"), defenses=stack, examples=40)
    assert run(config).error is None
    loaded = loaded_of(config)
    system, card = fitted_of(config, loaded)
    assert card.epochs_run == 0
    given = config.model.pretrained(loaded.splits.spec)
    assert given is not None
    assert torch.equal(system.model.get_parameter("model.1.weight"), given["1.weight"])
