"""Fill worlds-table.md: how far from the optimum attacks end on small systems of many shapes.

`python docs/worlds_table.py [NAME ...]` measures every attack of the page, or prints what the named ones find.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path

import torch
from marked import filled
from torch import Tensor

from benchmark import registry
from benchmark.api import Attack
from benchmark.oracles.worlds import LINEAR, WORLDS, AttackWorld, attack_world
from benchmark.sampling import SampleRandom
from benchmark.system.target import Target
from benchmark.threat import Norm, Threat
from benchmark.threat.ball import distance

PAGE = Path(__file__).parent / "worlds-table.md"
COUNT = 10
"""Examples of each world."""

MINIMAL: tuple[tuple[str, tuple[Norm, ...]], ...] = (
    ("deepfool", (Norm.linf, Norm.l2)),
    ("superdeepfool", (Norm.l2,)),
    ("fab", (Norm.linf, Norm.l2, Norm.l1)),
    ("fmn", (Norm.linf, Norm.l2, Norm.l1, Norm.l0)),
    ("ddn", (Norm.l2,)),
    ("alma", (Norm.l2, Norm.l1)),
    ("pdpgd", (Norm.linf, Norm.l2, Norm.l1)),
    ("sigma_zero", (Norm.l0,)),
    ("gradient_descent", (Norm.l2,)),
    ("jsma", (Norm.l0,)),
    ("lbfgs", (Norm.l2,)),
    ("ead", (Norm.l1,)),
    ("rays", (Norm.linf,)),
    ("pointwise", (Norm.l0,)),
    ("carlini_wagner", (Norm.linf, Norm.l2, Norm.l0)),
)
"""Attacks that look for the smallest perturbation, and the norms that they are measured in."""

RADIUS: tuple[tuple[str, dict[str, object]], ...] = (
    ("apgd", {"loss": "margin_targeted"}),
    ("autoattack", {}),
    ("pgd", {}),
)
"""Attacks at a radius, that of the example that is the hardest to break."""

ASKED = {"deepfool", "superdeepfool", "fab", "fmn", "alma", "sigma_zero"}
"""Attacks that on linear worlds are asked for a median ratio of 1.01 and a mean of 1.05."""

MISSED: set[tuple[str, str, str]] = set()
"""Attack, norm and linear world where that is not so; the page would say why."""


STRONGER = ("pgd", "apgd", "autoattack", "fab")
"""Attacks that are to break whatever noise breaks."""
DRAWS, WIDER = 1000, 3.0
"""Draws of noise for each example, and its radius as a multiple of the median distance that FMN finds."""
NOISY = tuple(place for place in WORLDS if place not in ("faint", "loud", "louder", "colour", "conv28"))
"""Worlds of that comparison: neither those of other scales nor the largest ones."""

QUERIES = {"rays": 2000, "pointwise": 2000}
"""Queries that attacks from labels may spend on an example."""


def found(attack: Attack, world: AttackWorld, norm: Norm, eps: str = "1", queries: int | None = None) -> Tensor:
    """Distances (N,) float64 of the successes of an attack, infinite where there is none."""
    ids, access = torch.arange(len(world.x)), attack.supports.access
    threat = Threat(norm, Fraction(eps), access=access, queries=queries)
    target = Target(world.model, rng=SampleRandom(1, ids), classes=world.spec.classes, access=access, queries=queries)
    x_adv = attack.perturb(target, world.x.clone(), world.y.clone(), threat=threat, rng=SampleRandom(0, ids))
    far = distance(x_adv, world.x, norm).double()
    return torch.where(world.model(x_adv).argmax(1) != world.y, far, torch.inf)


def attack_of(name: str, settings: Mapping[str, object] | None = None) -> Attack:
    """An attack by the name of its plugin, and its settings as the command line has them."""
    kind = registry.load("attack", name)
    assert issubclass(kind, Attack)
    made: Attack = kind(**{key: type(getattr(kind, key))(value) for key, value in (settings or {}).items()})
    return made


def distances(only: Iterable[str] = ()) -> dict[tuple[str, Norm, str], Tensor]:
    """Distances (N,) by attack, norm and world."""
    made, chosen = {}, set(only)
    for name, norms in MINIMAL:
        if chosen and name not in chosen:
            continue
        begun = time.perf_counter()
        for norm in norms:
            for place in WORLDS:
                world, queries = attack_world(place, COUNT), QUERIES.get(name)
                made[name, norm, place] = found(attack_of(name), world, norm, queries=queries)
        sys.stderr.write(f"{name}: {time.perf_counter() - begun:.0f} s\n")
    return made


def optima(made: Mapping[tuple[str, Norm, str], Tensor]) -> dict[tuple[Norm, str], tuple[Tensor, bool]]:
    """By norm and world: exact distances (N,), or else the least that any attack found; and whether they are exact."""
    best: dict[tuple[Norm, str], tuple[Tensor, bool]] = {}
    for norm in Norm:
        for place in WORLDS:
            exact = attack_world(place, COUNT).exact(norm)
            seen = [far for (_, other, where), far in made.items() if (other, where) == (norm, place)]
            if exact is not None:
                best[norm, place] = exact, True
            elif seen:
                best[norm, place] = torch.stack(seen).amin(0), False
    return best


def ratios(far: Tensor, optimum: Tensor) -> Tensor:
    """Distances over the optimum, of the examples that have one, (M,)."""
    known = optimum.isfinite() & (optimum > 0)
    return far[known] / optimum[known]


def written(ratio: Tensor) -> str:
    """Median and mean of ratios in few figures, and how many examples were not found."""
    if not len(ratio):
        return ""
    lost, here = int(ratio.isinf().sum()), ratio[ratio.isfinite()]
    said = "" if lost == len(ratio) else f"{float(ratio.median()):.3f}, {float(here.mean()):.3f}".replace("inf", "-")
    return said + (f" ({lost} lost)" if lost else "")


def smallest(made: Mapping[tuple[str, Norm, str], Tensor], norm: Norm, places: Iterable[str]) -> str:
    """The table of a norm: a line for each world, a column for each attack."""
    best = optima(made)
    names = [name for name, norms in MINIMAL if norm in norms and any(key[0] == name for key in made)]
    lines = ["| world | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for place in places:
        optimum, exact = best[norm, place]
        row = [written(ratios(made[name, norm, place], optimum)) for name in names]
        lines.append(f"| {place}{'' if exact else ' (best known)'} | " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def at_radius() -> str:
    """The table of the attacks at a radius on the linear worlds: what they leave right, and what an exact one would."""
    heads = [", ".join([name, *map(str, settings.values())]) for name, settings in RADIUS]
    lines = ["| norm, world | radius | exact | " + " | ".join(heads) + " | of |", "|---" * (len(heads) + 4) + "|"]
    for norm in (Norm.linf, Norm.l2, Norm.l1):
        for place in LINEAR:
            world = attack_world(place, COUNT)
            exact = world.exact(norm)
            assert exact is not None
            possible = exact[exact.isfinite()]
            eps = f"{float(possible.max()) * 1.01:.4f}"
            near = exact <= float(eps)
            left = []
            for name, settings in RADIUS:
                far = found(attack_of(name, settings), world, norm, eps)
                left.append(int((~(far <= float(eps) * (1 + 1e-5))).sum()))
            row = [f"{norm.value} {place}", eps, str(int((~near).sum())), *map(str, left), str(COUNT)]
            lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def after_noise() -> str:
    """The table of the examples that noise breaks, and of how many of them the attacks leave right."""
    heads = " | ".join(f"left by {name}" for name in STRONGER)
    lines = [f"| norm, world | radius | broken by noise | {heads} |", "|---" * (len(STRONGER) + 3) + "|"]
    noise = attack_of("noise", {"restarts": DRAWS})
    for norm in (Norm.linf, Norm.l2, Norm.l1):
        for place in NOISY:
            world = attack_world(place, COUNT)
            wide = WIDER * float(found(attack_of("fmn"), world, norm).median())
            eps = f"{min(wide, 1.0) if norm is Norm.linf else wide:.4f}"
            broken = found(noise, world, norm, eps).isfinite()
            rows = dataclasses.replace(world, x=world.x[broken], y=world.y[broken])
            left = []
            for name in STRONGER if len(rows.x) else ():
                far = found(attack_of(name), rows, norm, eps)
                left.append(str(int((~(far <= float(eps) * (1 + 1e-5))).sum())))
            row = [f"{norm.value} {place}", eps, str(int(broken.sum())), *(left or [""] * len(STRONGER))]
            lines.append("| " + " | ".join(row) + " |")
            sys.stderr.write(lines[-1] + "\n")
    return "\n".join(lines) + "\n"


def tables() -> dict[str, str]:
    """Every table of the page, by the name in its mark."""
    made = distances()
    curved = [place for place in WORLDS if place not in LINEAR]
    shown = {f"linear-{norm.value}": smallest(made, norm, LINEAR) for norm in Norm}
    shown |= {f"curved-{norm.value}": smallest(made, norm, curved) for norm in Norm}
    return shown | {"radius": at_radius(), "noise": after_noise()}


def main(names: list[str]) -> int:
    """Measure, and write the page or, of named attacks, print the tables."""
    torch.set_num_threads(1)
    if not names:
        PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), tables()), encoding="utf-8")
        return 0
    made = distances(names)
    for norm in Norm:
        if any(key[1] is norm for key in made):
            sys.stdout.write(f"{norm.value}\n{smallest(made, norm, WORLDS)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
