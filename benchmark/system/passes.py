"""Passes of a system: each with its own randomness, charged to the example that it is about, padded to whole blocks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor, nn

from benchmark import sampling
from benchmark.errors import AttackFault
from benchmark.sampling import SampleRandom
from benchmark.system.graph import Graph, Piece, gradient_of
from benchmark.system.ledger import Ledger, occurrence
from benchmark.system.rows import padded
from benchmark.system.system import NO_ANSWER, REJECTED, Detector, System, padded_random
from benchmark.tasks.task import ONE_LABEL, DenseTask, Task
from benchmark.threat.ball import Ball

__all__ = ["LEFT_OUT", "Passes", "Pull", "RowLoss"]

LEFT_OUT = 4
"""Other labels that may have higher scores than a label among the best five."""

RowLoss = Callable[[Tensor], Tensor]
"""From logits (B, K), or (B, S, K) of several sites, to (B,): what a gradient ascends, each row by itself."""


class Pull(Protocol):
    """From cotangents of the scores, (R, K) or (R, n, K), to gradients of the input, (R, *S) or (R, n, *S)."""

    def __call__(self, cotangent: Tensor) -> Tensor:
        """Make one backward pass per row and cotangent."""


@dataclass(frozen=True)
class Passes:
    """A system for the rows of a batch: what it answers, and who pays for it.

    reach: gives the module, from (B, *S) to logits (B, K). A function, so that no attribute leads to the weights.
    rng: one row per example of the batch. ledger: of the whole batch.
    owners: (R,) int64, the example that each row belongs to; None where the rows are the batch.
    draws: draws that an answer averages. votes: draws whose majority is the system's answer.
    cost: passes that one pass of the module counts as.
    randomized, detectors, ball, ranked, task, padding: as in :class:`benchmark.system.target.Target`; a ball only with
    levels.
    """

    reach: Callable[[], nn.Module]
    rng: SampleRandom
    ledger: Ledger
    owners: Tensor | None = None
    draws: int = 1
    votes: int = 1
    cost: int = 1
    randomized: bool = False
    detectors: tuple[Detector, ...] = ()
    ball: Ball | None = None
    ranked: Tensor | None = None
    task: Task = ONE_LABEL
    padding: bool = True

    def __len__(self) -> int:
        return len(self.rng) if self.owners is None else len(self.owners)

    def logits(self, x: Tensor) -> Tensor:
        """(R, K) scores of `x` (R, *S) as the attacker sees them, detached, averaged over draws."""
        self._check(x)
        total: Tensor | None = None
        with torch.no_grad():
            for _ in range(self.draws):
                rng = self._turn()
                self.ledger.charge(self.owners, self.cost)
                now = self._shown(torch.cat([self._scores(*piece) for piece in self._pieces(x, rng)]))
                total = now if total is None else total + now
        assert total is not None
        return total / self.draws if self.draws > 1 else total

    def answer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(R, K) scores and (R,) labels, averaged over draws: -1 where a detector refuses, -2 for no answer."""
        with torch.no_grad():
            rng = self._turn()
            logits = self.logits(x)
            if isinstance(self.task, DenseTask):
                return logits, self.task.read(logits)
            labels = torch.where(logits.isfinite().all(1), logits.argmax(1), NO_ANSWER)
            if self.detectors:
                with self._asking(rng):
                    rows = padded(self._handed_in(x))
                    for detector in self.detectors:
                        margin = detector.margin(self.reach(), rows)[: len(x)]
                        labels = torch.where(margin > 0, REJECTED, labels)
        return logits, labels

    def elected(self, x: Tensor) -> Tensor:
        """(R,) labels of most of `votes` single draws, a tie by the larger mean probability; -1 for most refuse."""
        once = replace(self, draws=1)
        if self.votes == 1:
            return once.answer(x)[1]
        drawn = [once.answer(x) for _ in range(self.votes)]
        refused = torch.stack([labels == REJECTED for _, labels in drawn]).sum(0)
        mean = torch.stack([logits.double().softmax(1) for logits, _ in drawn]).mean(0)
        chosen = torch.stack([logits.argmax(1) for logits, _ in drawn])
        counts = torch.nn.functional.one_hot(chosen, mean.shape[1]).sum(0)
        elected = torch.where(mean.isfinite().all(1), (counts + 0.5 * mean).argmax(1), NO_ANSWER)
        return torch.where(2 * refused > self.votes, REJECTED, elected)

    def pullback(self, x: Tensor) -> tuple[Tensor, Pull]:
        """The scores of `x` (R, *S), detached, and a function that pulls cotangents back to the input."""
        passes = [self._graph(x, self._turn()) for _ in range(self.draws)]
        logits = _mean([graph.scores() for graph in passes])

        def pull(cotangent: Tensor) -> Tensor:
            several = (cotangent if cotangent.ndim == 3 else cotangent[:, None]).transpose(0, 1)
            grads = [_mean([graph.pulled(one, keep=True) for graph in passes]) for one in several]
            self._note(grads[0], len(grads) * len(passes))
            return torch.stack(grads, 1) if cotangent.ndim == 3 else grads[0]

        return logits, pull

    def gradient(self, x: Tensor, loss: RowLoss, penalty: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Gradient (R, *S), loss (R,) and scores (R, K) at `x` (R, *S), detached; means over draws.

        Args:
            penalty: (R,) weight of the detectors' excess, which is subtracted from the loss; None for 1.
        """
        total: tuple[Tensor, Tensor, Tensor] | None = None
        for _ in range(self.draws):
            rng = self._turn()
            graph = self._graph(x, rng)
            scores = graph.asked()
            with torch.enable_grad():
                value = loss(scores)
            grad = graph.descended(value.sum(), scores)
            self._note(grad, 1)
            value = value.detach()
            if self.detectors:
                excess, push = self._suspicion(x, rng)
                if penalty is not None:
                    excess = excess * penalty
                    push = push * penalty.reshape(-1, *([1] * (x.ndim - 1)))
                value, grad = value - excess, grad - push
            now = (grad, value, scores.detach())
            total = now if total is None else (total[0] + now[0], total[1] + now[1], total[2] + now[2])
        assert total is not None
        if self.draws > 1:
            total = (total[0] / self.draws, total[1] / self.draws, total[2] / self.draws)
        return total

    def _graph(self, x: Tensor, rng: SampleRandom) -> Graph:
        """One pass, in one or several pieces, that a gradient can follow."""
        self._check(x)
        self.ledger.charge(self.owners, self.cost)
        return Graph(tuple(self._piece(*piece) for piece in self._pieces(x, rng)))

    def _pieces(self, x: Tensor, rng: SampleRandom) -> list[tuple[Tensor, SampleRandom]]:
        """The input that the system would get for `x` (R, *S), cut into rows to be computed at once."""
        x, model = self._handed_in(x), self.reach()
        sizes = model.cut(x) if isinstance(model, System) and self.ranked is None else []
        if len(sizes) < 2:
            return [(x, rng)]
        return [(x[rows], rng.rows(rows)) for rows in torch.arange(len(x), device=x.device).split(sizes)]

    def _scores(self, x: Tensor, rng: SampleRandom) -> Tensor:
        """(r, K) scores of a piece (r, *S)."""
        rows = self._rows(x, followed=False)
        with self._asking(rng, rows):
            scores: Tensor = self.reach()(padded(x, rows))[: len(x)]
        return scores

    def _piece(self, x: Tensor, rng: SampleRandom) -> Piece:
        """A piece (r, *S) and its scores, with a graph between them."""
        rows = self._rows(x, followed=True)
        leaf = padded(x, rows).requires_grad_(True)
        with torch.enable_grad(), self._asking(rng, rows):
            output: Tensor = self.reach()(leaf)
            if self.ranked is not None:
                output = self._shown(output[: len(x)])
        return Piece(leaf, output, len(x))

    def _suspicion(self, x: Tensor, rng: SampleRandom) -> tuple[Tensor, Tensor]:
        """(R,) by how much detectors are exceeded, and its gradient (R, *S)."""
        leaf = padded(self._handed_in(x)).requires_grad_(True)
        with torch.enable_grad(), self._asking(rng):
            amount = torch.zeros(len(leaf), device=x.device)
            for detector in self.detectors:
                amount = amount + detector.evasion_margin(self.reach(), leaf).clamp_min(0.0)
            if not amount.requires_grad:
                return amount[: len(x)], torch.zeros_like(x)
            push = gradient_of(amount.sum(), leaf)
        return amount.detach()[: len(x)], push[: len(x)]

    def _note(self, grad: Tensor, times: int) -> None:
        """Look at a gradient (R, *S), and charge for `times` backward passes."""
        self.ledger.look_at(self.owners, grad)
        self.ledger.charge_backward(self.owners, times * self.cost)

    def _turn(self) -> SampleRandom:
        """The randomness of the next pass of each row: its turn is the number of passes the example has had."""
        if not self.randomized:
            return self._rows_random
        spent = self.ledger.forwards if self.owners is None else self.ledger.forwards[self.owners]
        if self.owners is not None:  # several inputs of one example in one pass take consecutive turns
            spent = spent + occurrence(self.owners)
        return self._rows_random.at_turn(spent)

    @cached_property
    def _rows_random(self) -> SampleRandom:
        return self.rng if self.owners is None else self.rng.rows(self.owners)

    def _check(self, x: Tensor) -> None:
        if len(x) != len(self):
            raise AttackFault(
                f"the attack asked about {len(x)} inputs through a target of {len(self)} rows; use "
                "target.rows(index) to say which example each input belongs to"
            )

    @contextlib.contextmanager
    def _asking(self, rng: SampleRandom, rows: int | None = None) -> Iterator[None]:
        """Around a pass of the system, with the randomness of its padded rows."""
        model = self.reach()
        opened = model.opened() if isinstance(model, System) else contextlib.nullcontext()
        with opened, sampling.using(padded_random(rng, rows)):
            yield

    def _rows(self, x: Tensor, *, followed: bool) -> int | None:
        """Rows that a pass for `x` (R, *S), followed by a gradient or not, is padded to; None for the usual number."""
        model = self.reach()
        if isinstance(model, System):
            return model.rows_of_a_pass(x, followed=followed)
        return None if self.padding else len(x)

    def _handed_in(self, x: Tensor) -> Tensor:
        """Input that the system would get if the attacker ended with `x`, (R, *S), detached."""
        if self.ball is None:
            return x.detach()
        return (self.ball if self.owners is None else self.ball.rows(self.owners)).quantise(x.detach())

    def _shown(self, logits: Tensor) -> Tensor:
        """Scores (R, K) as the attacker sees them: ranked under the goal top5."""
        if self.ranked is None:
            return logits
        y = (self.ranked if self.owners is None else self.ranked[self.owners])[:, None]
        others = logits.scatter(1, y, -torch.inf).topk(logits.shape[1] - 1, dim=1).values
        return torch.cat([logits.gather(1, y), others[:, LEFT_OUT:]], 1)


def _mean(draws: list[Tensor]) -> Tensor:
    """The mean over draws; of one draw itself, bit for bit."""
    return torch.stack(draws).mean(0) if len(draws) > 1 else draws[0]
