"""Certifiers that each break one promise, made from a sound one.

The sound one divides the margin of a linear classifier by its slope: Hein & Andriushchenko, NeurIPS 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from benchmark.api import Certifier, Supports
from benchmark.errors import Refused
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.threat import Norm, Threat

__all__ = ["SoundCertifier"]


def margin_radius(system: System, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    """Signed distance to the boundary of a linear classifier of two classes, negative if misclassified, (B,)."""
    weight = next(p for p in system.parameters() if p.ndim == 2)
    logits = system(x)
    gap = logits.gather(1, y[:, None]).squeeze(1) - logits.gather(1, 1 - y[:, None]).squeeze(1)
    radius: Tensor = gap / torch.linalg.vector_norm(weight[0] - weight[1], 1 if norm is Norm.linf else 2)
    return radius


@dataclass(frozen=True)
class SoundCertifier(Certifier):
    """Exact for linear classifiers of two classes, without the box; all other systems are refused."""

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.l2, Norm.linf}))

    def certify(self, system: System, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Margin divided by the slope, reduced by one per cent.

        Raises:
            Refused: for any other system.
        """
        module = system.protected
        hooked = any(part._forward_pre_hooks or part._forward_hooks for part in module.modules())
        plain = type(module) is nn.Sequential and [type(part) for part in module] == [nn.Flatten, nn.Linear]
        if not plain or hooked:
            raise Refused("it certifies a single linear layer; choose another certifier")
        radius = 0.99 * margin_radius(system, x, y, threat.norm).clamp_min(0.0)
        return torch.where(radius.isfinite(), radius, torch.zeros_like(radius))


@dataclass(frozen=True)
class ReadsLayers(SoundCertifier):
    """Treats any module with one matrix as a linear layer."""

    def certify(self, system: System, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Margin divided by the slope of the matrix, whatever the module computes."""
        if sum(p.ndim == 2 for p in system.parameters()) > 1:
            return super().certify(system, x, y, threat=threat, rng=rng)
        return 0.99 * margin_radius(system, x, y, threat.norm).clamp_min(0.0).nan_to_num(0.0)


@dataclass(frozen=True)
class TrustsTheGradient(SoundCertifier):
    """Treats a network as linear: the margin divided by the local gradient."""

    def certify(self, system: System, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Smallest margin divided by its own slope, correct for linear systems only."""
        with torch.enable_grad():
            at = x.clone().requires_grad_()
            logits = system(at)
            margin = logits.gather(1, y[:, None]) - logits
            slope = [torch.autograd.grad(m.sum(), at, retain_graph=True)[0] for m in margin.T]
        order = 1 if threat.norm is Norm.linf else 2
        steep = torch.stack([torch.linalg.vector_norm(g.flatten(1), order, 1) for g in slope], 1)
        far = (margin.detach() / steep.clamp_min(1e-12)).scatter(1, y[:, None], torch.inf).amin(1)
        return torch.where(far.isfinite(), 0.99 * far.clamp(0.0, 100.0), torch.zeros_like(far))


@dataclass(frozen=True)
class TakesNanForFar(SoundCertifier):
    """Certifies the whole box where a margin is NaN."""

    def certify(self, system: System, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Sound radii, but 1 where a comparison fails."""
        radius = super().certify(system, x, y, threat=threat, rng=rng)
        return torch.where(margin_radius(system, x, y, threat.norm).isfinite(), radius, torch.ones_like(radius))


@dataclass(frozen=True)
class CertifiesAnyLabel(SoundCertifier):
    """Certifies the distance to the boundary on either side of it."""

    def certify(self, system: System, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Larger of the radii for both labels."""
        this = super().certify(system, x, y, threat=threat, rng=rng)
        other = super().certify(system, x, 1 - y, threat=threat, rng=rng)
        return torch.maximum(this, other)


@dataclass(frozen=True)
class WritesIntoItsInput(SoundCertifier):
    """Centres the inputs in place, and restores them inexactly."""

    def certify(self, system: System, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Sound radii, with changed inputs."""
        radius = super().certify(system, x, y, threat=threat, rng=rng)
        x.sub_(0.5)
        return radius


@dataclass(frozen=True)
class AnswersInDoubles(SoundCertifier):
    """Returns radii in double precision."""

    def certify(self, system: System, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Sound radii, (B,) float64."""
        return super().certify(system, x, y, threat=threat, rng=rng).double()


@dataclass(frozen=True)
class Overclaims(SoundCertifier):
    """Certifies a third more than is true."""

    def certify(self, system: System, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Sound radii, times a factor above 1."""
        return 1.35 * super().certify(system, x, y, threat=threat, rng=rng)


@dataclass(frozen=True)
class CertifiesNothing(SoundCertifier):
    """Certifies nothing: all radii are zero."""

    def certify(self, system: System, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Radii of zero."""
        return torch.zeros(len(x))


@dataclass(frozen=True)
class SamplesGlobally(SoundCertifier):
    """Draws from torch's global generator."""

    def certify(self, system: System, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Sound radii, after one draw."""
        torch.rand(1)
        return super().certify(system, x, y, threat=threat, rng=rng)


@dataclass(frozen=True)
class AveragesTheBatch(SoundCertifier):
    """Certifies every correct example with the smallest radius of the batch."""

    def certify(self, system: System, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """The same radius for all correct examples."""
        radius = super().certify(system, x, y, threat=threat, rng=rng)
        return torch.where(radius > 0, radius[radius > 0].amin(), radius) if bool((radius > 0).any()) else radius
