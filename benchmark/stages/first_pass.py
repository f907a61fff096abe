"""The first pass of a model: does it take the examples, and answer with a score per class?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark import registry
from benchmark.config.system_spec import SystemSpec
from benchmark.data import DataSpec, Examples
from benchmark.errors import DataError, Refused
from benchmark.sampling import SampleRandom, derive_seed, using
from benchmark.system import System
from benchmark.system.weights import copied

__all__ = ["check_answers"]


def check_answers(parts: SystemSpec, spec: DataSpec, model: nn.Module, examples: Examples, epochs: int) -> None:
    """Check by one pass of a copy that the architecture takes the examples and returns a score per class.

    Raises:
        DataError: with both shapes.
        Refused: if it cannot be trained or stored, or does not return a tensor of scores.
    """
    names = [f"{kind}.{name}" for kind, name in (registry.name_of(parts.model), registry.name_of(parts.dataset))]
    x = examples.take(torch.arange(min(2, len(examples)))).x()
    rng = SampleRandom(derive_seed(parts.seed, "shapes"), examples.ids[: len(x)])
    try:
        with torch.no_grad(), torch.random.fork_rng(), using(rng):
            tried = copied(model)
            system = System(tried, spec)
            system.owner = registry.owner_of(type(parts.model)).named
            logits = system(x)
            trained = tried.train()(x) if len(x) > 1 and epochs else logits
    except (RuntimeError, ValueError) as error:
        raise DataError(
            f"{names[0]} cannot take the examples of {names[1]}, which have the shape {spec.shape}: {error}"
        ) from error
    _check_kinds(parts, tried, trained, epochs)
    expected = spec.task.answer_shape(len(x), spec.shape, spec.classes)
    if tuple(logits.shape) != expected:
        raise DataError(
            f"{names[0]} answers {len(x)} examples of {names[1]} with the shape {tuple(logits.shape)}; the dataset "
            f"has {spec.classes} classes; expected {expected}"
        )


def _check_kinds(parts: SystemSpec, model: nn.Module, trained: object, epochs: int) -> None:
    """Refuse a model whose state or output is not made of tensors, or that has nothing to train."""
    owner = registry.owner_of(type(parts.model))
    named = f"{owner.full_name} from {owner.owner}"
    odd = [name for name, value in model.state_dict().items() if not isinstance(value, Tensor)]
    if odd:
        raise Refused(
            f"{named} keeps {odd[0]} in its state, which is not a tensor, so its weights cannot be stored; use the "
            "module before quantisation or packing"
        )
    if epochs and not list(model.parameters()):
        raise Refused(f"{named} has no parameters to train; choose training.epochs=0, or a model that has some")
    if not isinstance(trained, Tensor):
        raise Refused(
            f"{named} returns a {type(trained).__name__} in training mode; expected a tensor of scores as in "
            "evaluation mode: its author must return the scores alone"
        )
