"""Rules for the candidates that an attack returns."""

from __future__ import annotations

import itertools
import math
import tempfile
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.api import Attack, PreparedAttack
from benchmark.errors import AccessError, ConfigError, DataError, PluginError, Refused
from benchmark.tasks.task import CLASSIFICATION, DenseTask
from benchmark.testing.combinations import combinations
from benchmark.testing.rule import Inapplicable, demand, rules_of
from benchmark.testing.trials import (
    BUDGET,
    Trial,
    demand_allowed,
    goal_labels,
    goals_of,
    norms_of,
    trial,
    trials,
)
from benchmark.testing.worlds import WIDE, tasks_of, world_of
from benchmark.threat import Access, Goal, Region, RegionKind

__all__ = ["CANDIDATE_RULES"]

REGIONS = {
    RegionKind.square: 3, RegionKind.border: 1, RegionKind.stripes: 1, RegionKind.random: 5, RegionKind.saliency: 5
}  # fmt: skip
"""Kinds of region with a size for the standard world; a mask file, art and graffiti are fixed masks like a square."""

FEW_CLASSES = 10
"""Largest number of classes of a world with several sites, each of which has as many scores."""

MANY, FEW_PASSES = 1000, 3
"""Number of classes of ImageNet, and a budget for attacks whose passes cost as many rows."""


def keeps_shape_and_dtype(attack: Attack) -> None:
    """One candidate per input, detached, in the dtype of the input, single or double precision."""
    singles = trials(attack)
    doubles = (trial(attack, n, world_of(attack, count=2).double(), queries=BUDGET // 4) for n in norms_of(attack))
    for run in itertools.chain(singles, doubles):
        x = run.here.x
        demand(isinstance(run.x_adv, Tensor), f"{run}: returned {type(run.x_adv).__name__}; expected a tensor")
        demand(run.x_adv.shape == x.shape, f"{run}: returned shape {tuple(run.x_adv.shape)}; expected {tuple(x.shape)}")
        demand(run.x_adv.dtype == x.dtype, f"{run}: returned {run.x_adv.dtype}; expected the dtype of x, {x.dtype}")
        demand(not run.x_adv.requires_grad, f"{run}: the result is part of a graph; return it detached")


def stays_in_ball_box_and_region(attack: Attack) -> None:
    """Every candidate is allowed by the threat, in every kind of region, and with 8-bit levels."""
    for run in trials(attack):
        demand_allowed(attack, run)
    for norm, (kind, size) in itertools.product(norms_of(attack), REGIONS.items()):
        rounded = kind in (RegionKind.stripes, RegionKind.saliency)
        goal = goals_of(attack)[-1] if rounded else Goal.untargeted
        try:
            limits: dict[str, Any] = {"levels": 256 if rounded else None, "queries": BUDGET // 4}
            run = trial(attack, norm, region=Region(kind, size), goal=goal, **limits)
        except (Refused, ConfigError):
            continue
        ball = run.threat.around(run.here.x, run.here.rng())
        demand_allowed(attack, replace(run, x_adv=ball.quantise(run.x_adv)))


def changes_nothing_at_eps_zero(attack: Attack) -> None:
    """A radius of zero leaves the input unchanged, and causes no division by zero."""
    if attack.supports.minimal or not attack.supports.bounded:
        raise Inapplicable("the attack declares that it may leave the radius")
    for norm in norms_of(attack):
        run = trial(attack, norm, eps=Fraction(0))
        size = float((run.x_adv - run.here.x).abs().max())
        demand(
            size <= 1e-6, f"{run}: changed the input by {size:.3g}, but a radius of 0 allows no change (or it is NaN)"
        )


def breaks_an_easy_example(attack: Attack) -> None:
    """With almost no limit on the perturbation, at least one example is broken."""
    if not attack.supports.bounded:
        raise Inapplicable("a corruption is bounded by no norm, and need not break a system")
    budgets = (BUDGET, 4 * BUDGET, *([None] if attack.supports.access is Access.gradients else []))
    asked = False
    here = world_of(attack)
    here = here.rows(torch.arange(len(here.x) - 1))
    for norm, goal in itertools.product(norms_of(attack), goals_of(attack)):
        for queries in budgets:
            run = trial(attack, norm, here, goal=goal, eps=WIDE[norm], queries=queries)
            broken = _successes(run)
            if bool(broken.any()):
                break
        if not bool(run.ledger.forwards.any()) and not isinstance(attack, PreparedAttack):
            continue
        asked = True
        demand(
            bool(broken.any()),
            f"{run}: broke none of {len(broken)} easy examples"
            + (" (y has the target labels under a targeted threat)" if run.threat.targeted else ""),
        )
    if not asked:
        raise Inapplicable("the attack makes no query: it is a control")


def _successes(run: Trial) -> Tensor:
    """True where the attacker succeeds, (B,) bool."""
    answer: Tensor = run.here.system(run.x_adv.float())
    y, task = goal_labels(run.here, run.threat), run.here.spec.task
    if isinstance(task, DenseTask):
        task = task.under(run.threat.goal.value)
        return task.wrong(task.read(answer), y)
    said = answer.argmax(1)
    return said == y if run.threat.targeted else said != y


def works_on_every_task_it_declares(attack: Attack) -> None:
    """On every declared task, candidates are allowed, independent of the batch, and break some example."""
    dense = [name for name in tasks_of(attack) if name != CLASSIFICATION]
    if not dense:
        raise Inapplicable("the attack declares no task but classification")
    for task, norm in itertools.product(dense, norms_of(attack)):
        here = world_of(attack, task=task)
        here = here.rows(torch.arange(len(here.x) - 1))
        goals = [Goal(name) for name in sorted(here.spec.task.goals or ())]
        broken, asked = False, False
        for goal in goals:
            try:
                run = trial(attack, norm, here, goal=goal, eps=WIDE[norm])
                part = trial(attack, norm, here.rows(torch.tensor([3, 1])), goal=goal, eps=WIDE[norm])
            except Refused:
                continue
            demand_allowed(attack, run)
            demand(
                torch.equal(part.x_adv, run.x_adv[[3, 1]]),
                f"{task}, {run}: examples got other candidates in a smaller batch; reduce over the sites of a row",
            )
            broken = broken or bool(_successes(run).any())
            asked = asked or bool(run.ledger.forwards.any())
        demand(
            broken or not asked or isinstance(attack, PreparedAttack) or not attack.supports.bounded,
            f"{task}, {norm.value}: broke none of {len(here.x)} easy examples; use the loss of the task",
        )


def accepts_a_batch_of_one(attack: Attack) -> None:
    """A single example is a valid batch."""
    here = world_of(attack).rows(torch.tensor([0]))
    for norm in norms_of(attack):
        run = trial(attack, norm, here)
        demand(
            run.x_adv.shape == here.x.shape,
            f"{run}: returned shape {tuple(run.x_adv.shape)} for one example; expected {tuple(here.x.shape)}",
        )


def works_on_every_shape_it_accepts(attack: Attack) -> None:
    """Inputs of rank 2 to 4, 1 or 3 channels, 2 to 1000 classes and both precisions work or are refused.

    Every pair of these, of the regions, and of the declared goals and kinds of access occurs.
    """
    worked = 0
    granted = [access for access in Access if access.grants(attack.supports.access)]
    with tempfile.TemporaryDirectory() as folder:
        for norm, tried in itertools.product(norms_of(attack), combinations()):
            access = granted[tried.access % len(granted)]
            classes = tried.classes if CLASSIFICATION in attack.tasks else min(tried.classes, FEW_CLASSES)
            here = world_of(attack, tried.shape, classes).rows(torch.arange(2))
            changes: dict[str, Any] = {
                "region": _region(tried.region, tried.shape, folder),
                "access": access,
                "surrogate": "toy" if access is Access.transfer else "",
                "goal": Goal.next_class if tried.targeted and attack.supports.targeted else Goal.untargeted,
                "queries": FEW_PASSES if tried.classes == MANY else BUDGET // 8,
            }
            try:
                run = trial(attack, norm, here.double() if tried.double else here, **changes)
            except (Refused, DataError, ConfigError):
                continue
            except (AccessError, PluginError):
                raise
            except Exception as error:
                raise AssertionError(
                    f"{type(error).__name__} on examples of shape {tried.shape} with {tried.classes} classes under "
                    f"{norm.value}, region {tried.region.value}, access {access.value}, {changes['goal'].value}, "
                    f"{'double' if tried.double else 'single'} precision: {error}; support them, or raise "
                    "benchmark.errors.Refused with what is needed"
                ) from error
            demand_allowed(attack, run)
            worked += 1
    demand(worked or not norms_of(attack), "the attack refuses every shape of input")


def _region(kind: RegionKind, shape: tuple[int, ...], folder: str) -> Region:
    """Region of that kind for examples of that shape; a mask file of every other feature is written into `folder`."""
    if kind is not RegionKind.file:
        return Region(kind, REGIONS.get(kind, 0))
    path = f"{folder}/{'x'.join(map(str, shape))}.npy"
    np.save(path, np.arange(math.prod(shape)).reshape(shape) % 2 == 0)
    return Region(kind, path=path)


CANDIDATE_RULES = rules_of(
    keeps_shape_and_dtype,
    stays_in_ball_box_and_region,
    changes_nothing_at_eps_zero,
    breaks_an_easy_example,
    works_on_every_task_it_declares,
    accepts_a_batch_of_one,
    works_on_every_shape_it_accepts,
)
