"""Rules for defenses at inference: declared randomness, cost and gradients."""

from __future__ import annotations

import copy
import dataclasses

import torch
from torch import Tensor, nn

from benchmark import sampling
from benchmark.api import Defense
from benchmark.errors import Refused
from benchmark.stages.fit import built
from benchmark.system import System, padded, padded_random, records_gradients
from benchmark.testing.defended import architecture, trained
from benchmark.testing.rule import Inapplicable, demand, rules_of
from benchmark.testing.rules_defense import takes_part_in_training
from benchmark.testing.worlds import SHAPE, Net, World, examples, seeded, world

__all__ = ["RULES"]

IMAGES = ((1, 5, 7), (3, 7, 6))
"""Image shapes with one and three channels and odd sides."""

ROWS = (12,)


def _deployed(defense: Defense, shape: tuple[int, ...] = SHAPE) -> tuple[World, System]:
    """A few inputs of that shape, and a system trained for them with the defense."""
    return world(shape), System(trained(defense, shape), examples(shape=shape)[1], (defense,))


def changes_nothing_at_strength_zero(defense: Defense) -> None:
    """At the settings declared as neutral, every logit is unchanged, bit for bit."""
    if not defense.neutral or takes_part_in_training(defense):
        raise Inapplicable("the defense takes part in training, or declares no neutral settings")
    here, system = _deployed(dataclasses.replace(defense, **defense.neutral))
    expected = system.undefended().logits(here.x, here.rng())
    demand(
        torch.equal(system.logits(here.x, here.rng()), expected),
        f"with {dict(defense.neutral)} the logits are not those of the model without the defense; return the input "
        "unchanged at strength zero",
    )


def answers_at_random_if_it_says_so(defense: Defense) -> None:
    """A defense with randomized = True gives other logits under another seed."""
    if not defense.randomized:
        raise Inapplicable("the defense declares randomized = False")
    here, system = _deployed(defense)
    one, other = (system.logits(here.x, here.rng(seed)) for seed in (1, 2))
    demand(not torch.equal(one, other), "logits do not depend on the seed; declare randomized = False")


def votes_only_if_it_is_random(defense: Defense) -> None:
    """The number of votes is at least 1, and more only for a randomised defense."""
    demand(defense.votes >= 1, f"the defense declares {defense.votes} votes; expected at least 1")
    demand(
        defense.votes == 1 or defense.randomized,
        f"the defense declares {defense.votes} votes and randomized = False; declare 1 vote, since all draws are equal",
    )


def answers_the_same_with_and_without_gradients(defense: Defense) -> None:
    """A pass with gradients gives the logits of a pass without, so a surrogate affects the backward pass only."""
    here, system = _deployed(defense)
    with sampling.using(padded_random(here.rng())):
        shown = system(padded(here.x).requires_grad_(True))[: len(here.x)].detach()
    demand(
        torch.equal(shown, system.logits(here.x, here.rng())),
        "the logits of a pass with gradients are not those of one without; use "
        "benchmark.system.straight_through, whose forward value is the true one",
    )


def answers_the_same_after_reloading(defense: Defense) -> None:
    """The rebuilt architecture with the stored weights gives the same logits."""
    here, system = _deployed(defense)
    with seeded(1):
        again = architecture(defense, here.spec)
    again.load_state_dict(copy.deepcopy(system.model.state_dict()))
    reloaded = System(again, here.spec, (defense,))
    demand(
        torch.equal(reloaded.logits(here.x, here.rng()), system.logits(here.x, here.rng())),
        "a system rebuilt from its weights gives other logits; create everything that is fitted in `build`, as "
        "parameters or buffers in the state of the module",
    )


def takes_images_of_any_size(defense: Defense) -> None:
    """Images of one and three channels with odd sides give finite logits."""
    for shape in IMAGES:
        defense.check(examples(shape=shape)[1])
        here, system = _deployed(defense, shape)
        logits = system.logits(here.x, here.rng())
        demand(bool(torch.isfinite(logits).all()), f"logits of images of shape {shape} are NaN or infinite")


def takes_tabular_data_or_refuses_it_by_name(defense: Defense) -> None:
    """Tabular data work, or `check` refuses them before training and names the defense."""
    try:
        defense.check(examples(shape=ROWS)[1])
    except Refused as refusal:
        demand("defense." in str(refusal), f"the refusal does not name the defense: {refusal}")
        return
    try:
        here, system = _deployed(defense, ROWS)
        logits = system.logits(here.x, here.rng())
    except Exception as error:
        raise AssertionError(
            f"tabular data passed `check` and then raised {type(error).__name__}: {error}; refuse it in `check`"
        ) from error
    demand(bool(torch.isfinite(logits).all()), "logits of tabular data are NaN or infinite")


def counts_its_passes(defense: Defense) -> None:
    """A pass counts at least as many passes as the classifiers inside make, and more on top of a costlier stage."""
    here, system = _deployed(defense)
    rows: list[int] = []

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        rows.append(len(inputs[0]))

    handles = [module.register_forward_hook(count) for module in system.modules() if isinstance(module, Net)]
    system.logits(here.x, here.rng())
    for handle in handles:
        handle.remove()
    made = sum(rows) / system.rows_of_a_pass(here.x, followed=False)
    demand(
        system.passes >= made,
        f"a pass counts as {system.passes}, but {made:g} passes of a classifier were made; declare `passes`",
    )
    demand(
        defense.passes(10) >= 10 * made,
        f"on top of a stage with 10 passes, a pass counts as {defense.passes(10)}; expected at least {10 * made:g}",
    )


def declares_an_optimisation(defense: Defense) -> None:
    """A defense that records gradients in a pass without gradients declares optimizes = True."""
    here, system = _deployed(defense)
    demand(
        defense.optimizes or not records_gradients(system, here.x, here.rng()),
        "a pass without gradients records one, but the class does not declare optimizes = True",
    )


def offers_settings_that_can_be_attacked(defense: Defense) -> None:
    """Each smoother setting differs, runs on the same weights, and has a non-zero gradient in the input."""
    offered = defense.smoother()
    if not offered:
        raise Inapplicable("the defense offers no smoother settings")
    here, system = _deployed(defense)
    for setting in offered:
        demand(setting != defense, "a smoother setting is the defense itself")
        with seeded(0):
            names = set(built(Net(here.spec), here.spec, (setting,)).state_dict())
        demand(names == set(system.model.state_dict()), f"{setting} has another architecture; keep the same weights")
        smooth = System(system.model, here.spec, (setting,))
        x = padded(here.x).requires_grad_(True)
        with sampling.using(padded_random(here.rng())):
            logits = smooth(x)
        demand(bool(torch.isfinite(logits).all()), f"the logits of {setting} are NaN or infinite")
        (gradient,) = torch.autograd.grad(logits[:, 0].sum(), x)
        demand(bool((gradient != 0).any()), f"the gradient of {setting} is zero everywhere; no attack can use it")


RULES = rules_of(
    changes_nothing_at_strength_zero,
    answers_at_random_if_it_says_so,
    votes_only_if_it_is_random,
    answers_the_same_with_and_without_gradients,
    answers_the_same_after_reloading,
    takes_images_of_any_size,
    takes_tabular_data_or_refuses_it_by_name,
    counts_its_passes,
    declares_an_optimisation,
    offers_settings_that_can_be_attacked,
)
