"""Randomised smoothing. Cohen, Rosenfeld & Kolter, ICML 2019, arXiv:1902.02918; uniform noise: Yang et al., ICML 2020.

The majority vote under noise is correct within sigma Phi^-1(p) in l2 for Gaussian noise (theorem 1), and within lambda
(2 p - 1) in l1 for noise uniform in [-lambda, lambda] (Yang et al., arXiv:2002.08118, section 4), where p is a lower
bound of the probability of the correct class: the exact limit of Clopper & Pearson (Biometrika 26, 1934) on draws other
than those that chose the class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from benchmark.api import (
    Certifier,
    ConfigError,
    Norm,
    Refused,
    SampleRandom,
    Supports,
    Threat,
    hookimpl,
    using,
)

if TYPE_CHECKING:
    from benchmark.api import System

ROWS = 4096
"""Number of draws per pass."""
CHECKED = 4096
"""Number of noise values for the test of their distribution."""
IMPLAUSIBLE = 1e-6
"""Significance level at which the declared distribution of the noise is rejected."""
FEWEST, MOST = 32, 256
"""Draws of the noise of one example, at least and at most, for the test of their independence."""
UNLIKELY = 8.0
"""Standard deviations beyond which draws and features are not independent."""


@dataclass(frozen=True)
class RandomizedSmoothing(Certifier):
    """The deployed smoothed system: one defense that adds noise of standard deviation or half width `sigma`.

    selection, draws: number of draws to choose the class, and of independent ones to count it. alpha: probability that
    a radius is too large. An example whose class is not chosen or not proved the majority has radius 0.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.l2, Norm.l1}), randomized=True)
    selection: int = 100
    draws: int = 10000
    alpha: float = 0.001

    def __post_init__(self) -> None:
        if min(self.selection, self.draws) < 1 or not 0.0 < self.alpha < 0.5:
            raise ConfigError(
                f"certifier.smoothing.selection is {self.selection}, draws {self.draws} and alpha {self.alpha}; "
                "expected at least 1 draw, and a probability between 0 and 0.5"
            )

    def certify(self, system: System, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Certified radius, (B,) float32; selection + draws passes per example.

        Raises:
            Refused: if the system has no such defense, another one at inference or a detector, or if its noise is not
            added
                to the input, depends on it, or does not have the distribution for the norm.
        """
        sigma = smoothed_by(system, x, threat.norm)
        chosen = counts(system, x, rng.child("select"), self.selection).argmax(1)
        said = counts(system, x, rng.child("count"), self.draws)
        right = said.gather(1, y[:, None]).squeeze(1).cpu()
        share = lower_limit(right, self.draws, self.alpha)
        radius = l2_radius(share, sigma) if threat.norm is Norm.l2 else l1_radius(share, sigma)
        return torch.where(chosen.cpu() == y.cpu(), radius, torch.zeros_like(radius)).float().to(x.device)


def lower_limit(right: Tensor, draws: int, alpha: float) -> Tensor:
    """One-sided lower Clopper-Pearson limit of a probability, for `right` (B,) of `draws` successes, (B,) float64."""
    from scipy.stats import beta

    found: Tensor = torch.as_tensor(beta.ppf(alpha, right.double().numpy(), draws - right.double().numpy() + 1))
    return found.nan_to_num(nan=0.0)  # without a success there is no such beta


def l2_radius(share: Tensor, sigma: float) -> Tensor:
    """l2 radius sigma Phi^-1(p), 0 up to p = 1/2, (B,)."""
    radius: Tensor = sigma * torch.special.ndtri(share.clamp_min(0.5))
    return radius


def l1_radius(share: Tensor, width: float) -> Tensor:
    """l1 radius lambda (2 p - 1), 0 up to p = 1/2, (B,)."""
    return width * (2.0 * share - 1.0).clamp_min(0.0)


def counts(system: System, x: Tensor, rng: SampleRandom, draws: int) -> Tensor:
    """Number of draws in which each class has the largest score, (B, K) int64; only draws with finite scores."""
    total = torch.zeros(len(x), system.spec.classes, dtype=torch.int64, device=x.device)
    whole = torch.arange(len(x) * draws, device=x.device)
    for part in whole.split(ROWS):
        row, turn = part // draws, part % draws
        logits = system.logits(x[row], rng.rows(row).at_turn(turn))
        finite = torch.isfinite(logits).all(1)
        total.index_put_((row[finite], logits[finite].argmax(1)), torch.ones_like(row[finite]), accumulate=True)
    return total


def smoothed_by(system: System, x: Tensor, norm: Norm) -> float:
    """Scale of the noise that the deployed system adds to its input, checked independently of its settings.

    Raises:
        Refused: if it is not such a system.
    """
    acting = [
        d for d in system.defenses if d.randomized or d.protect(torch.nn.Identity()).__class__ is not torch.nn.Identity
    ]
    sigma = getattr(acting[0], "sigma", None) if len(acting) == 1 else None
    if sigma is None or system.detectors or not sigma > 0:
        names = ", ".join(type(d).__name__ for d in acting) or "none"
        raise Refused(
            "certifier.smoothing needs a system whose only defense at inference adds noise of scale sigma "
            f"(defense=[smoothing]); the defenses of this one at inference: {names}"
        )
    noise = _noise(acting[0], x)
    law, name = _law(norm, float(sigma))
    gap, count = _distance_to(noise.flatten(), law), noise.numel()
    if 2.0 * torch.exp(torch.tensor(-2.0 * count * gap**2)) < IMPLAUSIBLE:
        raise Refused(
            f"certifier.smoothing needs {name} noise of scale {sigma} under {norm.value}, but this system adds another"
        )
    if _dependent(noise):
        raise Refused(
            "certifier.smoothing needs noise that is independent in each feature and each pass, but that of this "
            "system repeats itself"
        )
    return float(sigma)


def _noise(defense: Any, x: Tensor) -> Tensor:
    """Noise of one example in several passes, (R, D) float64, obtained by applying the defense to the identity.

    Raises:
        Refused: if it is not noise added independently of the input.
    """
    copies = max(-(-CHECKED // x[0].numel()), FEWEST)
    stage, turns = defense.protect(torch.nn.Identity()), torch.arange(copies, device=x.device)
    rng = SampleRandom(0, torch.zeros_like(turns), turns)
    uneven = rng.child("uneven").uniform(*x.shape[1:], stream="pixels").to(x.dtype)
    flat = [torch.full_like(uneven, level) for level in (0.0, 0.25, 1.0)]
    found = []
    with torch.no_grad():
        for inputs in (*flat, uneven, x[:1].expand_as(uneven)):
            with using(rng):
                found.append(stage(inputs.clone()) - inputs)
    if not all(torch.allclose(found[0], other, atol=1e-5) for other in found[1:]):
        raise Refused("certifier.smoothing: the noise of this system depends on its input, or the sum is clipped")
    noise: Tensor = found[0].flatten(1).double()
    return noise


def _dependent(noise: Tensor) -> bool:
    """True if the rows of `noise` (R, D), or its columns, are not independent.

    The squared cosine of two independent rows of independent features has the mean 1 / D, and a larger one if features
    are correlated or rows alike; D times it has a variance of at most 2.
    """
    rows = torch.nn.functional.normalize(noise[:MOST], dim=1)
    count, features = rows.shape
    pairs = count * (count - 1) / 2
    squares = (float((rows @ rows.T).square().sum()) - count) / 2 * features / pairs
    return bool(squares > 1.0 + UNLIKELY * (2.0 / pairs) ** 0.5)


def _law(norm: Norm, sigma: float) -> tuple[Callable[[Tensor], Tensor], str]:
    """Distribution function of the noise for a norm's radius, and its name."""

    def gaussian(value: Tensor) -> Tensor:
        below: Tensor = torch.special.ndtr(value / sigma)
        return below

    def uniform(value: Tensor) -> Tensor:
        return ((value / sigma + 1.0) / 2.0).clamp(0.0, 1.0)

    return (gaussian, "Gaussian") if norm is Norm.l2 else (uniform, "uniform")


def _distance_to(values: Tensor, law: Callable[[Tensor], Tensor]) -> float:
    """Kolmogorov-Smirnov statistic."""
    expected = law(values.sort().values)
    steps = torch.arange(len(values) + 1, dtype=torch.float64, device=values.device) / len(values)
    return float(torch.maximum((expected - steps[:-1]).abs().max(), (steps[1:] - expected).abs().max()))


@hookimpl
def benchmark_component() -> type[Certifier]:
    """Register the plugin."""
    return RandomizedSmoothing
