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
        randomized: whether the model draws from `benchmark.sampling.ambient`.
        detectors: detectors that may reject an input, as far as the attacker knows of them.
        ball: what is allowed around the examples. Where it has levels, the system answers to what would be handed in,
            each input after :meth:`benchmark.threat.ball.Ball.quantise`, with a gradient as if nothing was rounded.
        owned: inputs of known labels that the attacker has; None if there are none.
        passes: passes that one pass of the model counts as.
        votes: number of draws whose majority is the system's answer.
        smoother: gives systems with smoother or weaker settings of the same defenses, if the attacker knows them.
        prepared: what the attack has made beforehand; None where nothing was.
        trigger: puts the trigger of the system's poison on inputs, for an attack that declares it; None for others.
        ranked: (B,) int64 true labels, under the goal top5; None under any other. Then the scores are ranked: column 0
            is that of the label, and the others are those of the other labels from the fifth best on, so that K is four
            less, the label to leave is 0, and the first wrong score is the one that it must fall below.
        told: is called now and then with the passes that each example has used, (B,) int64.
        task: of the data. goal: of the threat, which says what errors count where an example has several sites.
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
        """The target of the examples at `index` (int64, may repeat; or bool); passes are charged to the examples."""
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
        """The target of the same rows with other settings of an answer.

        Args:
            draws: number of draws of a randomised system that an answer averages, in place of `threat.eot`.
            penalty: (B,) weight of the detectors' excess in the loss of :meth:`gradient`, in place of 1.
            passes: forward passes per example, from now on, after which :meth:`remaining` is 0 for this target.
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
        """Targets of the same rows behind smoother or weaker settings of the system's defenses; the undefended last.

        None for an attacker who does not know the defenses, or has no gradients. Passes are charged to the same
        examples. What is found on them counts only if it transfers to the system itself.
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
        """Note which part of an attack made the candidates of these rows; of several notes the last counts.

        The record says how many examples each part broke, by the verdict of the core.
        """
        owners = range(len(self)) if self._passes.owners is None else self._passes.owners.tolist()
        for owner in owners:
            self.ledger.found_by[owner] = part

    @property
    def detected(self) -> bool:
        """True if detectors that the attacker knows of may refuse an input."""
        return bool(self._passes.detectors)

    @property
    def randomized(self) -> bool:
        """True if answers are random."""
        return self._passes.randomized

    @property
    def draws(self) -> int:
        """Number of draws that an answer averages; 1 where nothing is random."""
        return self._passes.draws

    @property
    def votes(self) -> int:
        """Passes of :meth:`answers`, where one pass counts as one: the draws whose majority is the answer."""
        return self._passes.votes

    @property
    def certain(self) -> bool:
        """True if the scores of one pass determine the system's answer: nothing random in it, and no detector."""
        return not self.randomized and not self.detected

    def remaining(self) -> Tensor | None:
        """Queries left to each row, (B,) int64, or None where there is no limit.

        One call of `logits`, `labels`, `pullback` or `gradient` spends one query of the threat's budget, and on a
        randomised system one per draw, on an ensemble one per member. Rows of the same example share its budget.
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
        """The tensors that a :class:`benchmark.api.PreparedAttack` has prepared, the same for every row.

        Raises:
            AttackFault: where nothing was prepared.
        """
        if self._prepared is None:
            raise AttackFault(
                "the attack needs what it prepares once per cell, and nothing was prepared here; it can be the attack "
                "of a run, and no part of training or of another attack"
            )
        return self._prepared

    def triggered(self, x: Tensor) -> Tensor:
        """(B, *S): `x` (B, *S) with the trigger of the system's poison; as it is where the poison needs none.

        Raises:
            AttackFault: where there is no such poison, or the attack does not declare `trigger`.
        """
        if self._trigger is None:
            raise AttackFault(
                "the attack asked for the trigger of the system's poison, and none is given here; declare trigger=True "
                "in `supports`, and choose a system with such a poison"
            )
        return self._trigger(x)

    def reference(self, labels: Tensor, rank: int) -> tuple[Tensor, Tensor]:
        """Inputs of given labels that the attacker owns: examples of the training split, at most OWNED per label.

        What the system says of them is not known, and costs a query to learn.

        Args:
            labels: (B,) int64. rank: which of them, from 0.

        Returns:
            x (b, *S) in [0, 1], and (B,) bool with b true values: the rows for which there is such an input.
        """
        if self._owned is None or rank >= OWNED:
            return torch.empty(0, device=labels.device), torch.zeros_like(labels, dtype=torch.bool)
        return self._owned.at(labels, rank)

    def logits(self, x: Tensor) -> Tensor:
        """(B, K) scores for `x` (B, *S), detached; one forward pass per row (per draw, if randomised).

        Raises:
            AccessError: under label access. BudgetError: if a row's budget is spent.
        """
        self._allow(Access.scores, "scores")
        return self._passes.logits(x)

    def labels(self, x: Tensor) -> Tensor:
        """(B,) int64 predicted labels for `x` (B, *S); one forward pass per row.

        -1 where a detector refuses, -2 where a score is not finite. Of examples with several sites (B, S) or (B, S, n),
        see :meth:`benchmark.tasks.task.DenseTask.read`.
        """
        return self._passes.answer(x)[1]

    def answers(self, x: Tensor) -> Tensor:
        """Labels as the core judges `x` (B, *S), on fresh draws, of shape (B,) int64; `votes` forward passes per row.

        Of a randomised system the label of most draws, a tie by the larger mean probability. Refused, -1, where more
        than half of the draws are.
        """
        return self._passes.elected(x)

    def accepts(self, x: Tensor, asked: Tensor) -> Tensor:
        """Rows of `asked` (B,) bool whose inputs in `x` (B, *S) no detector refuses, (B,) bool; `votes` passes each.

        False where the budget does not suffice, which the rows of an example share.
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
        """The scores at `x` and a function that pulls cotangents back to the input.

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
        """The input gradient of a loss of the scores, each row by itself.

        For a randomised system the loss and its gradient are averaged over the threat's draws (EOT: Athalye et al.,
        ICML 2018). Where the system rejects inputs, the amount by which a detector is exceeded is subtracted, so that
        ascent on the result also evades the detector (Carlini & Wagner, AISec 2017, section 3).

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
                f"the attack asked for {what}, and threat.access is {self.access.value}; an attack must declare the "
                f"access it needs in `supports`, and here that is {needed.value}"
            )
