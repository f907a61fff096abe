"""Rules for attacks: each is tried under every norm, goal and access that the attack declares."""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark import registry
from benchmark.api import Attack, Model, PreparedAttack
from benchmark.errors import AccessError, BenchmarkError, BudgetError, ConfigError, DataError, PluginError, Refused
from benchmark.stages.settle import with_fixed_region
from benchmark.system.target import Ledger, Target
from benchmark.testing.combinations import combinations
from benchmark.testing.rule import Inapplicable, demand, leaving_the_process_alone, rules_of
from benchmark.testing.rules_prepared import PREPARED_RULES, preparation, toy_target
from benchmark.testing.worlds import Spot, World, global_state, same_state, seeded, threat_of, world
from benchmark.threat import Access, Goal, Norm, Region, RegionKind, Threat
from benchmark.threat.ball import tolerance

BUDGET = 256
"""Forward passes per example in the standard trials: keeps them short. Attacks that overspend get another trial
without a limit, and are reported by `honours_the_query_budget` alone."""

REGIONS = {
    RegionKind.square: 3, RegionKind.border: 1, RegionKind.stripes: 1, RegionKind.random: 5, RegionKind.saliency: 5
}  # fmt: skip
"""Every kind of region but the mask file, and a size of it for the standard world."""

MANY, FEW_PASSES = 1000, 3
"""As many classes as ImageNet has, and a budget for attacks whose passes cost as many rows."""


@dataclass(frozen=True)
class Trial:
    """An attack as it was run once. ledger: what it cost."""

    threat: Threat
    here: World
    x_adv: Tensor
    ledger: Ledger

    def __str__(self) -> str:
        goal = "" if not self.threat.targeted else f" {self.threat.goal.value}"
        region = "" if str(self.threat.region) == "full" else f" region {self.threat.region}"
        return f"under {self.threat.norm.value} {self.threat.eps}{goal}{region}, access {self.threat.access.value}"


def norms_of(attack: Attack) -> list[Norm]:
    """The norms that it declares, in a fixed order."""
    return [norm for norm in Norm if norm in attack.supports.norms]


def _access(attack: Attack) -> dict[str, Any]:
    """The least access that the attack declares, as a part of a threat."""
    surrogate = "toy" if attack.supports.access is Access.transfer else ""
    return {"access": attack.supports.access, "surrogate": surrogate}


def _labels(here: World, threat: Threat) -> Tensor:
    """The labels to leave or to reach."""
    return (here.y + 1) % here.spec.classes if threat.targeted else here.y


def _target(attack: Attack, here: World, threat: Threat, seed: int) -> Target:
    return toy_target(here, threat, seed, preparation(attack, here, threat, seed).prepared)


def attempt(attack: Attack, here: World, threat: Threat, *, seed: int = 0, torch_seed: int = 0) -> Trial:
    """Run the attack once, exactly as it is asked to; the global generators are as they were afterwards."""
    attack.check(here.spec, threat)
    threat = with_fixed_region(threat, here.system, here.x, here.y, here.rng(seed))
    target = _target(attack, here, threat, seed)
    with seeded(torch_seed):
        x_adv = attack.perturb(target, here.x.clone(), _labels(here, threat), threat=threat, rng=here.rng(seed))
    return Trial(threat, here, x_adv, target.ledger)


def trial(attack: Attack, norm: Norm, here: World | None = None, *, seed: int = 0, **changes: Any) -> Trial:
    """Run the attack once in a standard way: the least access, a short budget."""
    here = here or world()
    shape = tuple(here.x.shape[1:])
    settings = {**_access(attack), "queries": BUDGET, **changes}
    torch_seed = settings.pop("torch_seed", 0)
    threat = threat_of(norm, shape, **settings)
    try:
        return attempt(attack, here, threat, seed=seed, torch_seed=torch_seed)
    except BudgetError:
        unlimited = threat_of(norm, shape, **{**settings, "queries": None})
        return attempt(attack, here, unlimited, seed=seed, torch_seed=torch_seed)


def _goals(attack: Attack) -> list[Goal]:
    return [Goal.untargeted, Goal.next_class] if attack.supports.targeted else [Goal.untargeted]


def _trials(attack: Attack, **changes: Any) -> Iterator[Trial]:
    """One standard trial per norm and goal."""
    for norm, goal in itertools.product(norms_of(attack), _goals(attack)):
        yield trial(attack, norm, goal=goal, **changes)


def _demand_usable(run: Trial) -> None:
    """There is a candidate per input, finite and in the box."""
    demand(
        run.x_adv.shape == run.here.x.shape,
        f"{run}: returned shape {tuple(run.x_adv.shape)}; expected that of x, {tuple(run.here.x.shape)}",
    )
    finite = bool(torch.isfinite(run.x_adv).all())
    demand(finite, f"{run}: returned NaN or infinity; give the clean input where nothing is found")
    box = bool(((run.x_adv >= 0) & (run.x_adv <= 1)).all())
    demand(box, f"{run}: left the box [0, 1]; end with threat.around(x, rng).project(x_adv)")


def _demand_allowed(attack: Attack, run: Trial) -> None:
    """The candidates are finite, in the box, in the region, and, where the attack is bounded, in the ball."""
    _demand_usable(run)
    audit = run.threat.around(run.here.x, run.here.rng()).audit(run.x_adv)
    demand(
        not audit.outside_region.any(),
        f"{run}: changed features outside the threat's region; end with threat.around(x, rng).project(x_adv)",
    )
    if attack.supports.bounded and not attack.supports.minimal:
        far = float(audit.distance.max())
        demand(
            not (audit.excess > 0).any(),
            f"{run}: went to distance {far:.6g} (tolerance {tolerance(run.threat.norm, run.threat.radius):.1g}); end "
            "with threat.around(x, rng).project(x_adv), or declare minimal=True",
        )


# --- what comes back ---


def keeps_shape_and_dtype(attack: Attack) -> None:
    """One candidate per input, detached, in single precision or in double, as the input is."""
    singles = _trials(attack)
    doubles = (trial(attack, n, world(count=2).double(), queries=BUDGET // 4) for n in norms_of(attack))
    for run in itertools.chain(singles, doubles):
        x = run.here.x
        demand(isinstance(run.x_adv, Tensor), f"{run}: returned {type(run.x_adv).__name__}; expected a tensor")
        demand(run.x_adv.shape == x.shape, f"{run}: returned shape {tuple(run.x_adv.shape)}; expected {tuple(x.shape)}")
        demand(run.x_adv.dtype == x.dtype, f"{run}: returned {run.x_adv.dtype}; expected the dtype of x, {x.dtype}")
        demand(not run.x_adv.requires_grad, f"{run}: the result is part of a graph; return it detached")


def stays_in_ball_box_and_region(attack: Attack) -> None:
    """Every candidate is allowed by the threat, in every kind of region, and rounded to 8 bits where that is asked."""
    for run in _trials(attack):
        _demand_allowed(attack, run)
    for norm, (kind, size) in itertools.product(norms_of(attack), REGIONS.items()):
        rounded = kind in (RegionKind.stripes, RegionKind.saliency)
        goal = _goals(attack)[-1] if rounded else Goal.untargeted
        try:
            limits: dict[str, Any] = {"levels": 256 if rounded else None, "queries": BUDGET // 4}
            run = trial(attack, norm, region=Region(kind, size), goal=goal, **limits)
        except (Refused, ConfigError):
            continue
        ball = run.threat.around(run.here.x, run.here.rng())
        _demand_allowed(attack, replace(run, x_adv=ball.quantise(run.x_adv)))


def changes_nothing_at_eps_zero(attack: Attack) -> None:
    """A radius of zero leaves the input, and divides nothing by zero."""
    if attack.supports.minimal or not attack.supports.bounded:
        raise Inapplicable("the attack does not keep to the radius, and says so")
    for norm in norms_of(attack):
        run = trial(attack, norm, eps=Fraction(0))
        size = float((run.x_adv - run.here.x).abs().max())
        demand(size <= 1e-6, f"{run}: changed the input by {size:.3g}, and a radius of 0 allows no change (or NaN)")


def breaks_an_easy_example(attack: Attack) -> None:
    """With room for any change, at least one example falls: the attack is no no-op."""
    if not attack.supports.bounded:
        raise Inapplicable("a corruption answers to no norm; nothing says that it must break a system")
    wide = {Norm.linf: Fraction(1, 2), Norm.l2: Fraction(5), Norm.l1: Fraction(50), Norm.l0: Fraction(108)}
    budgets = (BUDGET, 4 * BUDGET, *([None] if attack.supports.access is Access.gradients else []))
    asked = False
    here = world()
    here = here.rows(torch.arange(len(here.x) - 1))
    for norm, goal in itertools.product(norms_of(attack), _goals(attack)):
        for queries in budgets:
            run = trial(attack, norm, here, goal=goal, eps=wide[norm], queries=queries)
            broken = _successes(run)
            if bool(broken.any()):
                break
        if not bool(run.ledger.forwards.any()) and not isinstance(attack, PreparedAttack):
            continue
        asked = True
        demand(
            bool(broken.any()),
            f"{run}: broke none of {len(broken)} easy examples"
            + (" (y holds the labels to reach under a targeted threat)" if run.threat.targeted else ""),
        )
    if not asked:
        raise Inapplicable("the attack asks the system nothing: it is a control")


def _successes(run: Trial) -> Tensor:
    """True where the system's answer is the attacker's, (B,) bool."""
    said: Tensor = run.here.system(run.x_adv.float()).argmax(1)
    y = _labels(run.here, run.threat)
    return said == y if run.threat.targeted else said != y


def accepts_a_batch_of_one(attack: Attack) -> None:
    """A single example is a batch."""
    here = world().rows(torch.tensor([0]))
    for norm in norms_of(attack):
        run = trial(attack, norm, here)
        demand(
            run.x_adv.shape == here.x.shape,
            f"{run}: returned shape {tuple(run.x_adv.shape)} for one example; expected {tuple(here.x.shape)}",
        )


def works_on_every_shape_it_accepts(attack: Attack) -> None:
    """Inputs of rank 2, 3 and 4, one and three channels, two to a thousand classes, in both precisions, or a refusal.

    Each two of these, of the regions, and of the goals and kinds of access that are declared, occur together.
    """
    worked = 0
    granted = [access for access in Access if access.grants(attack.supports.access)]
    with tempfile.TemporaryDirectory() as folder:
        for norm, tried in itertools.product(norms_of(attack), combinations()):
            access = granted[tried.access % len(granted)]
            here = world(tried.shape, tried.classes).rows(torch.arange(2))
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
                    f"{'double' if tried.double else 'single'} precision: {error}; handle them, or raise "
                    "benchmark.errors.Refused with what is needed"
                ) from error
            _demand_allowed(attack, run)
            worked += 1
    demand(worked or not norms_of(attack), "the attack refuses every shape of input")


def _region(kind: RegionKind, shape: tuple[int, ...], folder: str) -> Region:
    """A region of that kind for examples of that shape; a mask file of every other feature is written into `folder`."""
    if kind is not RegionKind.file:
        return Region(kind, REGIONS.get(kind, 0))
    path = f"{folder}/{'x'.join(map(str, shape))}.npy"
    np.save(path, np.arange(math.prod(shape)).reshape(shape) % 2 == 0)
    return Region(kind, path=path)


# --- what is left alone ---


def leaves_inputs_alone(attack: Attack) -> None:
    """x, y and the ids are the caller's."""
    for norm in norms_of(attack):
        here = world()
        threat = threat_of(norm, queries=BUDGET, **_access(attack))
        x, y, rng = here.x.clone(), here.y.clone(), here.rng()
        with seeded(0):
            try:
                attack.perturb(_target(attack, here, threat, 0), x, y, threat=threat, rng=rng)
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
    """Weights, buffers, gradients, hooks and modes of the system are as before."""
    for norm in norms_of(attack):
        here = world()
        before = {name: value.clone() for name, value in here.system.state_dict().items()}
        run = trial(attack, norm, here)
        for name, value in here.system.state_dict().items():
            demand(torch.equal(value, before[name]), f"{run}: the system's {name} was changed; an attack only asks")
        for name, parameter in here.system.named_parameters():
            demand(parameter.grad is None, f"{run}: left a gradient in the system's {name}; use target.gradient")
            demand(not parameter.requires_grad, f"{run}: made the system's {name} trainable; an attack only asks")
        for module in here.system.modules():
            demand(not module.training, f"{run}: left the system in training mode; an attack only asks")
            hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
            demand(not any(hooks), f"{run}: left a hook in the system; an attack only asks")


@leaving_the_process_alone
def leaves_global_rng_alone(attack: Attack) -> None:
    """Nothing is drawn from the generators of torch, NumPy or Python, and nothing seeds them."""
    for norm in norms_of(attack):
        here = world()
        threat = threat_of(norm, queries=BUDGET, **_access(attack))
        target, rng = _target(attack, here, threat, 0), here.rng()
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
    """A candidate depends on its own example alone: not on the batch, its size or its order."""
    here = world()
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
    """Logits mean the same when a constant is added to all of them."""
    for norm in norms_of(attack):
        one, two = trial(attack, norm), trial(attack, norm, world(shift=64.0))
        demand(
            torch.allclose(one.x_adv, two.x_adv, atol=1e-4),
            f"{one}: adding 64 to every logit changed the candidates; compare logits with each other, not with 0",
        )


# --- what it asks ---


def needs_no_more_access_than_it_declares(attack: Attack) -> None:
    """Under exactly the access that it declares, and under every stronger one, nothing is refused to it."""
    here = world().rows(torch.arange(2))
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
    """A budget is never exceeded, however small."""
    here = world().rows(torch.arange(3))
    for norm, queries in itertools.product(norms_of(attack), (1, 2, 3, 7, 40)):
        threat = threat_of(norm, queries=queries, **_access(attack))
        try:
            run = attempt(attack, here, threat)
        except BudgetError as error:
            raise AssertionError(f"under {norm.value} with threat.queries={queries}: {error}") from error
        _demand_usable(run)


def asks_only_through_the_target(attack: Attack) -> None:
    """The passes that the target charged are all the passes that the system saw."""
    for norm in norms_of(attack):
        here = world()
        threat = threat_of(norm, queries=BUDGET, **_access(attack))
        target = _target(attack, here, threat, 0)
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
    """Threats that the attack does not declare are refused before anything is loaded, and declared ones are not."""
    from benchmark.config.cell import RunConfig
    from benchmark.config.check import check_fit

    try:
        registry.name_of(attack)
    except PluginError as error:
        raise Inapplicable(str(error)) from error
    parts: dict[str, Any] = {"dataset": None, "model": Model}  # any would do: of a model it is asked whether it learns
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
    """A system that ignores its input is not broken, and breaks nothing."""
    for run in _survivals(attack, world(flat=True), "a system whose gradients are zero"):
        _demand_usable(run)


def survives_a_system_that_says_nan(attack: Attack) -> None:
    """NaN logits lead to allowed candidates, not to NaN and not to an exception."""
    for run in _survivals(attack, world(bad=True), "a system whose logits are NaN"):
        _demand_usable(run)


def _survivals(attack: Attack, here: World, what: str) -> Iterator[Trial]:
    for norm, goal in itertools.product(norms_of(attack), _goals(attack)):
        try:
            yield trial(attack, norm, here, goal=goal)
        except BenchmarkError:
            raise
        except Exception as error:
            raise AssertionError(
                f"{type(error).__name__} on {what}, under {norm.value}: {error}; give the clean input where nothing is "
                "found"
            ) from error


def works_against_randomized_systems(attack: Attack) -> None:
    """Expectation over two draws: allowed candidates, and still the same for one seed."""
    here = world(randomized=True)
    for norm in norms_of(attack):
        one, two = trial(attack, norm, here, eot=2), trial(attack, norm, here, eot=2)
        _demand_usable(one)
        demand(torch.equal(one.x_adv, two.x_adv), f"{one}: two calls differ against a randomised system")


RULES = (
    *rules_of(
        keeps_shape_and_dtype,
        stays_in_ball_box_and_region,
        changes_nothing_at_eps_zero,
        breaks_an_easy_example,
        accepts_a_batch_of_one,
        works_on_every_shape_it_accepts,
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
