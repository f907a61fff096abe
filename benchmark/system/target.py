"""The system as the threat lets an attacker see it: access enforced, every pass counted, budgets kept, per example.

An attack calls :meth:`Target.gradient`, :meth:`Target.pullback`, :meth:`Target.logits` or :meth:`Target.labels` with
rows that belong to the target's rows; :meth:`Target.rows` gives the target of a subset, so that an attack may drop
examples it has finished with, or repeat an example to ask about several proposals in one pass. The passes are charged
to the example, whoever asks and in whatever batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from benchmark.errors import AccessError, AttackFault
from benchmark.sampling import SampleRandom
from benchmark.system.ledger import Ledger, occurrence
from benchmark.system.passes import LEFT_OUT, Passes, Pull, RowLoss
from benchmark.system.references import OWNED, References
from benchmark.system.system import REJECTED, Detector, System
from benchmark.tasks.task import ONE_LABEL, DenseTask, Task
from benchmark.threat import Access, Goal
from benchmark.threat.ball import Ball

__all__ = ["Ledger", "RowLoss", "Target"]


class Target:
    """A batch's view of a system, for an attacker.

    Args:
        model: from (B, *S) to logits (B, K), frozen and in evaluation mode.
        rng: randomness for randomised systems, one row per example.
        classes: K. access, eot, queries: from the threat.
        randomized: True if the model draws from `benchmark.sampling.ambient`.
        detectors: detectors known to the attacker, which may reject an input.
        ball: allowed inputs around the examples. If it has levels, the system sees each input after
            :meth:`benchmark.threat.ball.Ball.quantise`, with a straight-through gradient.
        owned: the attacker's own inputs of known labels; None if there are none.
        passes: passes that one pass of the model counts as.
        votes: number of draws whose majority is the system's answer.
        smoother: returns systems with smoother or weaker settings of the same defenses, if the attacker knows them.
        prepared: tensors that the attack has prepared, or None.
        trigger: applies the trigger of the system's poison, for an attack that declares `trigger`; None for others.
        ranked: (B,) int64 true labels, under the goal top5; None under any other. The scores are then ranked: column 0
            is the true label's, the others are those of the other labels from the fifth best on. So K is four less,
            the true label is 0, and its score must fall below the best other one.
        told: called from time to time with the passes used by each example, (B,) int64.
        task: of the data. goal: of the threat, which defines the errors that count where an example has several sites.
        padding: False if passes need not have the same bits in every batch, as in training; a system decides itself.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        rng: SampleRandom,
        classes: int,
        access: Access = Access.gradients,
        queries: int | None = None,
        eot: int = 1,
        randomized: bool = False,
        detectors: tuple[Detector, ...] = (),
        ball: Ball | None = None,
        owned: References | None = None,
        passes: int = 1,
        votes: int = 1,
        smoother: Callable[[], Sequence[System]] | None = None,
        prepared: dict[str, Tensor] | None = None,
        trigger: Callable[[Tensor], Tensor] | None = None,
        ranked: Tensor | None = None,
        told: Callable[[Tensor], None] | None = None,
        task: Task = ONE_LABEL,
        goal: Goal = Goal.untargeted,
        padding: bool = True,
    ) -> None:
        def reach() -> nn.Module:  # a closure, so that no attribute of the target leads to the weights
            return model

        self.ledger = Ledger(len(rng), rng.ids.device, queries, told)
        self.access = access
        self.task = task.under(goal.value) if isinstance(task, DenseTask) else task
        self.classes = classes if ranked is None else classes - LEFT_OUT
        self._passes = Passes(
            reach,
            rng,
            self.ledger,
            draws=eot if randomized else 1,
            votes=votes if randomized else 1,
            cost=passes,
            randomized=randomized,
            detectors=detectors,
            ball=ball if ball is not None and ball.rounds else None,
            ranked=ranked,
            task=self.task,
            padding=padding,
        )
        self._eot = eot
        self._smoother = smoother
        self._owned = owned
        self._prepared = prepared
        self._trigger = trigger
        self._penalty: Tensor | None = None
        self._cap: Tensor | None = None

    def __len__(self) -> int:
        return len(self._passes)

    def rows(self, index: Tensor) -> Target:
        """Target of the examples at `index` (int64, may repeat; or bool); passes are charged to the examples."""
        if index.dtype == torch.bool:
            index = index.nonzero().squeeze(1)
        if torch.equal(index, torch.arange(len(self), device=index.device)):
            return self
        owners = index if self._passes.owners is None else self._passes.owners[index]
        view = self._view(replace(self._passes, owners=owners))
        view._penalty = None if self._penalty is None else self._penalty[index]
        return view

    def _view(self, passes: Passes) -> Target:
        view = object.__new__(Target)
        view.__dict__.update(self.__dict__)
        view._passes = passes
        return view

    def tuned(self, *, draws: int | None = None, penalty: Tensor | None = None, passes: int | None = None) -> Target:
        """Target of the same rows with other settings.

        Args:
            draws: number of draws to average for a randomised system, in place of `threat.eot`.
            penalty: (B,) weight of the detectors' excess in the loss of :meth:`gradient`, in place of 1.
            passes: further forward passes per example after which :meth:`remaining` is 0 for this target.
        """
        view = self._view(self._passes)
        if draws is not None and self.randomized:
            view._passes = replace(self._passes, draws=draws)
        if penalty is not None:
            view._penalty = penalty
        if passes is not None:
            cap = self.ledger.forwards + passes
            view._cap = cap if self._cap is None else torch.minimum(cap, self._cap)
        return view

    @property
    def smoother(self) -> tuple[Target, ...]:
        """Targets behind smoother or weaker settings of the defenses, the undefended system last; same rows.

        Empty for an attacker who does not know the defenses, or has no gradients. Passes are charged to the same
        examples.
        Candidates found on these targets count only if they transfer to the system itself.
        """
        if self._smoother is None or not self.access.grants(Access.gradients):
            return ()
        return tuple(self._of(system) for system in self._smoother())

    def _of(self, system: System) -> Target:
        def reach() -> nn.Module:
            return system

        draws = 1
        if system.randomized:
            draws = self.draws if self.randomized else self._eot
        view = self._view(
            replace(
                self._passes,
                reach=reach,
                draws=draws,
                votes=system.votes if system.randomized else 1,
                cost=system.passes,
                randomized=system.randomized,
                detectors=system.detectors,
            )
        )
        view._smoother = None
        return view

    def credit(self, part: str) -> None:
        """Record the part of an attack that found the candidates of these rows; the last call counts.

        The record has the number of examples that each part broke, by the core's verdict.
        """
        owners = range(len(self)) if self._passes.owners is None else self._passes.owners.tolist()
        for owner in owners:
            self.ledger.found_by[owner] = part

    @property
    def detected(self) -> bool:
        """True if detectors known to the attacker may refuse an input."""
        return bool(self._passes.detectors)

    @property
    def randomized(self) -> bool:
        """True if answers are random."""
        return self._passes.randomized

    @property
    def draws(self) -> int:
        """Number of draws averaged in an answer; 1 for a deterministic system."""
        return self._passes.draws

    @property
    def votes(self) -> int:
        """Passes of :meth:`answers`, if one pass counts as one: the draws of the majority vote."""
        return self._passes.votes

    @property
    def certain(self) -> bool:
        """True if the scores of one pass determine the system's answer: it is not random and has no detector."""
        return not self.randomized and not self.detected

    def remaining(self) -> Tensor | None:
        """Queries left to each row, (B,) int64, or None without a limit.

        One call of `logits`, `labels`, `pullback` or `gradient` spends one query of the threat's budget; on a
        randomised system, one per draw, on an ensemble, one per member. Rows of the same example share its budget.
        """
        if self.ledger.queries is None and self._cap is None:
            return None
        limit = torch.full_like(self.ledger.forwards, torch.iinfo(torch.int64).max)
        if self.ledger.queries is not None:
            limit.fill_(self.ledger.queries)
        left = (limit if self._cap is None else torch.minimum(limit, self._cap)) - self.ledger.forwards
        left = left if self._passes.owners is None else left[self._passes.owners]
        return left.clamp_min(0) // (self.draws * self._passes.cost)

    @property
    def prepared(self) -> dict[str, Tensor]:
        """Tensors that a :class:`benchmark.api.PreparedAttack` has prepared, the same for every row.

        Raises:
            AttackFault: if nothing was prepared.
        """
        if self._prepared is None:
            raise AttackFault(
                "the attack needs tensors that it prepares once per cell, but none were prepared here; use it as the "
                "attack of a run, not inside training or another attack"
            )
        return self._prepared

    def triggered(self, x: Tensor) -> Tensor:
        """`x` (B, *S) with the trigger of the system's poison, (B, *S); unchanged if the poison needs none.

        Raises:
            AttackFault: if there is no such poison, or the attack does not declare `trigger`.
        """
        if self._trigger is None:
            raise AttackFault(
                "the attack asked for the trigger of the system's poison, but none is available; declare trigger=True "
                "in `supports`, and choose a system with such a poison"
            )
        return self._trigger(x)

    def reference(self, labels: Tensor, rank: int) -> tuple[Tensor, Tensor]:
        """The attacker's own inputs of given labels: examples of the training split, at most OWNED per label.

        The system's prediction for them is unknown, and costs a query.

        Args:
            labels: (B,) int64. rank: index among the inputs of the label, from 0.

        Returns:
            x (b, *S) in [0, 1], and (B,) bool with b true values: the rows that have such an input.
        """
        if self._owned is None or rank >= OWNED:
            return torch.empty(0, device=labels.device), torch.zeros_like(labels, dtype=torch.bool)
        return self._owned.at(labels, rank)

    def logits(self, x: Tensor) -> Tensor:
        """Scores, (B, K), for `x` (B, *S), detached; one forward pass per row (per draw, if randomised).

        Raises:
            AccessError: under label access. BudgetError: if a row's budget is spent.
        """
        self._allow(Access.scores, "scores")
        return self._passes.logits(x)

    def labels(self, x: Tensor) -> Tensor:
        """Predicted labels, (B,) int64, for `x` (B, *S); one forward pass per row.

        -1 where a detector refuses, -2 where a score is not finite. With several sites (B, S) or (B, S, n), see
        :meth:`benchmark.tasks.task.DenseTask.read`.
        """
        return self._passes.answer(x)[1]

    def answers(self, x: Tensor) -> Tensor:
        """Labels as the core judges `x` (B, *S), on fresh draws, (B,) int64; `votes` forward passes per row.

        For a randomised system the majority label of the draws; a tie goes to the larger mean probability. -1, refused,
        if more than half of the draws are.
        """
        return self._passes.elected(x)

    def accepts(self, x: Tensor, asked: Tensor) -> Tensor:
        """Rows of `asked` (B,) bool whose input in `x` (B, *S) is not refused, (B,) bool; `votes` passes each.

        False where the budget, which the rows of an example share, does not suffice.
        """
        once, at = self.tuned(draws=1), asked.nonzero().squeeze(1)
        left, owners = once.remaining(), self._passes.owners
        if left is not None:
            at = at[left[at] >= (occurrence(at if owners is None else owners[at]) + 1) * self.votes]
        accepted = torch.zeros_like(asked)
        if len(at):
            accepted[at] = (self.rows(at).answers(x[at]) != REJECTED).reshape(len(at), -1).all(1)
        return accepted

    def pullback(self, x: Tensor) -> tuple[Tensor, Pull]:
        """Scores at `x`, and a function that pulls cotangents back to the input.

        Args:
            x: (B, *S).

        Returns:
            logits (B, K), detached, after one forward pass per row; and pull(cotangent (B, K)) -> (B, *S), the sum
            over classes of cotangent times the input gradient, one backward pass per row; or n of them at once,
            pull(cotangent (B, n, K)) -> (B, n, *S), n backward passes per row.

        Raises:
            AccessError: unless the threat gives gradients. BudgetError: if a row's budget is spent.
        """
        self._allow(Access.gradients, "a gradient")
        return self._passes.pullback(x)

    def gradient(self, x: Tensor, loss: RowLoss) -> tuple[Tensor, Tensor, Tensor]:
        """Input gradient of a loss of the scores, separately for each row.

        For a randomised system the loss and its gradient are averaged over the threat's draws (EOT: Athalye et al.,
        ICML 2018). If the system has detectors, their excess over the threshold is subtracted, so that ascent also
        evades them (Carlini & Wagner, AISec 2017, section 3).

        Args:
            x: (B, *S). loss: from logits (B, K) to (B,).

        Returns:
            gradient (B, *S), loss (B,) and logits (B, K), all detached; one forward and one backward pass per row
            (per draw, if randomised).

        Raises:
            AccessError: unless the threat gives gradients. BudgetError: if a row's budget is spent.
        """
        self._allow(Access.gradients, "a gradient")
        return self._passes.gradient(x, loss, self._penalty)

    def _allow(self, needed: Access, what: str) -> None:
        if not self.access.grants(needed):
            raise AccessError(
                f"the attack asked for {what}, but threat.access is {self.access.value}; an attack must declare the "
                f"access that it needs in `supports`, here {needed.value}"
            )
