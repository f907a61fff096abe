"""The share of a query attack's time that its passes take, on a network of the usual size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import torch
from benchmark_plugins.attacks.bandits import Bandits
from benchmark_plugins.attacks.boundary import Boundary
from benchmark_plugins.attacks.geoda import GeoDA
from benchmark_plugins.attacks.hop_skip_jump import HopSkipJump
from benchmark_plugins.attacks.nes import NES
from benchmark_plugins.attacks.one_pixel import OnePixel
from benchmark_plugins.attacks.parsimonious import Parsimonious
from benchmark_plugins.attacks.pointwise import Pointwise
from benchmark_plugins.attacks.random_coordinate import RandomCoordinate
from benchmark_plugins.attacks.rays import RayS
from benchmark_plugins.attacks.sign_opt import SignOPT
from benchmark_plugins.attacks.simba import SimBA
from benchmark_plugins.attacks.spsa import SPSA
from benchmark_plugins.attacks.square import Square
from benchmark_plugins.attacks.surrogate_gradient import SurrogateGradient
from benchmark_plugins.attacks.zoo import ZOO

from benchmark.api import Attack
from benchmark.system.target import Target
from benchmark.threat import Norm, Threat
from benchmarks.subjects import RESNET, subject
from benchmarks.timing import clock

__all__ = ["FEW", "SHARES", "inside_the_model", "queries"]

INSIDE = 0.9
FEW = 40
"""Queries per example."""
SMALL = {"linf": Fraction(1, 100), "l2": Fraction(1, 2), "l0": Fraction(3)}
SHARES = ("attack", "norm", "passes", "inside the model", "at least 90 %", "measured (UTC)")


def queries() -> dict[str, tuple[Attack, str]]:
    """Some twenty passes of each query attack."""
    return {
        "Square": (Square(queries=20), "linf"),
        "SPSA": (SPSA(steps=2, pairs=8), "linf"),
        "NES": (NES(steps=2, pairs=8), "linf"),
        "Bandits": (Bandits(steps=8), "linf"),
        "Parsimonious": (Parsimonious(block=16), "linf"),
        "SimBA": (SimBA(steps=20), "l2"),
        "ZOO": (ZOO(steps=2, coordinates=8, search_steps=1), "l2"),
        "Random coordinate": (RandomCoordinate(steps=2, coordinates=8), "l2"),
        "Surrogate gradient": (SurrogateGradient(steps=2, pairs=8), "linf"),
        "One-pixel": (OnePixel(steps=2, population=10), "l0"),
        "Boundary": (Boundary(steps=20, tries=5), "l2"),
        "HopSkipJump": (HopSkipJump(steps=1, probes=10, tries=5), "l2"),
        "GeoDA": (GeoDA(steps=1, probes=10, tries=5), "l2"),
        "Sign-OPT": (SignOPT(steps=1, probes=10, starts=2, tries=5), "l2"),
        "RayS": (RayS(tolerance=0.1), "linf"),
        "Pointwise": (Pointwise(tries=5), "l0"),
    }


def inside_the_model(
    store: Path, device: str, wanted: Callable[[str], bool]
) -> Iterator[tuple[str, list[object], bool]]:
    """The share of a query attack's time that its passes take on a ResNet-18 for 3 x 32 x 32 inputs."""
    resnet = subject(store, device, *RESNET)
    batch = resnet.first(16)
    labels = resnet.system.logits(batch.x, batch.rng).argmax(1)
    begun, within = 0.0, 0.0
    seconds = clock(device)

    def now() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return seconds()

    def enter(*_: object) -> None:
        nonlocal begun
        begun = now()

    def leave(*_: object) -> None:
        nonlocal within
        within += now() - begun

    hooks = resnet.system.register_forward_pre_hook(enter), resnet.system.register_forward_hook(leave)
    for name, (attack, norm) in queries().items():
        if not wanted(name):
            continue
        threat = Threat(norm=Norm(norm), eps=SMALL[norm])
        target = Target(resnet.system, rng=batch.rng.child("system"), classes=resnet.system.spec.classes, queries=FEW)
        within, started = 0.0, now()
        attack.perturb(target, batch.x, labels, threat=threat, rng=batch.rng)
        share = within / (now() - started)
        good = share >= INSIDE
        passes = float(target.ledger.forwards.double().mean())
        yield name, [name, norm, f"{passes:.0f}", f"{share:.1%}", "yes" if good else "NO"], good
    for hook in hooks:
        hook.remove()
