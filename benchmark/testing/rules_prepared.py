"""Rules for prepared attacks, and the preparation used by the rules of all attacks."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmark.api import Attack, PreparedAttack
from benchmark.stages.settle import with_fixed_region
from benchmark.system.target import Ledger, Target
from benchmark.testing.rule import Inapplicable, demand, leaving_the_process_alone, rules_of
from benchmark.testing.worlds import Spot, World, global_state, same_state, seeded, threat_of, world, world_of
from benchmark.threat import Access, Goal, Norm, Threat

__all__ = ["PREPARED_RULES", "Preparation", "preparation", "toy_target"]

KNOWN = 8
"""Number of examples that an attack prepares from."""


@dataclass(frozen=True)
class Preparation:
    """One preparation. prepared: None for attacks that prepare nothing. touched: foreign state that it changed."""

    prepared: dict[str, Tensor] | None
    ledger: Ledger | None = None
    touched: tuple[str, ...] = ()


def toy_target(here: World, threat: Threat, seed: int, prepared: dict[str, Tensor] | None = None) -> Target:
    """The world's system, as the threat lets an attacker see it."""
    return Target(
        here.system,
        rng=here.rng(seed),
        classes=here.spec.classes,
        access=threat.access,
        queries=threat.queries,
        eot=threat.eot,
        randomized=here.system.randomized,
        ball=threat.around(here.x, here.rng(seed)),
        owned=here.owned,
        prepared=prepared,
        trigger=Spot().trigger,
        task=here.spec.task,
        goal=threat.goal,
    )


def preparation(attack: Attack, here: World, threat: Threat, seed: int = 0) -> Preparation:
    """Let the attack prepare against a world's system, on examples that are not those of the world."""
    if not isinstance(attack, PreparedAttack):
        return Preparation(None)
    ids = torch.arange(KNOWN, dtype=torch.int64) * 5 + 1001
    task = here.spec.task
    there = world(here.spec.shape, here.spec.classes, count=KNOWN, task=task.name)
    x = there.x.flip(0).to(here.x.dtype)
    y = there.y.flip(0) if task.dense else torch.arange(KNOWN, dtype=torch.int64) % here.spec.classes
    known = dataclasses.replace(here, x=x, y=y, ids=ids)
    threat = with_fixed_region(dataclasses.replace(threat, masks=None), here.system, x, y, known.rng(seed))
    target, x, y = toy_target(known, threat, seed), known.x.clone(), known.y.clone()
    with seeded(seed):
        before = global_state()
        prepared = attack.prepare(target, x, y, threat=threat, rng=known.rng(seed))
        drawn = not same_state(before, global_state())
    touched = {
        "x": not torch.equal(x, known.x),
        "y": not torch.equal(y, known.y),
        "a global generator": drawn,
        "the system's mode": any(module.training for module in here.system.modules()),
        "the system's weights": any(p.requires_grad or p.grad is not None for p in here.system.parameters()),
    }
    return Preparation(prepared, target.ledger, tuple(what for what, true in touched.items() if true))


def _threats(attack: Attack, **changes: Any) -> list[Threat]:
    if not isinstance(attack, PreparedAttack):
        raise Inapplicable("the attack prepares nothing")
    goals = [Goal.untargeted, Goal.next_class] if attack.supports.targeted else [Goal.untargeted]
    surrogate = "toy" if attack.supports.access is Access.transfer else ""
    same: dict[str, Any] = {"access": attack.supports.access, "surrogate": surrogate, **changes}
    return [threat_of(norm, goal=goal, **same) for norm in Norm if norm in attack.supports.norms for goal in goals]


def prepares_the_same_tensors_again(attack: Attack) -> None:
    """Prepared tensors are finite, named, and the same for one seed."""
    for threat in _threats(attack, queries=64):
        one, two = (preparation(attack, world_of(attack), threat).prepared for _ in range(2))
        usable = isinstance(one, dict) and all(isinstance(value, Tensor) for value in one.values())
        demand(usable, f"under {threat.norm.value}: prepare returned {type(one).__name__}; expected tensors by name")
        assert one is not None
        assert two is not None
        for name, value in one.items():
            demand(bool(torch.isfinite(value).all()), f"under {threat.norm.value}: prepared {name} is not finite")
            same = name in two and torch.equal(value, two[name])
            demand(same, f"under {threat.norm.value}: {name} differed the second time; draw from `rng` alone")


@leaving_the_process_alone
def leaves_everything_alone_while_preparing(attack: Attack) -> None:
    """Inputs, the system and the global generators are not changed."""
    for threat in _threats(attack, queries=64):
        touched = preparation(attack, world_of(attack), threat).touched
        demand(not touched, f"under {threat.norm.value}: preparing changed {', '.join(touched)}; work on copies")


PREPARED_RULES = rules_of(
    prepares_the_same_tensors_again,
    leaves_everything_alone_while_preparing,
)
