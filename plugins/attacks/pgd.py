"""PGD: projected gradient ascent from random starts. Madry et al., ICLR 2018, arXiv:1706.06083, section 2.1.

The l1 form uses the projection onto the intersection of ball and box of Croce & Hein, ICML 2021, arXiv:2103.01208.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import EVERY_TASK, Attack, ConfigError, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._base.active import Active, AttackLoss, Loss, may_settle
from ._base.best import Best
from ._base.settings import check_at_least, check_positive
from ._base.steps import steepest_step


@dataclass(frozen=True)
class PGD(Attack):
    """BIM from random starts in the ball.

    Difference from the paper: an example stops at its first success (`stop_on_success`), which breaks the same
    examples at a fraction of the passes.

    steps: iterations per start. step_size: length of a step in the threat's norm; None for 2.5 eps / steps, and
        10 eps / steps under l1, where a step moves a single feature but a start has changed all of them.
    restarts: most starts per example, which ends when it is broken.
    random_start: uniform in the ball; otherwise the clean input. loss: to maximise.
    stop_on_success: keep a broken example at the iterate that broke it. Otherwise all examples run all steps
        of all restarts, and return the point of highest loss. False for adversarial training.
    """

    tasks: ClassVar[frozenset[str]] = EVERY_TASK
    supports: ClassVar[Supports] = Supports(
        norms=frozenset({Norm.linf, Norm.l2, Norm.l1}), targeted=True, top5=True, randomized=True
    )

    steps: int = 40
    step_size: float | None = None
    restarts: int = 1
    random_start: bool = True
    loss: AttackLoss = AttackLoss.ce
    stop_on_success: bool = True

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps, restarts=self.restarts)
        check_positive(step_size=self.step_size)
        if self.restarts > 1 and not self.random_start:
            raise ConfigError(
                f"attack.restarts is {self.restarts} and attack.random_start is false; all restarts would be "
                "identical: set random_start to true, or restarts to 1"
            )

    def forwards(self, threat: Threat) -> int:
        """One per step, and one to evaluate the end of each of several restarts."""
        return self.restarts * (self.steps + 1) if self.restarts > 1 else self.steps

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """At most `steps` forward and backward passes per example and restart, and one forward between restarts."""
        return pgd(
            Active.of(target, threat.around(x, rng), y, targeted=threat.targeted),
            loss=self.loss,
            steps=self.steps,
            step_size=self.step_size or (10.0 if threat.norm is Norm.l1 else 2.5) * threat.radius / self.steps,
            restarts=self.restarts,
            random_start=self.random_start,
            settle=self.stop_on_success and may_settle(target, threat),
            rng=rng,
        )


def ascend(
    active: Active, start: Tensor, *, loss: Loss, steps: int, step_size: float, settle: bool
) -> tuple[Tensor, Tensor]:
    """Repeat x <- project(x + step_size * steepest(gradient of the loss at x)).

    Args:
        active: the examples, (b,). start: (b, *S), in the ball.
        loss: to maximise, an :class:`AttackLoss` or any :data:`Loss`.
        step_size: length of a step in the ball's norm. settle: stop an example at its first successful iterate.

    Returns:
        x_adv (b, *S): the successful iterate, else the last one within the query budget; and (b,) bool: stopped at a
        success. The last iterate itself is not evaluated.

    Cost: at most `steps` forward and `steps` backward passes per example.
    """
    result, settled = start.clone(), torch.zeros(len(active), dtype=torch.bool, device=start.device)
    at, x_adv = torch.arange(len(active), device=start.device), start
    for _ in range(steps):
        active, at, x_adv = active.keep(active.affordable(), at, x_adv)
        if len(active) == 0:
            break
        gradient, _, logits = active.gradient(x_adv, loss)
        if settle:
            won = active.succeeded(x_adv, logits)
            settled[at[won]] = True
            active, at, x_adv, gradient = active.keep(~won, at, x_adv, gradient)
        x_adv = active.ball.project(steepest_step(active.ball, x_adv, gradient, step_size))
        result[at] = x_adv
    return result, settled


def pgd(
    active: Active,
    *,
    loss: Loss,
    steps: int,
    step_size: float,
    restarts: int,
    random_start: bool,
    settle: bool,
    rng: SampleRandom,
) -> Tensor:
    """Ascend from one start after the other, (B, *S).

    With `settle` an example keeps its first success; the end of each restart but the last is evaluated, so that more
    restarts, and more steps of the same size, never lose a success. Without it every end is evaluated if there are
    several, and the best is kept: a success before a failure, then the higher loss.
    """

    def climb(active: Active, restart: int) -> tuple[Tensor, Tensor]:
        start = active.ball.x
        if random_start:
            start = active.ball.random(rng.rows(active.index), stream="pgd/start", draw=restart)
        return ascend(active, start, loss=loss, steps=steps, step_size=step_size, settle=settle)

    result, won = climb(active, 0)
    if settle:
        for restart in range(1, restarts):
            (active,) = active.keep(~won)
            (active,) = active.keep(active.affordable())
            if len(active):
                x_adv = result[active.index]
                (active,) = active.keep(~active.succeeded(x_adv, active.target.logits(x_adv)))
            if len(active) == 0:
                break
            x_adv, won = climb(active, restart)
            result = result.index_copy(0, active.index, x_adv)
        return result
    best = Best(result)
    for restart in range(restarts if restarts > 1 else 0):
        x_adv = climb(active, restart)[0] if restart else result
        asked, x_adv = active.keep(active.affordable(), x_adv)
        if len(asked) == 0:
            break
        logits = asked.target.logits(x_adv)
        best.offer(asked.index, x_adv, asked.succeeded(x_adv, logits), loss(logits, asked))
    return best.x_adv


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return PGD
