"""Single runs of attacks under a threat in a small world, for the rules for attacks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmark.api import Attack
from benchmark.errors import BudgetError
from benchmark.stages.settle import with_fixed_region
from benchmark.system.target import Ledger, Target
from benchmark.testing.rule import demand
from benchmark.testing.rules_prepared import preparation, toy_target
from benchmark.testing.worlds import World, seeded, threat_of, world_of
from benchmark.threat import Access, Goal, Norm, Threat
from benchmark.threat.ball import tolerance

__all__ = [
    "BUDGET",
    "Trial",
    "attempt",
    "demand_allowed",
    "demand_usable",
    "goal_labels",
    "goals_of",
    "least_access",
    "norms_of",
    "trial",
    "trial_target",
    "trials",
]  # fmt: skip

BUDGET = 256
"""Query budget of the standard trials, which keeps them short. Attacks that overspend get another trial
without a limit, and are reported by `honours_the_query_budget` alone."""


@dataclass(frozen=True)
class Trial:
    """One run of an attack. ledger: its cost."""

    threat: Threat
    here: World
    x_adv: Tensor
    ledger: Ledger

    def __str__(self) -> str:
        goal = "" if not self.threat.targeted else f" {self.threat.goal.value}"
        region = "" if str(self.threat.region) == "full" else f" region {self.threat.region}"
        return f"under {self.threat.norm.value} {self.threat.eps}{goal}{region}, access {self.threat.access.value}"


def norms_of(attack: Attack) -> list[Norm]:
    """Declared norms, in a fixed order."""
    return [norm for norm in Norm if norm in attack.supports.norms]


def least_access(attack: Attack) -> dict[str, Any]:
    """Least access that the attack declares, as settings of a threat."""
    surrogate = "toy" if attack.supports.access is Access.transfer else ""
    return {"access": attack.supports.access, "surrogate": surrogate}


def goal_labels(here: World, threat: Threat) -> Tensor:
    """True labels, or target labels of a targeted threat."""
    return (here.y + 1) % here.spec.classes if threat.targeted else here.y


def trial_target(attack: Attack, here: World, threat: Threat, seed: int) -> Target:
    """The world's system under the threat, with the tensors that the attack has prepared against it."""
    return toy_target(here, threat, seed, preparation(attack, here, threat, seed).prepared)


def attempt(attack: Attack, here: World, threat: Threat, *, seed: int = 0, torch_seed: int = 0) -> Trial:
    """Run the attack once with exactly these arguments; the global generators are restored afterwards."""
    attack.check(here.spec, threat)
    threat = with_fixed_region(threat, here.system, here.x, here.y, here.rng(seed))
    target = trial_target(attack, here, threat, seed)
    with seeded(torch_seed):
        x_adv = attack.perturb(target, here.x.clone(), goal_labels(here, threat), threat=threat, rng=here.rng(seed))
    return Trial(threat, here, x_adv, target.ledger)


def trial(attack: Attack, norm: Norm, here: World | None = None, *, seed: int = 0, **changes: Any) -> Trial:
    """Run the attack once under standard conditions: the least access, a small budget."""
    here = here or world_of(attack)
    shape = tuple(here.x.shape[1:])
    settings = {**least_access(attack), "queries": BUDGET, **changes}
    torch_seed = settings.pop("torch_seed", 0)
    threat = threat_of(norm, shape, **settings)
    try:
        return attempt(attack, here, threat, seed=seed, torch_seed=torch_seed)
    except BudgetError:
        unlimited = threat_of(norm, shape, **{**settings, "queries": None})
        return attempt(attack, here, unlimited, seed=seed, torch_seed=torch_seed)


def goals_of(attack: Attack) -> list[Goal]:
    """Goals to test: untargeted, and the next class if the attack supports targets."""
    return [Goal.untargeted, Goal.next_class] if attack.supports.targeted else [Goal.untargeted]


def trials(attack: Attack, **changes: Any) -> Iterator[Trial]:
    """One standard trial per norm and goal."""
    for norm, goal in itertools.product(norms_of(attack), goals_of(attack)):
        yield trial(attack, norm, goal=goal, **changes)


def demand_usable(run: Trial) -> None:
    """Demand a candidate per input, finite and in the box."""
    demand(
        run.x_adv.shape == run.here.x.shape,
        f"{run}: returned shape {tuple(run.x_adv.shape)}; expected that of x, {tuple(run.here.x.shape)}",
    )
    finite = bool(torch.isfinite(run.x_adv).all())
    demand(finite, f"{run}: returned NaN or infinity; return the clean input where the attack fails")
    box = bool(((run.x_adv >= 0) & (run.x_adv <= 1)).all())
    demand(box, f"{run}: left the box [0, 1]; end with threat.around(x, rng).project(x_adv)")


def demand_allowed(attack: Attack, run: Trial) -> None:
    """Demand candidates that are finite, in the box, in the region, and, for a bounded attack, in the ball."""
    demand_usable(run)
    audit = run.threat.around(run.here.x, run.here.rng()).audit(run.x_adv)
    demand(
        not audit.outside_region.any(),
        f"{run}: changed features outside the threat's region; end with threat.around(x, rng).project(x_adv)",
    )
    if attack.supports.bounded and not attack.supports.minimal:
        far = float(audit.distance.max())
        demand(
            not (audit.excess > 0).any(),
            f"{run}: moved to distance {far:.6g} (tolerance {tolerance(run.threat.norm, run.threat.radius):.1g}); end "
            "with threat.around(x, rng).project(x_adv), or declare minimal=True",
        )
