"""PGD: projected gradient ascent from random starts. Madry et al., ICLR 2018, arXiv:1706.06083, section 2.1.

The l1 form takes its projection, onto ball and box together, from Croce & Hein, ICML 2021, arXiv:2103.01208.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Attack, Ball, ConfigError, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._base.losses import AttackLoss, row_loss, succeeded
from ._base.steps import ascend, at_least, can_ask, may_settle, positive


@dataclass(frozen=True)
class PGD(Attack):
    """BIM from random starts in the ball.

    Difference from the paper: an example is left alone once it is broken (`stop_on_success`), which breaks the same
    examples at a fraction of the passes.

    steps: iterations of one start. step_size: length of a step in the threat's norm; None takes 2.5 eps / steps, and
        10 eps / steps under l1, where a step moves a single feature and a start has changed all of them.
    restarts: how many starts an example gets as long as it is not broken.
    random_start: uniform in the ball; otherwise the clean input. loss: what is ascended.
    stop_on_success: whether a broken example stays at the iterate that broke it. Otherwise all examples run all steps
        of all restarts, and end where the loss is highest. For adversarial training: false.
    """

    supports: ClassVar[Supports] = Supports(
        norms=frozenset({Norm.linf, Norm.l2, Norm.l1}), targeted=True, randomized=True
    )

    steps: int = 40
    step_size: float | None = None
    restarts: int = 1
    random_start: bool = True
    loss: AttackLoss = AttackLoss.ce
    stop_on_success: bool = True

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps, restarts=self.restarts)
        positive(step_size=self.step_size)
        if self.restarts > 1 and not self.random_start:
            raise ConfigError(
                f"attack.restarts is {self.restarts} and attack.random_start is false; every restart would be the "
                "same: set random_start to true, or restarts to 1"
            )

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """`steps` forward and backward passes per example and restart at most, and one forward between restarts."""
        return pgd(
            target,
            y,
            ball=threat.around(x, rng),
            loss=self.loss,
            targeted=threat.targeted,
            steps=self.steps,
            step_size=self.step_size or (10.0 if threat.norm is Norm.l1 else 2.5) * threat.radius / self.steps,
            restarts=self.restarts,
            random_start=self.random_start,
            settle=self.stop_on_success and may_settle(target, threat),
            rng=rng,
        )


def pgd(
    target: Target,
    y: Tensor,
    *,
    ball: Ball,
    loss: AttackLoss,
    targeted: bool,
    steps: int,
    step_size: float,
    restarts: int,
    random_start: bool,
    settle: bool,
    rng: SampleRandom,
) -> Tensor:
    """(B, *S): per example the first success over the restarts if `settle`, else the best end, see below.

    More restarts, and more steps of the same size, never lose a success: the end of a restart is asked about before
    another one takes its place. Without `settle` every end is asked about if there are several; a success counts for
    more than a failure, and then the higher loss for more than the lower.
    """

    def climb(index: Tensor, restart: int) -> tuple[Tensor, Tensor]:
        every = len(index) == len(y)  # then no row needs to be looked up, in any step
        here = ball if every else ball.rows(index)
        start = here.random(rng.rows(index), stream="pgd/start", draw=restart) if random_start else here.x
        return ascend(
            target if every else target.rows(index),
            start,
            y[index],
            ball=here,
            loss=loss,
            targeted=targeted,
            steps=steps,
            step_size=step_size,
            settle=settle,
        )

    index = torch.arange(len(y), device=y.device)
    result, done = climb(index, 0)
    if settle:
        for restart in range(1, restarts):
            index = index[~done]
            index = index[can_ask(target.rows(index))]
            ends = target.rows(index).logits(result[index]) if len(index) else result.new_zeros(0, target.classes)
            index = index[~succeeded(ends, y[index], targeted=targeted)]
            if len(index) == 0:
                break
            x_adv, done = climb(index, restart)
            result = result.index_copy(0, index, x_adv)
        return result
    won = torch.zeros_like(done)
    highest = torch.full((len(y),), -torch.inf, device=y.device)
    for restart in range(restarts if restarts > 1 else 0):
        x_adv = result if restart == 0 else climb(index, restart)[0]
        asked = index[can_ask(target)]
        if len(asked) == 0:
            break
        ends, labels = target.rows(asked).logits(x_adv[asked]), y[asked]
        wins, worth = succeeded(ends, labels, targeted=targeted), row_loss(loss, labels, targeted=targeted)(ends)
        better = (wins & ~won[asked]) | ((wins == won[asked]) & (worth > highest[asked]))
        taken = asked[better]
        result = result.index_copy(0, taken, x_adv[taken])
        won[taken], highest[taken] = wins[better], worth[better]
    return result


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return PGD
