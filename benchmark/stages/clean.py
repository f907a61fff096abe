"""Clean accuracy of a system, and the one that the publisher of its model states."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark import registry
from benchmark.config.system_spec import SystemSpec
from benchmark.data import DataSpec, Examples
from benchmark.errors import DataError
from benchmark.sampling import SampleRandom, derive_seed
from benchmark.system import System
from benchmark.threat import Goal

__all__ = ["check_stated", "correct"]

STATED_ON = 2000
"""Most test examples on which a stated accuracy is checked."""

STATED_LEVEL = 0.999
"""Level of the interval of the measured accuracy that must contain the stated one."""


def correct(system: System, examples: Examples, seed: int, device: torch.device) -> int:
    """Number of examples that a system classifies correctly, by the same passes as in the attack stage."""
    from benchmark.stages.judge import answer, right

    total = 0
    system.to(device)
    for at in torch.arange(len(examples)).split(256) if len(examples) else ():
        rng = SampleRandom(derive_seed(seed, "cell"), examples.ids[at].to(device)).child("clean")
        y = examples.y[at].to(device)
        total += int(right(answer(system, examples.x(at).to(device), y, rng), Goal.untargeted).sum())
    return total


def check_stated(
    parts: SystemSpec, spec: DataSpec, given: dict[str, Tensor] | None, test: Examples, device: torch.device
) -> None:
    """Check the clean accuracy that a pretrained model's publisher states, before any defense and further training.

    Measured on the test examples, or on a seeded sample of 2000 of them; costs a forward pass each.

    Args:
        given: the model's pretrained weights; None for a model that is built with them.

    Raises:
        DataError: if the exact 99.9 % interval of the measured accuracy does not contain the stated one.
    """
    from benchmark.records.statistics import clopper_pearson  # which imports SciPy

    (_, dataset), (_, name) = registry.name_of(parts.dataset), registry.name_of(parts.model)
    with registry.calling(parts.model):
        stated = parts.model.stated_accuracy(dataset)
    if stated is None or not len(test):
        return
    with torch.random.fork_rng(), registry.calling(parts.model, generators=False):
        model = parts.model.build(spec)
    if given is not None:
        model.load_state_dict(given)
    if len(test) > STATED_ON:
        drawn = torch.Generator().manual_seed(derive_seed(parts.seed, "stated"))
        test = test.take(torch.randperm(len(test), generator=drawn)[:STATED_ON].sort().values)
    right = correct(System(model, spec), test, parts.seed, device)
    low, high = clopper_pearson(right, len(test), STATED_LEVEL)
    if not low <= stated <= high:
        raise DataError(
            f"model.{name} is right on {right} of {len(test)} clean test examples of dataset.{dataset} (99.9 % "
            f"interval {low:.2%} to {high:.2%}), but its card or model.clean_accuracy says {stated:.2%}; check that "
            "weights, preprocessing and data are those of the card"
        )
