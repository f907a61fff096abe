"""Extraction of a system's computation, checked against the system's outputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import Refused, SampleRandom, System, derive_seed

from .graph import Graph
from .lowering import lower
from .tracing import trace

__all__ = ["Reading", "differences", "read", "uphill"]

PROBES = 32
AGREEMENT = 1e-4
"""Tolerated difference of single precision outputs from the computation, relative to the largest score."""
STEPS = (1 / 255, 1 / 32, 1 / 8, 1 / 2)
"""Distances of the adversarial points from the inputs."""


@dataclass(frozen=True)
class Reading:
    """A computation that gives the system's scores.

    slack: in units of the scores, the smallest difference of two scores that counts as positive: eight times the
    largest single-precision error at fixed random points.
    """

    graph: Graph
    slack: float


def read(system: System, x: Tensor, y: Tensor, owner: str) -> Reading:
    """Computation of a system in double precision, checked against it at random and adversarial points.

    Args:
        system: with the defenses that are part of the deployed function. x: (B, *S) and y: (B,), rows to certify.
        owner: the certifier, for messages.

    Raises:
        Refused: if the system is random or has a detector, if an operator is not understood, if a weight is not finite,
            or if the system's outputs differ from its computation.
    """
    if system.randomized or system.detectors:
        raise Refused(
            f"{owner} certifies fixed functions, but this system is random or has a detector; leave the defense out, or"
            " the certifier"
        )
    with torch.no_grad(), torch.device(x.device):
        graph = lower(trace(system.protected, tuple(x.shape[1:]), owner), tuple(x.shape[1:]), owner)
        fixed = _random_points(tuple(x.shape[1:]), x.device)
        points = torch.cat([fixed, x.double(), *_adversarial(graph, x.double(), y)])
        theirs = system.logits(points.float(), SampleRandom(0, torch.arange(len(points)))).double()
        ours = graph(points.float().double())
    error = (theirs - ours).abs().amax(1)
    scale = torch.maximum(ours.abs().amax(1), ours.abs().amax())
    wrong = ~(error <= AGREEMENT * scale)  # not finite is wrong
    if bool(wrong.any()):
        raise Refused(
            f"{owner} read a computation that is not the system's: they differ at {int(wrong.sum())} of {len(points)} "
            f"points, by up to {float(error.max()):.3g}; its outputs depend on more than the operators of one pass"
        )
    return Reading(graph, 8.0 * float(error[: len(fixed)].max()))


def _random_points(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Random points inside the box and at its corners, float64."""
    draw = torch.Generator().manual_seed(derive_seed("certifiers", "probe", shape))
    inside = torch.rand(PROBES, *shape, generator=draw, dtype=torch.float64)
    return torch.cat([inside, inside.round()]).to(device)


def uphill(graph: Graph, x: Tensor, y: Tensor) -> Tensor:
    """Sign of the gradient at `x` of the largest other logit minus that of `y`, (B, *S)."""
    with torch.enable_grad():
        at = x.clone().requires_grad_()
        logits = graph(at)
        rival = logits.detach().scatter(1, y[:, None], -torch.inf).argmax(1)
        gain = (logits.gather(1, rival[:, None]) - logits.gather(1, y[:, None])).sum()
        (gradient,) = torch.autograd.grad(gain, at)
    return gradient.sign()


def _adversarial(graph: Graph, x: Tensor, y: Tensor) -> list[Tensor]:
    """Steps of several lengths from each input along the sign of the gradient that increases another class."""
    step = uphill(graph, x, y)
    return [(x + size * step).clamp(0.0, 1.0) for size in STEPS]


def differences(graph: Graph, y: Tensor) -> Tensor:
    """Coefficients of the score differences z_y - z_k of each row, (B, K-1, K), k in order without y."""
    classes = graph.logits.size
    unit = torch.eye(classes, dtype=torch.float64, device=y.device)
    others = torch.arange(classes - 1, device=y.device)[None] + (
        torch.arange(classes - 1, device=y.device) >= y[:, None]
    )
    return unit[y][:, None] - unit[others]
