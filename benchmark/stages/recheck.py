"""recheck: a sample of examples is attacked again in another batch, which may change no result."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from benchmark import registry
from benchmark.config.schema import Trainer
from benchmark.records.outcomes import Outcomes
from benchmark.records.record import Finding
from benchmark.sampling import SampleRandom, derive_seed
from benchmark.stages.batch import attack_batch
from benchmark.stages.devices import device_of, exact_math
from benchmark.stages.job import Job
from benchmark.stages.prepare import prepare

__all__ = ["DEPENDS", "UNRELIABLE", "recheck"]

DEPENDS = "attack_depends_on_batch"
"""The finding that this may make."""

UNRELIABLE = {"rows_depend_on_each_other", "undeclared_randomness"}
"""Findings about a system whose answers change by themselves: nothing then follows about an attack."""

LEAST = 8
SHARE_REATTACKED = 0.02
"""The examples that are attacked again: so many, or that share of all if it is more."""

NEAR = 1e-3
"""The relative difference of distances that rounding may cause."""


def recheck(job: Job, trainer: Trainer, outcomes: Outcomes) -> Finding | None:
    """Attack a seeded sample of the attacked examples again, in a batch of their own, and compare.

    Args:
        outcomes: of the whole cell. The systems of the job are moved to the trainer's device.

    Returns:
        A finding that names the attack, if an example came out differently.
    """
    rows = _sample(job.seed, outcomes)
    if len(rows) == 0:
        return None
    device = device_of(trainer)
    job.system.to(device)
    job.attacker_view.to(device)
    with exact_math():
        job = dataclasses.replace(job, prepared=prepare(job, device), certifiers=())
        parts = (job.examples.x(rows), job.examples.y[rows], job.examples.ids[rows])
        again = attack_batch(job, *(part.to(device) for part in parts)).outcomes
    differs = _differs(outcomes, again, rows, job.threat.norm.value)
    if not bool(differs.any()):
        return None
    owner = registry.owner_of(type(job.attack)).named
    return Finding(
        name=DEPENDS,
        severity="error",
        evidence=f"{owner}: {int(differs.sum())} of {len(rows)} examples that were attacked again in another batch "
        f"came out differently (such as example {int(outcomes.ids[rows[differs]][0])}), so its results depend on the "
        "batch size; rows of a batch must not influence each other: its author must fix it",
    )


def _sample(seed: int, outcomes: Outcomes) -> Tensor:
    """Positions of attacked examples, at most half of them, so that their company is another, (M,) int64."""
    attacked = outcomes.attacked.nonzero().squeeze(1)
    count = min(max(LEAST, round(SHARE_REATTACKED * len(outcomes))), len(attacked) // 2)
    order = SampleRandom(derive_seed(seed, "recheck"), outcomes.ids[attacked]).uniform(1, stream="recheck").squeeze(1)
    return attacked[order.argsort(stable=True)[:count]].sort().values


def _differs(first: Outcomes, again: Outcomes, rows: Tensor, norm: str) -> Tensor:
    """Examples whose outcome is another one, (M,) bool."""
    changed = torch.zeros(len(rows), dtype=torch.bool)
    for name in ("valid", "adversarial", "broken"):
        changed |= getattr(first, name)[rows] != getattr(again, name).cpu()
    one, other = first.distances(norm)[rows], again.distances(norm).cpu()
    both = one.isfinite() & other.isfinite()
    return changed | (both & ((one - other).abs() > NEAR * (1e-3 + one.abs())))
