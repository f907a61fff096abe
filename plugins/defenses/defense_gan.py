"""Defense-GAN: the closest output of a generator is classified. Samangouei et al., ICLR 2018, arXiv:1805.06605.

The generator is a Wasserstein GAN with gradient penalty: Gulrajani et al., NeurIPS 2017, arXiv:1704.00028, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

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
    SampleRandom,
    hookimpl,
    straight_through,
)

from ._purifiers.networks import perceptron
from ._purifiers.purifier import Accompanied, OnceFitted, Purifier, noise_of
from ._transforms.behind import Behind, inside

PENALTY = 10.0
"""Weight of the gradient penalty."""


@dataclass(frozen=True)
class DefenseGAN(Defense):
    """Minimise ||G(z) - x||^2 by gradient descent from several random z, and classify the closest G(z).

    steps: L of the paper. restarts: R, random starts. learning_rate, momentum: of the descent on the mean squared
    error.
    latent: size of z. width: of the hidden layers of generator and critic. critic_steps: critic steps per generator
    step.
    rounds: passes over the training examples per epoch of the run's recipe. A pass of the defended model costs
    steps * restarts passes of the generator and one of the classifier.
    The surrogate for gradients is the identity (BPDA, Athalye et al., ICML 2018, section 5.5).
    """

    randomized = True
    optimizes = True

    steps: int = 200
    restarts: int = 10
    learning_rate: float = 10.0
    momentum: float = 0.7
    latent: int = 32
    width: int = 128
    critic_steps: int = 5
    rounds: int = 10

    def __post_init__(self) -> None:
        for name in ("steps", "restarts", "latent", "width", "critic_steps", "rounds"):
            if getattr(self, name) < 1:
                raise ConfigError(f"defense_gan.{name} is {getattr(self, name)}; expected at least 1")
        if not self.learning_rate > 0.0 or not 0.0 <= self.momentum < 1.0:
            raise ConfigError(
                f"defense_gan.learning_rate is {self.learning_rate} and defense_gan.momentum is {self.momentum}; "
                "expected a positive rate and a momentum in [0, 1)"
            )

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        """Attach generator and critic to the model."""
        return Accompanied(model, Generated(torch.Size(spec.shape).numel(), self.latent, self.width))

    def finish(self, model: nn.Module, train: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """Train critic and generator alternately."""
        purifier, again = inside(model, Generated), torch.arange(len(train)).repeat(self.rounds)
        with purifier.fitting():
            fit(purifier, train.take(again), self._game)

    def _game(self, model: nn.Module, batch: Batch) -> Tensor:
        """Loss of the network whose turn it is; the weights of the other are not updated."""
        assert isinstance(model, Generated)
        turn = int(model.turn)
        model.turn += 1
        code = noise_of(batch, self.latent, stream="defense_gan/code", draw=turn)
        if turn % (self.critic_steps + 1) == self.critic_steps:
            fixed = {name: weight.detach() for name, weight in model.critic.named_parameters()}
            scores: Tensor = torch.func.functional_call(model.critic, fixed, (model.generated(code),))
            return -scores.mean()
        real, fake = batch.x.flatten(1), model.generated(code).detach()
        share = noise_of(batch, 1, stream="defense_gan/share", draw=turn).mul(2**-0.5).erf().add(1.0).div(2.0)
        between = (share * real + (1.0 - share) * fake).requires_grad_(True)
        (slope,) = torch.autograd.grad(model.critic(between).sum(), between, create_graph=True)
        lipschitz = ((slope.square().sum(1) + 1e-12).sqrt() - 1.0).square().mean()
        difference: Tensor = model.critic(fake).mean() - model.critic(real).mean()
        return difference + PENALTY * lipschitz

    def protect(self, model: nn.Module) -> nn.Module:
        """Put the search before the model."""
        purifier = inside(model, Generated)
        return Behind(model, OnceFitted(purifier, partial(_found, purifier=purifier, settings=self)))

    def passes(self, below: int) -> int:
        """Passes of the generator plus that of the classifier."""
        return below + self.steps * self.restarts


class Generated(Purifier):
    """Generator from (B, latent) to (B, D) in [0, 1], and its critic. turn: steps taken by both together."""

    turn: Tensor

    def __init__(self, size: int, latent: int, width: int) -> None:
        super().__init__()
        self.generator = perceptron(latent, width, width, size)
        self.critic = perceptron(size, width, width, 1)
        self.register_buffer("turn", torch.zeros((), dtype=torch.int64))

    def generated(self, code: Tensor) -> Tensor:
        """Output of the generator for `code` (B, latent), (B, D) in [0, 1]."""
        values: Tensor = self.generator(code)
        return values.sigmoid()


def nearest_output(
    generator: Callable[[Tensor], Tensor],
    x: Tensor,
    starts: Tensor,
    *,
    steps: int,
    learning_rate: float,
    momentum: float,
) -> Tensor:
    """Closest output to `x` (B, D) after descent from `starts` (B, R, latent), (B, D), detached."""
    count, restarts, latent = starts.shape
    wanted = x.detach().repeat_interleave(restarts, 0)
    code, velocity = starts.reshape(-1, latent).clone(), torch.zeros(count * restarts, latent).to(starts)
    for _ in range(steps):
        with torch.enable_grad():
            leaf = code.requires_grad_(True)
            error = (generator(leaf) - wanted).square().mean(1).sum()
            (slope,) = torch.autograd.grad(error, leaf)
        velocity = momentum * velocity - learning_rate * slope
        code = leaf.detach() + velocity
    with torch.no_grad():
        outputs = generator(code)
        nearest = (outputs - wanted).square().mean(1).reshape(count, restarts).argmin(1)
    return outputs.reshape(count, restarts, -1)[torch.arange(count, device=x.device), nearest]


def _found(x: Tensor, purifier: Generated, settings: DefenseGAN) -> Tensor:
    rng: SampleRandom = sampling.ambient()
    starts = rng.normal(settings.restarts, settings.latent, stream="defense_gan").to(x.dtype)
    found = nearest_output(
        purifier.generated,
        x.flatten(1),
        starts,
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        momentum=settings.momentum,
    )
    return straight_through(found.reshape(x.shape), x)


@hookimpl
def benchmark_component() -> type[DefenseGAN]:
    """Register the plugin."""
    return DefenseGAN
