"""Rules for models: each is built for the inputs that it accepts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.api import Model
from benchmark.data import DataSpec
from benchmark.errors import ConfigError, DataError, Refused
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.tasks.detection import Detection
from benchmark.tasks.segmentation import Segmentation
from benchmark.tasks.task import DenseTask
from benchmark.testing.rule import Inapplicable, demand, leaving_the_process_alone, rules_of
from benchmark.testing.worlds import examples, global_state, same_state, seeded

SPECS = (
    DataSpec((1, 8, 8), 10),
    DataSpec((1, 28, 28), 10),
    DataSpec((3, 32, 32), 10),
    DataSpec((20,), 2),
    DataSpec((1, 24, 24), 2),
    DataSpec((1, 8, 8), 10, task=Segmentation()),
    DataSpec((1, 8, 8), 10, task=Detection(height=8, width=8, stride=4, objects=9)),
)
"""Kinds of input: small images first, since most rules use the first that a model accepts; usual sizes; a table; two
classes."""


LEARNT = 60
"""Number of examples for a model that fits itself."""


def _built(model: Model, spec: DataSpec, seed: int = 0) -> nn.Module | None:
    """Built module, or None if the model refuses such inputs with a sentence, or declares another task."""
    if spec.task.name not in model.tasks:
        return None
    with seeded(seed):
        try:
            return model.build(spec)
        except (ConfigError, DataError, Refused):
            return None


def _first(model: Model) -> tuple[nn.Module, DataSpec, Tensor]:
    """Module for the first kind of input that the model accepts, that kind, and three inputs."""
    for spec in SPECS:
        module = _built(model, spec)
        if module is not None:
            return module, spec, _inputs(spec)
    raise Inapplicable("the model accepts none of the tried inputs with its default settings")


def _fitted(model: Model) -> tuple[nn.Module, DataSpec, Tensor]:
    """Like :func:`_first`, after fitting a model that fits itself."""
    module, spec, x = _first(model)
    if model.learns():
        model.learn(module, examples(LEARNT, spec.shape, spec.classes)[0], spec, 0)
    return module, spec, x


def _inputs(spec: DataSpec, count: int = 3) -> Tensor:
    return SampleRandom(0, torch.arange(count)).uniform(*spec.shape, stream="x")


def gives_logits(model: Model) -> None:
    """Logits are finite float32 (B, classes), for any batch size; other inputs are refused with a sentence."""
    worked = False
    for spec in SPECS:
        module = _built(model, spec)
        if module is None:
            continue
        worked = True
        demand(isinstance(module, nn.Module), f"build returned {type(module).__name__}; expected a torch module")
        module.eval()
        for count in (1, 3):
            with torch.no_grad(), seeded(0):
                logits = module(_inputs(spec, count))
            expected = spec.task.answer_shape(count, spec.shape, spec.classes)
            demand(tuple(logits.shape) == expected, f"{spec.shape}: logits {tuple(logits.shape)}; expected {expected}")
            demand(logits.dtype == torch.float32, f"{spec.shape}: logits are {logits.dtype}; expected float32")
            demand(bool(torch.isfinite(logits).all()), f"{spec.shape}: logits are NaN or infinite at the start")
    if not worked:
        raise Inapplicable("the model accepts none of the tried inputs with its default settings")


def draws_weights_from_the_seed(model: Model) -> None:
    """The same seed gives the same initial weights."""
    module, spec, _ = _first(model)
    again = _built(model, spec)
    assert again is not None
    for (name, one), two in zip(module.state_dict().items(), again.state_dict().values(), strict=True):
        demand(torch.equal(one, two), f"{name} starts differently under the same seed; draw from torch's generator")


def evaluates_each_row_by_itself(model: Model) -> None:
    """In evaluation mode, the logits of an example do not depend on the others."""
    module, spec, x = _fitted(model)
    system = System(module, spec)
    rng = SampleRandom(0, torch.arange(len(x)))
    whole = system.logits(x, rng)
    for index in (torch.tensor([1]), torch.tensor([2, 0])):
        part = system.logits(x[index], rng.rows(index))
        demand(
            torch.equal(part, whole[index]),
            "logits in evaluation mode depend on the batch; use stored statistics, and reduce over features only",
        )


@leaving_the_process_alone
def evaluates_without_side_effects(model: Model) -> None:
    """In evaluation mode, nothing is changed: not the input, the module or the global generators; two passes agree."""
    module, spec, x = _fitted(model)
    system = System(module, spec)
    rng = SampleRandom(0, torch.arange(len(x)))
    given, before = x.clone(), {name: value.clone() for name, value in module.state_dict().items()}
    with seeded(0):
        state = global_state()
        one = system.logits(given, rng)
        same = same_state(state, global_state())
        two = system.logits(given, rng)
    demand(torch.equal(given, x), "a pass changed the input in place")
    changed = [name for name, value in module.state_dict().items() if not torch.equal(value, before[name])]
    demand(not changed, f"a pass in evaluation mode changed {', '.join(changed)}")
    demand(same, "a pass in evaluation mode drew from a global generator")
    demand(torch.equal(one, two), "two passes over the same inputs gave other logits")


def _loss(output: Tensor, spec: DataSpec) -> Tensor:
    """Training loss of an output, with labels that all occur."""
    if not isinstance(spec.task, DenseTask):
        return F.cross_entropy(output, torch.arange(len(output)) % spec.classes)
    count, sites = output.shape[:2]
    y = torch.arange(count * sites).reshape(count, sites) % spec.classes
    boxes = torch.tensor([1, 1, 5, 5]).expand(count, sites, 4)
    return spec.task.loss(output, torch.cat([y[..., None], boxes], 2) if isinstance(spec.task, Detection) else y)


def gives_gradients(model: Model) -> None:
    """The loss has finite gradients in the input and, in training mode, in every weight."""
    if model.learns():
        raise Inapplicable("the model fits itself, without gradients")
    module, spec, x = _first(model)
    module.train()
    x = torch.cat([x, x.flip(0)]).requires_grad_(True)
    with seeded(0):
        _loss(module(x), spec).backward()
    demand(x.grad is not None and bool((x.grad != 0).any()), "no gradient reaches the input")
    demand(x.grad is not None and bool(torch.isfinite(x.grad).all()), "the gradient in the input is not finite")
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            demand(parameter.grad is not None, f"{name} takes no part in the loss; remove it, or use it")
            assert parameter.grad is not None
            demand(bool(torch.isfinite(parameter.grad).all()), f"the gradient in {name} is not finite")


def fits_itself_by_the_seed(model: Model) -> None:
    """The same seed and examples give the same state, of the built size, without global generators."""
    if not model.learns():
        raise Inapplicable("the model is trained by gradients")
    states = []
    for _ in range(2):
        module, spec, _ = _first(model)
        train, built = examples(LEARNT, spec.shape, spec.classes)[0], module.state_dict()
        before, given = {name: value.clone() for name, value in built.items()}, train.x().clone()
        with seeded(0):
            state = global_state()
            model.learn(module, train, spec, 0)
            demand(same_state(state, global_state()), "learn drew from a global generator; use `seed`")
        demand(torch.equal(train.x(), given), "learn changed the examples in place")
        states.append(module.state_dict())
        same = {name: (value.shape, value.dtype) for name, value in states[-1].items()}
        demand(
            same == {name: (value.shape, value.dtype) for name, value in before.items()},
            "learn changed the shape or the dtype of the module's state, so it cannot be read back; build the module "
            "with the final shape",
        )
        demand(
            any(not torch.equal(value, before[name]) for name, value in states[-1].items()),
            "learn did not change the state",
        )
    for name, value in states[0].items():
        demand(torch.equal(value, states[1][name]), f"{name} differs after learning twice under one seed")


RULES = rules_of(
    gives_logits,
    draws_weights_from_the_seed,
    evaluates_each_row_by_itself,
    evaluates_without_side_effects,
    gives_gradients,
    fits_itself_by_the_seed,
)
