"""Rules for detectors: invariances, side effects, gradients and the declared fitting attacks."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from scipy.stats import betabinom
from torch import Tensor

from benchmark import sampling
from benchmark.api import Attack, Defense
from benchmark.sampling import SampleRandom
from benchmark.stages.fit import built, calibrated
from benchmark.system import Detector, System, padded, padded_random
from benchmark.system.target import Target
from benchmark.testing.defended import trained
from benchmark.testing.rule import Inapplicable, demand, leaving_the_process_alone, rules_of
from benchmark.testing.worlds import Net, examples, global_state, same_state, seeded, world

__all__ = ["RULES"]

CLEAN = 300
"""Number of clean examples to calibrate a threshold, and of new ones to test it."""
FALSE_POSITIVES = 0.05
CHANCE = 5e-4
"""Probability that a sound detector is outside the range, at either end."""


def _detecting(defense: Defense) -> System:
    """Trained system with the detector, whose margin is the suspicion itself."""
    if not defense.detects:
        raise Inapplicable("the defense detects nothing")
    return System(trained(defense), examples()[1], (defense,), (Detector(defense, 0.0, 1.0),))


def _scores(system: System, x: Tensor, first: int = 1000) -> Tensor:
    """Suspicion of inputs, with ids from `first` on, (B,)."""
    return system.suspicion(x, SampleRandom(0, torch.arange(first, first + len(x))))


def ignores_a_constant_added_to_the_logits(defense: Defense) -> None:
    """A detector with shift_invariant = True decides the same when a constant is added to all logits."""
    if not defense.shift_invariant:
        raise Inapplicable("the defense does not declare shift_invariant = True")
    system, x = _detecting(defense), world().x
    before = _scores(system, x)
    for module in system.modules():
        if isinstance(module, Net):
            module.shift += 64.0
    after = _scores(system, x)
    threshold = before.median()
    demand(
        torch.equal(before > threshold, after > threshold),
        "a constant added to all logits changes decisions; use probabilities or labels, or declare "
        "shift_invariant = False",
    )


def keeps_false_positives_in_their_range(defense: Defense) -> None:
    """The number of refused new clean examples is within the range given by order statistics.

    With equal scores only the upper end is checked, since a threshold among them refuses fewer.
    """
    system = _detecting(defense)
    x = examples(40 + 2 * CLEAN)[0].x()[40:]
    clean, fresh = _scores(system, x[:CLEAN]), _scores(system, x[CLEAN:], 5000)
    threshold = calibrated(clean.double(), FALSE_POSITIVES)
    refused = int((fresh > threshold).sum())
    above = CLEAN - int((clean <= threshold).sum()) + 1
    most = int(betabinom.ppf(1 - CHANCE, CLEAN, above, CLEAN + 1 - above))
    least = int(betabinom.ppf(CHANCE, CLEAN, above, CLEAN + 1 - above)) if len(clean.unique()) == CLEAN else 0
    demand(
        least <= refused <= most,
        f"{refused} of {CLEAN} new clean examples are refused at a threshold from {CLEAN} others; expected {least} to "
        f"{most}; the suspicion of an example may depend on nothing but the example",
    )


def scores_the_same_after_reloading(defense: Defense) -> None:
    """The rebuilt architecture with the stored weights gives the same suspicion scores."""
    system, here = _detecting(defense), world()
    with seeded(1):
        again = built(Net(here.spec), here.spec, (defense,))
    again.load_state_dict(copy.deepcopy(system.model.state_dict()))
    reloaded = System(again, here.spec, (defense,), system.detectors)
    demand(
        torch.equal(_scores(reloaded, here.x), _scores(system, here.x)),
        "a system rebuilt from its weights has other suspicion scores; keep fitted values in buffers that `build` "
        "creates",
    )


@leaving_the_process_alone
def leaves_everything_alone_while_scoring(defense: Defense) -> None:
    """A suspicion score does not change inputs, weights, modes, hooks or global generators."""
    system, here = _detecting(defense), world()
    weights, x = copy.deepcopy(system.state_dict()), here.x.clone()
    modes = [module.training for module in system.modules()]
    hooks = _hooks(system)
    with seeded(0):
        before = global_state()
        _scores(system, x)
        same = same_state(before, global_state())
    demand(same, "the suspicion drew from a global generator; draw from benchmark.sampling.ambient()")
    demand(torch.equal(x, here.x), "the suspicion changed its input in place; work on a copy")
    changed = [name for name, value in system.state_dict().items() if not torch.equal(value, weights[name])]
    demand(not changed, f"the suspicion changed {', '.join(changed)}; nothing may be fitted at inference")
    demand(modes == [module.training for module in system.modules()], "the suspicion left another train or eval mode")
    demand(hooks == _hooks(system), "the suspicion left hooks on the model; remove them")


def _hooks(system: System) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in system.modules())


def gives_a_gradient_to_follow(defense: Defense) -> None:
    """A detector with differentiable = True has a finite gradient that is not zero everywhere."""
    system, here = _detecting(defense), world()
    if not defense.differentiable:
        raise Inapplicable("the defense declares differentiable = False")
    x = padded(here.x).requires_grad_(True)
    with sampling.using(padded_random(here.rng())):
        margin = system.detectors[0].evasion_margin(system, x)
    demand(
        torch.equal(margin.detach()[: len(here.x)], system.suspicion(here.x, here.rng())),
        "the attacker's margin differs from that of the suspicion without gradients",
    )
    demand(margin.requires_grad, "no gradient of the suspicion reaches the input; define suspicion_surrogate")
    (gradient,) = torch.autograd.grad(margin.sum(), x)
    demand(bool(torch.isfinite(gradient).all()), "the gradient of the suspicion is not finite")
    demand(
        bool((gradient != 0).any()),
        "the gradient of the suspicion is zero everywhere; define suspicion_surrogate, or declare "
        "differentiable = False",
    )


def names_what_it_was_fitted_on(defense: Defense) -> None:
    """A detector fitted on attacked examples names the attack in `fitted_on`."""
    with _asked_targets() as made:
        _detecting(defense)
    named = defense.fitted_on()
    unknown = [attack for attack in named if not isinstance(attack, Attack)]
    demand(not unknown, f"fitted_on gives {', '.join(map(repr, unknown))}; expected attacks")
    demand(
        bool(named) or not made,
        "the detector attacks examples while it is fitted, but fitted_on names no attack; a card must tell seen "
        "attacks from unseen ones",
    )


@contextlib.contextmanager
def _asked_targets() -> Iterator[list[Target]]:
    """Every target created inside the block, which only an attack needs."""
    made: list[Target] = []
    usual = Target.__init__

    def noting(self: Target, *args: Any, **settings: Any) -> None:
        made.append(self)
        usual(self, *args, **settings)

    Target.__init__ = noting  # type: ignore[method-assign]
    try:
        yield made
    finally:
        Target.__init__ = usual  # type: ignore[method-assign]


RULES = rules_of(
    ignores_a_constant_added_to_the_logits,
    keeps_false_positives_in_their_range,
    scores_the_same_after_reloading,
    leaves_everything_alone_while_scoring,
    gives_a_gradient_to_follow,
    names_what_it_was_fitted_on,
)
