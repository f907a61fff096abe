"""Rules for defenses: each overridden stage is tried on a small system."""

from __future__ import annotations

import copy
import dataclasses

import torch
from torch import Tensor, nn

from benchmark import sampling
from benchmark.api import Defense
from benchmark.data import Examples
from benchmark.stages.fit import built
from benchmark.system import System, padded, padded_random
from benchmark.testing.defended import (
    Rectified,
    architecture,
    batch_of,
    defended_loss,
    fit_once,
    network_of,
    random_of,
    system_of,
    trained_with,
)
from benchmark.testing.rule import Inapplicable, demand, leaving_the_process_alone, rules_of
from benchmark.testing.worlds import examples, global_state, same_state, seeded, world


def prepares_valid_examples(defense: Defense) -> None:
    """Prepared training examples are valid: unique ids, labels in range, values in [0, 1]."""
    train, spec = examples()
    with seeded(0):
        after = defense.prepare(train, spec, random_of(train.ids))
    count = len(after)
    demand(count > 0, "prepare left no examples")
    demand(
        after.ids.dtype == torch.int64 and after.y.dtype == torch.int64,
        "prepare returned ids or labels that are not int64",
    )
    demand(len(after.ids.unique()) == count, "prepare repeated ids; give new examples new ids")
    demand(len(after.y) == count, f"prepare returned {len(after.y)} labels for {count} examples")
    demand(
        bool(((after.y >= 0) & (after.y < spec.classes)).all()),
        f"prepare returned labels outside 0..{spec.classes - 1}",
    )
    x = after.x()
    demand(tuple(x.shape) == (count, *spec.shape), f"prepare returned inputs of shape {tuple(x.shape)}")
    demand(x.dtype == torch.float32 and bool(((x >= 0) & (x <= 1)).all()), "prepare returned inputs outside [0, 1]")
    if after.soft is not None:
        demand(tuple(after.soft.shape) == (count, spec.classes), "soft labels must have shape (N, classes)")
        rows = after.soft.sum(1)
        demand(torch.allclose(rows, torch.ones_like(rows), atol=1e-5), "each row of soft labels must sum to 1")


def prepares_the_same_examples_again(defense: Defense) -> None:
    """Preparing twice gives the same examples, and does not change the given ones."""
    train, spec = examples()
    x, y, ids = train.x().clone(), train.y.clone(), train.ids.clone()
    given = Examples.of(train.ids, train.x(), train.y)
    with seeded(0):
        before = global_state()
        one = defense.prepare(given, spec, random_of(train.ids))
        one_x = one.x()
        same = same_state(before, global_state())
        two = defense.prepare(given, spec, random_of(train.ids))
        two_x = two.x()
    demand(same, "prepare drew from a global generator or seeded one; draw from `rng`")
    demand(
        one.digest() == two.digest() and torch.equal(one_x, two_x),
        "prepare returned other examples the second time; draw from `rng` alone",
    )
    kept = torch.equal(given.x(), x) and torch.equal(given.y, y) and torch.equal(given.ids, ids)
    demand(kept, "prepare changed the examples that it was given; work on copies")


def builds_a_classifier(defense: Defense) -> None:
    """The built architecture gives logits of the same shape, and gradients to train with."""
    here = world()
    with seeded(0):
        model = architecture(defense, here.spec)
    demand(isinstance(model, nn.Module), f"build returned {type(model).__name__}; expected a torch module")
    with seeded(0), sampling.using(here.rng()):
        logits = model(here.x)
    expected = (len(here.x), here.spec.classes)
    demand(tuple(logits.shape) == expected, f"the built model gives shape {tuple(logits.shape)}; expected {expected}")
    demand(logits.requires_grad, "nothing in the built model can be trained")


def has_a_finite_loss(defense: Defense) -> None:
    """The training loss is a finite scalar with gradients; batch and global generators are not changed."""
    train, spec = examples()
    with seeded(0):
        model = architecture(defense, spec).train()
        prepared = defense.prepare(train, spec, random_of(train.ids))
        batch, now = batch_of(prepared), defense.start(model, prepared, spec, fit_once)
        x, y = batch.x.clone(), batch.y.clone()
        before, learns = global_state(), [p.requires_grad for p in model.parameters()]
        with sampling.using(random_of(batch.ids)):
            loss = defended_loss(now, model, batch)
        same = same_state(before, global_state())
    demand(loss.ndim == 0, f"the loss has shape {tuple(loss.shape)}; expected a scalar, the mean over the batch")
    demand(bool(torch.isfinite(loss)), f"the loss is {float(loss.detach())}")
    demand(loss.requires_grad, "the loss has no gradient")
    demand(model.training, "the loss left the model in evaluation mode; restore its mode")
    same_weights = [p.requires_grad for p in model.parameters()] == learns
    demand(same_weights, "the loss froze weights; restore requires_grad")
    demand(torch.equal(batch.x, x) and torch.equal(batch.y, y), "the loss changed the batch in place")
    demand(same, "the loss drew from a global generator; draw from `rng`")


def same_seed_same_loss(defense: Defense) -> None:
    """The same batch and seed give the same loss."""
    train, spec = examples()
    values = []
    for _ in range(2):
        with seeded(0):
            model = architecture(defense, spec).train()
            prepared = defense.prepare(train, spec, random_of(train.ids))
            batch, now = batch_of(prepared), defense.start(model, prepared, spec, fit_once)
            with sampling.using(random_of(batch.ids)):
                values.append(float(defended_loss(now, model, batch).detach()))
    demand(values[0] == values[1], f"the same batch and seed gave losses {values[0]} and {values[1]}; keep no state")


@leaving_the_process_alone
def trains_to_finite_weights(defense: Defense) -> None:
    """Two steps, the projection after each, and everything after training leave finite weights."""
    model, _ = trained_with(defense)
    for name, value in model.state_dict().items():
        demand(
            not value.is_floating_point() or bool(torch.isfinite(value).all()), f"{name} is not finite after training"
        )


def starts_without_a_trace(defense: Defense) -> None:
    """Training in `start` leaves the model and the examples unchanged."""
    if type(defense).start is Defense.start:
        raise Inapplicable("the defense trains nothing in `start`")
    train, spec = examples()
    with seeded(0):
        model = architecture(defense, spec)
        prepared = defense.prepare(train, spec, random_of(train.ids))
        weights, digest = copy.deepcopy(model.state_dict()), prepared.digest()
        defense.start(model, prepared, spec, fit_once)
    changed = [n for n, v in model.state_dict().items() if not torch.equal(v, weights[n])]
    demand(not changed, f"start changed {', '.join(changed)} of the model; train a copy")
    demand(all(p.requires_grad for p in model.parameters()), "start froze weights of the model; freeze those of a copy")
    demand(prepared.digest() == digest, "start changed the training examples; work on copies")


def counts_in_statistics_what_it_learns_from(defense: Defense) -> None:
    """Running statistics are updated only by passes that the loss consists of, and every module keeps its mode."""
    train, spec = examples()
    with seeded(0):
        model = built(Rectified(spec), spec, (defense,)).train()
        norm = next(m for m in model.modules() if isinstance(m, nn.BatchNorm1d))
        prepared = defense.prepare(train, spec, random_of(train.ids))
        batch, now = batch_of(prepared), defense.start(model, prepared, spec, fit_once)
        tracked = norm.num_batches_tracked
        noticed: list[Tensor] = []
        assert isinstance(tracked, Tensor)

        def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if int(tracked) > len(noticed):
                noticed.append(output)

        with norm.register_forward_hook(note), sampling.using(random_of(batch.ids)):
            loss = defended_loss(now, model, batch)
        idle = [o for o in noticed if torch.autograd.grad(loss, o, retain_graph=True, allow_unused=True)[0] is None]
        demand(
            not idle,
            f"running statistics were updated by {len(idle)} passes that the loss does not learn from; make "
            "adversarial "
            "examples in evaluation mode, and leave buffers out of other passes",
        )
        norm.eval()
        with sampling.using(random_of(batch.ids)):
            defended_loss(now, model, batch)
    left = [name for name, m in model.named_modules() if m.training is (m is norm)]
    demand(not left, "the loss changed the mode of modules; restore the mode of each")


TRAINING = ("prepare", "start", "at_epoch", "replays", "loss", "after_step", "averaging")
"""Stages of a defense that take part in training."""


def takes_part_in_training(defense: Defense) -> bool:
    """True if the defense overrides a stage of training."""
    return any(getattr(type(defense), stage) is not getattr(Defense, stage) for stage in TRAINING)


def is_off_at_strength_zero(defense: Defense) -> None:
    """At the settings declared as `neutral`, training and predictions are those without the defense, bit for bit."""
    if not defense.neutral:
        raise Inapplicable("the defense declares no settings at which it changes nothing")
    if not takes_part_in_training(defense):
        raise Inapplicable("the defense takes no part in training; another rule checks its neutral settings")
    try:
        off = dataclasses.replace(defense, **defense.neutral)
    except Exception as error:
        raise AssertionError(f"the settings {dict(defense.neutral)} in `neutral` are refused: {error}") from error
    spec = world().spec
    net = network_of(defense, spec)
    (model, prepared), (bare, train) = (trained_with(one, net(spec)) for one in (off, Defense()))
    same = prepared.digest() == train.digest() and torch.equal(prepared.x(), train.x())
    demand(same, f"at {dict(defense.neutral)} prepare still changes the training examples")
    pairs = zip(model.parameters(), bare.parameters(), strict=True)
    demand(all(torch.equal(a, b) for a, b in pairs), f"at {dict(defense.neutral)} training ends with other weights")
    here = world()
    logits = [s.logits(here.x, here.rng()) for s in (System(model, spec, (off,)), System(bare, spec))]
    demand(
        torch.equal(*logits), f"at {dict(defense.neutral)} predictions are not those of the model without the defense"
    )
    demand(
        off.replays() == 1 and off.averaging() is None,
        f"at {dict(defense.neutral)} the number of replays or the averaging differs from that without the defense",
    )


@leaving_the_process_alone
def protects_with_logits(defense: Defense) -> None:
    """The deployed module gives finite float32 logits, without changing inputs, weights or global generators."""
    here, system = world(), system_of(defense)
    x = here.x.clone()
    before = copy.deepcopy(system.state_dict())
    with seeded(0):
        state = global_state()
        logits = system.logits(x, here.rng())
        same = same_state(state, global_state())
    expected = (len(x), here.spec.classes)
    demand(
        tuple(logits.shape) == expected, f"the protected model gives shape {tuple(logits.shape)}; expected {expected}"
    )
    demand(logits.dtype == torch.float32, f"the protected model gives {logits.dtype}; expected float32")
    demand(bool(torch.isfinite(logits).all()), "the protected model gives NaN or infinity")
    demand(torch.equal(x, here.x), "the protected model changed its input in place")
    demand(same, "the protected model drew from a global generator; draw from benchmark.sampling.ambient()")
    changed = [n for n, v in system.state_dict().items() if not torch.equal(v, before[n])]
    demand(not changed, f"a pass through the protected model changed {', '.join(changed)}")


def declares_whether_it_is_random(defense: Defense) -> None:
    """Logits are reproducible with a seed, and independent of the seed unless randomized = True."""
    here, system = world(), system_of(defense)
    one, again, other = (system.logits(here.x, here.rng(seed)) for seed in (1, 1, 2))
    demand(torch.equal(one, again), "the same seed gave other logits; draw from benchmark.sampling.ambient() alone")
    if not defense.randomized:
        demand(torch.equal(one, other), "logits depend on the seed, but the class does not declare randomized = True")


def batch_split_changes_nothing(defense: Defense) -> None:
    """The deployed module's answer to an input does not depend on the other inputs."""
    here, system = world(), system_of(defense)
    whole = system.logits(here.x, here.rng())
    for index in (torch.tensor([2]), torch.tensor([5, 0])):
        part = system.logits(here.x[index], here.rng().rows(index))
        demand(
            torch.equal(part, whole[index]),
            "logits of an example depend on the batch; compute each row separately, and draw per row",
        )


def keeps_the_gradient(defense: Defense) -> None:
    """A defense with differentiable = True has a non-zero gradient in the input, also where that is exactly 0 or 1."""
    if not defense.differentiable:
        raise Inapplicable("the defense declares differentiable = False")
    here, system = world(), system_of(defense)
    x = padded(here.x).requires_grad_(True)
    with seeded(0), sampling.using(padded_random(here.rng())):
        logits = system(x)
    demand(logits.requires_grad, "no gradient reaches the input; declare differentiable = False, or give a surrogate")
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), x)
    demand(bool(torch.isfinite(gradient).all()), "the gradient of the protected model is not finite")
    demand(
        bool((gradient != 0).any()),
        "the gradient of the protected model is zero everywhere; declare differentiable = False, or give a surrogate "
        "(benchmark.api.straight_through)",
    )
    extreme = (x == 0.0) | (x == 1.0)
    demand(
        bool((gradient[extreme] != 0).any()),
        "the gradient is zero at every input value that is exactly 0 or 1, as in black and white pixels; clip with "
        "benchmark.api.clipped, since the gradient of torch.clamp on its bounds is 0 from torch 2.14 on",
    )


def scores_suspicion_per_example(defense: Defense) -> None:
    """A detector gives one finite number per example, independent of the batch."""
    if not defense.detects:
        raise Inapplicable("the defense detects nothing")
    here, system = world(), system_of(defense)
    with torch.no_grad(), sampling.using(padded_random(here.rng())):
        whole = defense.suspicion(system.protected, padded(here.x))[: len(here.x)]
        demand(whole.shape == (len(here.x),), f"suspicion has shape {tuple(whole.shape)}; expected ({len(here.x)},)")
        demand(whole.dtype == torch.float32, f"suspicion is {whole.dtype}; expected float32")
        demand(bool(torch.isfinite(whole).all()), "suspicion is NaN or infinite")
    index = torch.tensor([4, 1])
    with torch.no_grad(), sampling.using(padded_random(here.rng().rows(index))):
        part = defense.suspicion(system.protected, padded(here.x[index]))[:2]
    demand(torch.equal(part, whole[index]), "suspicion of an example depends on the batch; compute each row separately")


RULES = rules_of(
    prepares_valid_examples,
    prepares_the_same_examples_again,
    builds_a_classifier,
    has_a_finite_loss,
    same_seed_same_loss,
    trains_to_finite_weights,
    starts_without_a_trace,
    counts_in_statistics_what_it_learns_from,
    is_off_at_strength_zero,
    protects_with_logits,
    declares_whether_it_is_random,
    batch_split_changes_nothing,
    keeps_the_gradient,
    scores_suspicion_per_example,
)
