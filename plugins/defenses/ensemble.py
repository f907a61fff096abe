"""Ensemble of networks. Strauss, Hanselmann, Junginger & Ulmer, 2017, arXiv:1709.03423; Hansen & Salamon, TPAMI 1990.

Members have the same architecture with different initial weights, or another architecture, trees included. They are
combined by the mean of their scores, by vote, or by drawing one at random.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from typing import ClassVar

import torch
from torch import Tensor, nn

from benchmark import sampling
from benchmark.api import (
    Batch,
    ConfigError,
    DataSpec,
    Defense,
    Examples,
    Loss,
    Model,
    Refused,
    SampleRandom,
    hookimpl,
    inner,
    straight_through,
)

from ._transforms.behind import inside


class Combination(Enum):
    """Combination of the members' outputs.

    mean: of their logits. probabilities: of their probabilities, as logarithms. vote: the label of most members; ties
    go to the larger mean probability. random: a member drawn per example and pass.
    """

    mean = "mean"
    probabilities = "probabilities"
    vote = "vote"
    random = "random"


@dataclass(frozen=True)
class Ensemble(Defense):
    """Train several networks on the same batches, each by the loss of the stack below, and combine their outputs.

    members: networks of the run's architecture; the first is the run's own, which an oblivious attacker attacks, and
    the others have different initial weights. other, others: another architecture and its number of members; those not
    trained by gradients are fitted after training. combine: see :class:`Combination`; the surrogate for gradients of a
    vote is the logarithm of the mean probability. votes: number of draws in the majority vote, with random members. A
    pass costs a pass of each member, even if one is drawn.
    """

    neutral: ClassVar = {"members": 1, "others": 0}

    members: int = 3
    other: Model = inner("mlp")
    others: int = 0
    combine: Combination = Combination.mean
    votes: int = 1

    def __post_init__(self) -> None:
        if self.members < 1 or self.others < 0:
            raise ConfigError(
                f"ensemble.members is {self.members} and ensemble.others is {self.others}; expected at least 1 member "
                "and at least 0 others"
            )
        if self.votes < 1 or (self.votes > 1 and self.combine is not Combination.random):
            raise ConfigError(
                f"ensemble.votes is {self.votes} with ensemble.combine={self.combine.value}; expected at least 1, and "
                "more than 1 only with combine=random"
            )

    @property
    def randomized(self) -> bool:  # type: ignore[override]  # it depends on the setting
        """True if a member is drawn at random."""
        return self.combine is Combination.random

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        """All members; the forward pass uses the first."""
        same = [model, *(fresh(model) for _ in range(self.members - 1))]
        return Members([*same, *(self.other.build(spec) for _ in range(self.others))], spec)

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """Mean of the loss over the members that are trained by gradients."""
        members = inside(model, Members)
        trained = len(members.list) if not self.other.learns() else self.members
        losses = []
        for place in range(trained):
            with members.answering(place):
                losses.append(inner(model, batch))
        return torch.stack(losses).mean()

    def finish(self, model: nn.Module, train: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """Fit the members that are not trained by gradients, each with its own seed."""
        if not self.others or not self.other.learns():
            return
        if train.soft is not None:
            raise Refused(
                "defense.ensemble has members that learn from hard labels, but another defense made the labels soft; "
                "leave that defense "
                "out, or choose another ensemble.other"
            )
        members = inside(model, Members)
        for place in range(self.members, len(members.list)):
            self.other.learn(members.list[place], train, members.spec, (members.seed + place) % 2**31)

    def protect(self, model: nn.Module) -> nn.Module:
        """Combine the outputs of all members."""
        return Combined(model, inside(model, Members), self.combine)

    def passes(self, below: int) -> int:
        """Passes of all members together."""
        return (self.members + self.others) * below

    def smoother(self) -> tuple[Defense, ...]:
        """The mean of the logits instead of a vote or a draw."""
        hard = self.combine in (Combination.vote, Combination.random)
        return (replace(self, combine=Combination.mean, votes=1),) if hard else ()


class Members(nn.Module):
    """Networks, one of them active at a time: the first by default."""

    def __init__(self, members: list[nn.Module], spec: DataSpec) -> None:
        super().__init__()
        self.list = nn.ModuleList(members)
        self.spec, self.seed, self.place = spec, torch.initial_seed(), 0

    @contextmanager
    def answering(self, place: int) -> Iterator[None]:
        """Make the member at index `place` the active one inside the block."""
        self.place = place
        try:
            yield
        finally:
            self.place = 0

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, *S) to logits (B, K)."""
        logits: Tensor = self.list[self.place](x)
        return logits


class Combined(nn.Module):
    """A model around members, evaluated once with each of them."""

    def __init__(self, model: nn.Module, members: Members, combine: Combination) -> None:
        super().__init__()
        self.model, self.members, self.combine = model, members, combine

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, *S) to logits (B, K)."""
        answers = []
        for place in range(len(self.members.list)):
            with self.members.answering(place):
                answers.append(self.model(x))
        return combined(torch.stack(answers), self.combine)


def combined(logits: Tensor, combine: Combination) -> Tensor:
    """Combined logits (B, K) from the logits (n, B, K) of n members."""
    if combine is Combination.mean:
        return logits.mean(0)
    if combine is Combination.random:
        drawn = sampling.ambient().integers(len(logits), 1, stream="ensemble").to(logits.device)
        return logits.gather(0, drawn[None].expand(1, -1, logits.shape[2])).squeeze(0)
    mean = logits.softmax(2).mean(0)
    certain = mean.clamp_min(torch.finfo(mean.dtype).tiny).log()
    if combine is Combination.probabilities:
        return certain
    counts = nn.functional.one_hot(logits.argmax(2), logits.shape[2]).sum(0)
    share = (counts + 0.5 * mean.detach()) / (len(logits) + 0.5)  # half a vote at most: it decides ties alone
    return straight_through(share.clamp_min(torch.finfo(mean.dtype).tiny).log(), certain)


def fresh(model: nn.Module) -> nn.Module:
    """A copy with new initial weights, drawn from torch's generator, which the core has seeded."""
    made = copy.deepcopy(model)
    for module in made.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
            continue
        for parameter in module.parameters(recurse=False):
            if parameter.ndim > 1:
                nn.init.kaiming_uniform_(parameter, a=math.sqrt(5))
    return made


@hookimpl
def benchmark_component() -> type[Ensemble]:
    """Register the plugin."""
    return Ensemble
