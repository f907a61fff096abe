"""Rules for attacks: each is checked under every norm, goal and access that the attack declares."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from benchmark import registry
from benchmark.api import Attack, Dataset, Model
from benchmark.errors import AccessError, BenchmarkError, BudgetError, PluginError, Refused
from benchmark.testing.rule import Inapplicable, demand, leaving_the_process_alone, rules_of
from benchmark.testing.rules_candidates import CANDIDATE_RULES
from benchmark.testing.rules_prepared import PREPARED_RULES
from benchmark.testing.trials import (
    BUDGET,
    Trial,
    attempt,
    demand_usable,
    goals_of,
    least_access,
    norms_of,
    trial,
    trial_target,
)
from benchmark.testing.worlds import Spot, World, global_state, same_state, seeded, tasks_of, threat_of, world_of
from benchmark.threat import Access, Goal, Norm, Threat

# --- what is left alone ---


def leaves_inputs_alone(attack: Attack) -> None:
    """x, y and the ids are not changed."""
    for norm in norms_of(attack):
        here = world_of(attack)
        threat = threat_of(norm, queries=BUDGET, **least_access(attack))
        x, y, rng = here.x.clone(), here.y.clone(), here.rng()
        with seeded(0):
            try:
                attack.perturb(trial_target(attack, here, threat, 0), x, y, threat=threat, rng=rng)
            except BudgetError:
                continue
        for name, now, before in (("x", x, here.x), ("y", y, here.y), ("rng.ids", rng.ids, here.ids)):
            demand(
                torch.equal(now, before),
                f"under {norm.value}: {name} was changed in place; work on a copy ({name}.clone())",
            )
        demand(
            not x.requires_grad, f"under {norm.value}: x was made to require a gradient; use target.gradient(x, ...)"
        )


def leaves_model_alone(attack: Attack) -> None:
    """Weights, buffers, gradients, hooks and modes of the system are not changed."""
    for norm in norms_of(attack):
        here = world_of(attack)
        before = {name: value.clone() for name, value in here.system.state_dict().items()}
        run = trial(attack, norm, here)
        for name, value in here.system.state_dict().items():
            demand(
                torch.equal(value, before[name]), f"{run}: the system's {name} was changed; an attack may only query it"
            )
        for name, parameter in here.system.named_parameters():
            demand(parameter.grad is None, f"{run}: left a gradient in the system's {name}; use target.gradient")
            demand(
                not parameter.requires_grad, f"{run}: made the system's {name} trainable; an attack may only query it"
            )
        for module in here.system.modules():
            demand(not module.training, f"{run}: left the system in training mode; an attack may only query it")
            hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
            demand(not any(hooks), f"{run}: left a hook in the system; an attack may only query it")


@leaving_the_process_alone
def leaves_global_rng_alone(attack: Attack) -> None:
    """The generators of torch, NumPy and Python are neither drawn from nor seeded."""
    for norm in norms_of(attack):
        here = world_of(attack)
        threat = threat_of(norm, queries=BUDGET, **least_access(attack))
        target, rng = trial_target(attack, here, threat, 0), here.rng()
        with seeded(1):
            before = global_state()
            try:
                attack.perturb(target, here.x.clone(), here.y.clone(), threat=threat, rng=rng)
            except BudgetError:
                continue
            same = same_state(before, global_state())
        demand(same, f"under {norm.value}: a global generator was drawn from or seeded; draw from `rng`")


# --- what the result depends on ---


def same_seed_same_result(attack: Attack) -> None:
    """Calling twice gives the same candidates, bit for bit."""
    for norm in norms_of(attack):
        one, two = trial(attack, norm), trial(attack, norm)
        demand(
            torch.equal(one.x_adv, two.x_adv),
            f"{one}: two calls with one seed gave different candidates; keep no state between calls, and draw from "
            "`rng` alone",
        )


def declares_whether_it_is_random(attack: Attack) -> None:
    """An attack that does not declare randomized=True gives the same candidates for every seed."""
    if attack.supports.randomized:
        raise Inapplicable("the attack declares randomized=True")
    for norm in norms_of(attack):
        one, two = trial(attack, norm, seed=1), trial(attack, norm, seed=2)
        demand(
            torch.equal(one.x_adv, two.x_adv),
            f"{one}: two seeds gave different candidates, and supports.randomized is False; declare randomized=True",
        )


def batch_split_changes_nothing(attack: Attack) -> None:
    """A candidate depends on its own example only: not on the batch, its size or its order."""
    here = world_of(attack)
    parts = (torch.tensor([2]), torch.tensor([5, 0]), torch.tensor([4, 1, 3]))
    for norm in norms_of(attack):
        whole = trial(attack, norm, here)
        for part in parts:
            run = trial(attack, norm, here.rows(part))
            different = (run.x_adv != whole.x_adv[part]).flatten(1).any(1)
            demand(
                not bool(different.any()),
                f"{run}: {int(different.sum())} of {len(part)} examples got other candidates in a smaller batch; "
                "reduce over features (flatten(1), dim=1), never over the batch, and stop row by row",
            )


def ignores_a_constant_added_to_the_logits(attack: Attack) -> None:
    """Adding a constant to all logits does not change the candidates."""
    for norm in norms_of(attack):
        one, two = trial(attack, norm), trial(attack, norm, world_of(attack, shift=64.0))
        demand(
            torch.allclose(one.x_adv, two.x_adv, atol=1e-4),
            f"{one}: adding 64 to every logit changed the candidates; compare logits with each other, not with 0",
        )


# --- what it asks ---


def needs_no_more_access_than_it_declares(attack: Attack) -> None:
    """The declared access and every stronger one suffice."""
    here = world_of(attack).rows(torch.arange(2))
    needed = attack.supports.access
    for norm, access in itertools.product(norms_of(attack), Access):
        if not access.grants(needed):
            continue
        surrogate = "toy" if access is Access.transfer else ""
        try:
            trial(attack, norm, here, access=access, surrogate=surrogate)
        except AccessError as error:
            raise AssertionError(
                f"under access {access.value}, which grants the declared {needed.value}: {error}"
            ) from error


def honours_the_query_budget(attack: Attack) -> None:
    """A query budget is never exceeded, however small."""
    here = world_of(attack).rows(torch.arange(3))
    for norm, queries in itertools.product(norms_of(attack), (1, 2, 3, 7, 40)):
        threat = threat_of(norm, queries=queries, **least_access(attack))
        try:
            run = attempt(attack, here, threat)
        except BudgetError as error:
            raise AssertionError(f"under {norm.value} with threat.queries={queries}: {error}") from error
        demand_usable(run)


def asks_only_through_the_target(attack: Attack) -> None:
    """The passes charged by the target are all the passes of the system."""
    for norm in norms_of(attack):
        here = world_of(attack)
        threat = threat_of(norm, queries=BUDGET, **least_access(attack))
        target = trial_target(attack, here, threat, 0)
        charged, seen = [0], [0]
        charge = target.ledger.charge

        def counted(owners: Tensor | None, times: int = 1, charged: list[int] = charged, charge: Any = charge) -> None:
            charge(owners, times)
            charged[0] += 1

        def note(*_: object, seen: list[int] = seen) -> None:
            seen[0] += 1

        target.ledger.charge = counted  # type: ignore[method-assign]
        handle = here.system.register_forward_pre_hook(note)
        try:
            with seeded(0):
                attack.perturb(target, here.x.clone(), here.y.clone(), threat=threat, rng=here.rng())
        except BudgetError:
            continue
        finally:
            handle.remove()
        demand(
            seen[0] == charged[0],
            f"under {norm.value}: the system saw {seen[0]} passes, and {charged[0]} were charged; ask through `target`",
        )


def refuses_what_it_does_not_support(attack: Attack) -> None:
    """Undeclared threats are refused before anything is loaded, declared ones are not."""
    from benchmark.config.cell import RunConfig
    from benchmark.config.check import check_fit

    try:
        registry.name_of(attack)
    except PluginError as error:
        raise Inapplicable(str(error)) from error
    tasks = frozenset(tasks_of(attack)[:1])
    dataset, model = (type("Any", (kind,), {"tasks": tasks}) for kind in (Dataset, Model))
    parts: dict[str, Any] = {"dataset": dataset, "model": model}  # of a model it is asked whether it learns
    if attack.supports.trigger:
        parts["poisons"] = (Spot(),)
    for norm, access, goal in itertools.product(Norm, Access, (Goal.untargeted, Goal.next_class, Goal.top5)):
        threat = Threat(
            norm=norm,
            eps=Fraction(1),
            access=access,
            goal=goal,
            surrogate="toy" if access is Access.transfer else "",
        )
        can = attack.supports
        fits = norm in can.norms and access.grants(can.access) and (can.targeted or not threat.targeted)
        fits = fits and (can.top5 or goal is not Goal.top5)
        try:
            check_fit(RunConfig(attack=attack, threat=threat, **parts))
            refused = ""
        except Refused as error:
            refused = str(error)
        where = f"{norm.value}, access {access.value}, {goal.value}"
        demand(fits or refused, f"{where} is not declared in `supports`, and was not refused")
        demand(not fits or not refused, f"{where} is declared in `supports`, and was refused: {refused}")


# --- what it survives ---


def survives_zero_gradients(attack: Attack) -> None:
    """A constant system gives allowed candidates, without NaN or an exception."""
    for run in _survivals(attack, world_of(attack, flat=True), "a system whose gradients are zero"):
        demand_usable(run)


def survives_a_system_that_says_nan(attack: Attack) -> None:
    """NaN logits give allowed candidates, without NaN or an exception."""
    for run in _survivals(attack, world_of(attack, bad=True), "a system whose logits are NaN"):
        demand_usable(run)


def _survivals(attack: Attack, here: World, what: str) -> Iterator[Trial]:
    for norm, goal in itertools.product(norms_of(attack), goals_of(attack)):
        try:
            yield trial(attack, norm, here, goal=goal)
        except BenchmarkError:
            raise
        except Exception as error:
            raise AssertionError(
                f"{type(error).__name__} on {what}, under {norm.value}: {error}; return the clean input where the "
                "attack fails"
            ) from error


def works_against_randomized_systems(attack: Attack) -> None:
    """Under expectation over two draws, candidates are allowed, and reproducible with one seed."""
    here = world_of(attack, randomized=True)
    for norm in norms_of(attack):
        one, two = trial(attack, norm, here, eot=2), trial(attack, norm, here, eot=2)
        demand_usable(one)
        demand(torch.equal(one.x_adv, two.x_adv), f"{one}: two calls differ against a randomised system")


RULES = (
    *CANDIDATE_RULES,
    *rules_of(
        leaves_inputs_alone,
        leaves_model_alone,
        leaves_global_rng_alone,
        same_seed_same_result,
        declares_whether_it_is_random,
        batch_split_changes_nothing,
        ignores_a_constant_added_to_the_logits,
        needs_no_more_access_than_it_declares,
        honours_the_query_budget,
        asks_only_through_the_target,
        refuses_what_it_does_not_support,
        survives_zero_gradients,
        survives_a_system_that_says_nan,
        works_against_randomized_systems,
    ),
    *PREPARED_RULES,
)
