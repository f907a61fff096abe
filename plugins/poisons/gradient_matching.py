"""Witches' Brew: rows whose training gradient is aligned with that of the attacker's goal. Geiping et al., ICLR 2021,
arXiv:2009.02276, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.api import (
    ConfigError,
    DataSpec,
    Examples,
    InstancePoison,
    Model,
    Poison,
    SampleRandom,
    derive_seed,
    hookimpl,
    inner,
    parse_eps,
    train_network,
)

from ._triggers.rows import check_label, check_rate, drawn

OWNER = "poison.gradient_matching"


@dataclass(frozen=True)
class GradientMatching(InstancePoison):
    """Perturb rows of the target class within eps, so that training on them assigns the victims to that class.

    Minimises 1 - cos(g, G) by signed Adam, where g is the gradient of the rows' loss by the weights of the attacker's
    network, G that of the victims' loss under the target label, and the network is trained on the clean rows. The
    restart with the smallest loss is kept. Differences from the paper: no data augmentation inside, and one restart by
    default instead of eight.

    rate: share of all training rows. target, victims: see benchmark.api.InstancePoison. eps: linf radius, in units of
    the [0, 1] input range. steps, step_size: of signed Adam; the step, relative to eps, is divided by ten after 3/8,
    5/8 and 7/8 of the steps.
    restarts: number of random starts. model, epochs: the attacker's network and its training.
    """

    rate: float = 0.01
    eps: str = "16/255"
    steps: int = 250
    step_size: float = 0.1
    restarts: int = 1
    model: Model = inner("mlp")
    epochs: int = 20

    def __post_init__(self) -> None:
        check_rate(OWNER, self.rate)
        parse_eps(self.eps)
        if self.steps < 1 or self.restarts < 1 or not self.step_size > 0.0:
            raise ConfigError(
                f"{OWNER} has steps {self.steps}, restarts {self.restarts} and step_size {self.step_size}; expected "
                "at least 1 step, at least 1 restart and a positive step size"
            )

    def corrupt_for(
        self, train: Examples, victims: Examples, spec: DataSpec, rng: SampleRandom
    ) -> tuple[Examples, Tensor]:
        """Train the attacker's network on the clean rows, then perturb random rows of the target class."""
        check_label(OWNER, spec, target=self.target)
        positions = drawn(rng, train.y == self.target, self.rate, OWNER, "of the target class")
        if not len(positions):
            return train, train.ids[positions]
        seed = derive_seed(rng.seed, "network")
        network = train_network(self.model, train, spec, epochs=self.epochs, seed=seed).requires_grad_(True)
        base, y, rows = train.x(positions), train.y[positions], rng.rows(positions)
        goal = weight_gradient(network, victims.x(), torch.full_like(victims.y, self.target))
        best: tuple[float, Tensor] | None = None
        for restart in range(self.restarts):
            eps = float(parse_eps(self.eps))
            start = rows.uniform(*base.shape[1:], stream="start", draw=restart, low=-eps, high=eps)
            made = matched(network, base, y, goal, start, eps=eps, steps=self.steps, step_size=self.step_size)
            best = made if best is None or made[0] < best[0] else best
        assert best is not None
        return train.changed(positions, x=best[1]), train.ids[positions]


def weight_gradient(network: nn.Module, x: Tensor, y: Tensor, *, graph: bool = False) -> list[Tensor]:
    """Gradient of the mean cross-entropy of `x` (B, *S), `y` (B,) by each weight; differentiable if `graph`."""
    with torch.enable_grad():
        loss = F.cross_entropy(network(x), y)
        return list(torch.autograd.grad(loss, list(network.parameters()), create_graph=graph))


def mismatch(one: Sequence[Tensor], goal: Sequence[Tensor]) -> Tensor:
    """1 - cos of two gradients over all weights; a scalar in [0, 2], and 1 if either is zero."""
    product = torch.stack([(a * b).sum() for a, b in zip(one, goal, strict=True)]).sum()
    sizes = [torch.stack([v.square().sum() for v in side]).sum() for side in (one, goal)]
    return 1.0 - product / (sizes[0] * sizes[1]).clamp_min(1e-30).sqrt()


def matched(
    network: nn.Module, base: Tensor, y: Tensor, goal: Sequence[Tensor], start: Tensor,
    *, eps: float, steps: int, step_size: float,
) -> tuple[float, Tensor]:  # fmt: skip
    """Smallest mismatch found, and its inputs (M, *S), within eps of `base` and inside the box.

    One forward and two backward passes through the network per step.
    """
    delta = _inside(base, start, eps).requires_grad_(True)
    optimizer = torch.optim.Adam([delta], lr=step_size)
    best, kept = float("inf"), delta.detach().clone()
    for step in range(steps + 1):
        with torch.enable_grad():
            loss = mismatch(weight_gradient(network, base + delta, y, graph=True), goal)
            (gradient,) = torch.autograd.grad(loss, delta)
        value = float(loss.detach())
        if value < best:
            best, kept = value, delta.detach().clone()
        if step == steps:
            break
        for group in optimizer.param_groups:
            group["lr"] = step_size * eps * 0.1 ** sum(step >= steps * part / 8 for part in (3, 5, 7))
        delta.grad = gradient.sign()
        optimizer.step()
        with torch.no_grad():
            delta.copy_(_inside(base, delta, eps))
    return best, (base + kept).clamp(0.0, 1.0)


def _inside(base: Tensor, delta: Tensor, eps: float) -> Tensor:
    """`delta` (M, *S), clipped to [-eps, eps] and such that `base` + `delta` is in [0, 1]."""
    return (base + delta.detach().clamp(-eps, eps)).clamp(0.0, 1.0) - base


@hookimpl
def benchmark_component() -> type[Poison]:
    """Register the plugin."""
    return GradientMatching
