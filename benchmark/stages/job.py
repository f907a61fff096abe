"""The job of a worker that attacks any part of a cell, with the target and the guard that the attack gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark import registry
from benchmark.api import Attack, Certifier
from benchmark.data import Examples
from benchmark.errors import AttackFault
from benchmark.guard import drawn
from benchmark.sampling import SampleRandom
from benchmark.stages.backdoor import Backdoor
from benchmark.stages.survivors import Survivors
from benchmark.system import System
from benchmark.system.references import References
from benchmark.system.target import Target
from benchmark.threat import Threat
from benchmark.threat.ball import Ball

__all__ = ["Job", "call_guarded", "owned_name", "target_of"]


@dataclass(frozen=True)
class Job:
    """Everything that a worker needs to attack any part of a cell.

    system: the evaluated system. attacker_view: the attacker's model: the system, its undefended model, or a surrogate.
    examples: the cell's example list. folder: of finished batches. owned: the attacker's own inputs.
    prepared: tensors that the attack has prepared, on the device; None before that, or if it prepares nothing.
    backdoor: the trigger of the system's poison, for an attack that applies it, else None.
    survivors: examples left by earlier cells; None if the attack gets all.
    told: called from time to time with the passes made so far for the examples under attack, (b,) int64.
    """

    attack: Attack
    threat: Threat
    system: System
    attacker_view: System
    examples: Examples
    seed: int
    batch_size: int
    folder: Path
    certifiers: tuple[Certifier, ...] = ()
    owned: References | None = None
    prepared: dict[str, Tensor] | None = None
    backdoor: Backdoor | None = None
    survivors: Survivors | None = None
    told: Callable[[Tensor], None] | None = None


def target_of(job: Job, threat: Threat, ball: Ball, rng: SampleRandom, *, ranked: Tensor | None = None) -> Target:
    """The system as a job's attacker sees it, for the examples at the centre of `ball`; `rng` is the attack's."""
    return Target(
        job.attacker_view,
        rng=rng.child("system"),
        classes=job.system.spec.classes,
        access=threat.access,
        queries=threat.queries,
        eot=threat.eot,
        randomized=job.attacker_view.randomized,
        detectors=job.attacker_view.detectors,
        ball=ball,
        owned=job.owned,
        passes=job.attacker_view.passes,
        votes=job.attacker_view.votes,
        smoother=job.attacker_view.smoother if threat.aware else None,
        prepared=job.prepared,
        trigger=None if job.backdoor is None else job.backdoor.trigger,
        ranked=ranked,
        task=job.system.spec.task,
        goal=threat.goal,
        told=job.told,
    )


def call_guarded(job: Job, call: Callable[[Tensor, Tensor], Any], x: Tensor, y: Tensor) -> Any:
    """Call a method of an attack on copies of `x` and `y`, under guard.

    Raises:
        AttackFault: if it touched anything but its own tensors.
    """
    x_given, y_given = x.clone(), y.clone()
    with registry.calling(job.attack, generators=False), job.attacker_view.closed():
        before = drawn(x.device)
        result = call(x_given, y_given)
        drew = drawn(x.device) != before
    if drew and not _draws_globally(job.attacker_view, x):
        raise AttackFault(
            f"{owned_name(job.attack)} drew from a global random generator; randomness must come from `rng`, or no "
            "result of it can be reproduced: its author must fix it"
        )
    if not (torch.equal(x_given, x) and torch.equal(y_given, y)):
        raise AttackFault(
            f"{owned_name(job.attack)} changed its input in place; it must work on a copy: its author must fix it"
        )
    return result


def _draws_globally(system: System, x: Tensor) -> bool:
    """True if the system itself draws from a global generator, which a finding reports; the attack is not to blame."""
    before = drawn(x.device)
    system.logits(x[:1], SampleRandom(0, torch.zeros(1, dtype=torch.int64, device=x.device)))
    return drawn(x.device) != before


def owned_name(attack: Attack) -> str:
    """kind.name of an attack from its owner, for messages."""
    return registry.owner_of(type(attack)).named
