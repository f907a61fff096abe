"""Our attacks beside every library that has them: how strong, how fast, how many passes.

python -m benchmarks.attacks [--out FILE] [--device cuda] [--only NAME ...] [--missing] [--rounds 3] ends with 1 if ours
is weaker than a peer whose algorithm is right, or a target is missed. Rows are kept in the store, so that the page is
made of all that were measured, in however many parts.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from benchmark_plugins.attacks.alma import ALMA
from benchmark_plugins.attacks.apgd import APGD, APGDLoss
from benchmark_plugins.attacks.autoattack import AutoAttack
from benchmark_plugins.attacks.bandits import Bandits
from benchmark_plugins.attacks.bim import BIM
from benchmark_plugins.attacks.boundary import Boundary
from benchmark_plugins.attacks.carlini_wagner import CarliniWagner
from benchmark_plugins.attacks.ddn import DDN
from benchmark_plugins.attacks.deepfool import DeepFool
from benchmark_plugins.attacks.di_fgsm import DIFGSM
from benchmark_plugins.attacks.ead import EAD
from benchmark_plugins.attacks.fab import FAB
from benchmark_plugins.attacks.fgsm import FGSM
from benchmark_plugins.attacks.fmn import FMN
from benchmark_plugins.attacks.geoda import GeoDA
from benchmark_plugins.attacks.hop_skip_jump import HopSkipJump
from benchmark_plugins.attacks.jsma import JSMA
from benchmark_plugins.attacks.mi_fgsm import MIFGSM
from benchmark_plugins.attacks.nes import NES
from benchmark_plugins.attacks.ni_fgsm import NIFGSM
from benchmark_plugins.attacks.one_pixel import OnePixel
from benchmark_plugins.attacks.parsimonious import Parsimonious
from benchmark_plugins.attacks.pdpgd import PDPGD
from benchmark_plugins.attacks.pgd import PGD
from benchmark_plugins.attacks.pointwise import Pointwise
from benchmark_plugins.attacks.random_coordinate import RandomCoordinate
from benchmark_plugins.attacks.rays import RayS
from benchmark_plugins.attacks.si_fgsm import SIFGSM
from benchmark_plugins.attacks.sigma_zero import SigmaZero
from benchmark_plugins.attacks.sign_opt import SignOPT
from benchmark_plugins.attacks.simba import SimBA
from benchmark_plugins.attacks.spsa import SPSA
from benchmark_plugins.attacks.square import Square
from benchmark_plugins.attacks.superdeepfool import SuperDeepFool
from benchmark_plugins.attacks.surrogate_gradient import SurrogateGradient
from benchmark_plugins.attacks.ti_fgsm import TIFGSM
from benchmark_plugins.attacks.vmi_fgsm import VMIFGSM
from benchmark_plugins.attacks.zoo import ZOO
from torch import Tensor

from benchmark.api import Attack
from benchmark.target import Target
from benchmark.threat import Goal, Norm, Threat
from benchmark.verify import judge
from benchmarks.peers import Attacker, Budget, offers
from benchmarks.subjects import RESNET, STD_AND_ADV, Batch, Subject, subject
from benchmarks.timing import alternate, clock, machine, ratio, table, write

RADII = {"linf": Fraction(1, 10), "l2": Fraction(1, 2), "l1": Fraction(2), "l0": Fraction(1)}
WIDE = {"linf": Fraction(3, 20), "l2": Fraction(3, 4)}
"""Radii at which most examples of the undefended system break: only there can leaving them alone halve the time."""
SYSTEMS = {name: ("dataset=digits", "model=small_cnn", defense) for name, defense in STD_AND_ADV.items()} | {
    "colour": ("dataset=synthetic", "dataset.shape=[3,8,8]", "model=small_cnn")
}
"""Made-up images of three channels are for peers that take nothing else."""
PATIENCE = 2.0
"""Seconds: what takes longer is timed once."""
QUICK, OFTEN = 0.2, 3
"""Where ours takes less than so many seconds, there are so many times the rounds."""
ATTEMPT = 10
"""Bare passes that are timed to know what one costs."""
HEAD = (
    "attack",
    "norm",
    "system",
    "ours",
    "trusted peers",
    "other peers",
    "as strong",
    "time / fastest trusted",
    "target",
    "met",
    "time / own passes",
    "target",
    "met",
    "passes",
    "defined",
    "measured (UTC)",
)


@dataclass(frozen=True)
class Case:
    """One attack under one norm.

    mine: ours. budget: the same for the peers. examples: in the batch. trusted: the peers whose algorithm is right.
    most: the largest time, as a share of the fastest trusted peer's, on the undefended and on the trained system.
    bare: the largest time, as a share of that of its own passes. passes: forward and backward passes per example by
    the attack's definition; None where that depends on the example.
    random: whether the result depends on random numbers, so that a difference of a few examples means nothing.
    """

    name: str
    attack: str
    norm: str
    mine: Attack
    budget: Budget
    examples: int
    trusted: tuple[str, ...]
    most: tuple[float | None, float | None] = (None, None)
    bare: float | None = None
    passes: tuple[float, float] | None = None
    random: bool = False
    goal: Goal = Goal.untargeted
    eps: Fraction | None = None
    systems: tuple[str, ...] = tuple(STD_AND_ADV)

    @property
    def threat(self) -> Threat:
        return Threat(norm=Norm(self.norm), eps=self.eps or RADII[self.norm], goal=self.goal)


def stepped(
    name: str, mine: Callable[..., Attack], norm: str, steps: int, examples: int, trusted: Sequence[str], **more: Any
) -> Case:
    """A bounded attack with steps of a fixed length."""
    attack = more.pop("attack", name)
    eps, settings = float(more.get("eps") or RADII[norm]), more.pop("settings", {})
    size = more.pop("step_size", 2.5 * eps / steps if steps > 1 else eps)
    start = more.pop("random_start", False)
    plugin = mine(**({"steps": steps, "step_size": size} if steps > 1 else {}), **settings)
    per_step = more.pop("per_step", 1)
    title = f"{name.upper().replace('_', '-')}{f'-{steps}' if steps > 1 else ''}"
    title += f" eps {more['eps']}" if "eps" in more else ""
    budget = Budget(norm, eps, steps, size, start)
    passes = (float(steps * per_step),) * 2
    return Case(title, attack, norm, plugin, budget, examples, tuple(trusted), passes=passes, random=start, **more)


def until_broken(loss: str, norm: str, eps: Fraction, title: str = "", **more: Any) -> Case:
    """APGD."""
    mine, budget = APGD(steps=50, loss=APGDLoss(loss)), Budget(norm, float(eps), 50, loss=loss)
    passes, trusted = (51.0, 51.0) if norm != "l1" else (53.0, 53.0), ("adversarial_library", "autoattack")
    words: dict[str, Any] = {"passes": passes, "random": True, "eps": eps, **more}
    return Case(f"APGD-{loss.upper()}-50{title}", "apgd", norm, mine, budget, 256, trusted, **words)


def bounded() -> Iterator[Case]:
    """Attacks inside the ball."""
    half, most_of = (0.5, 0.85), ("foolbox", "torchattacks", "cleverhans", "art")
    settings: dict[str, Any]
    for norm in ("linf", "l2"):
        yield stepped("fgsm", FGSM, norm, 1, 256, most_of)
    yield stepped("fgsm", FGSM, "l1", 1, 256, ("foolbox", "art"))
    for norm in ("linf", "l2", "l1"):
        yield stepped("bim", BIM, norm, 10, 256, most_of)
        yield stepped(
            "pgd",
            PGD,
            norm,
            40,
            256,
            (*most_of, "adversarial_library") if norm != "l1" else ("foolbox", "art"),
            settings={"random_start": False},
            step_size=2.5 * float(RADII[norm]) / 40 if norm != "l1" else 10.0 * float(RADII[norm]) / 40,
        )
    for norm, wide in WIDE.items():
        settings = {"settings": {"random_start": False}, "most": half, "eps": wide}
        yield stepped("pgd", PGD, norm, 40, 256, (*most_of, "adversarial_library"), **settings)
    transfer: dict[str, Any] = {"attack": "mi_fgsm", "step_size": 0.01}
    yield stepped("mi_fgsm", MIFGSM, "linf", 10, 256, ("torchattacks",), **transfer, bare=1.1)
    for name, mine, per_step, more in (
        ("ni_fgsm", NIFGSM, 1, {}),
        ("di_fgsm", DIFGSM, 1, {}),
        ("si_fgsm", SIFGSM, 5, {}),
        ("vmi_fgsm", VMIFGSM, 6, {"neighbours": 5}),
    ):
        trusted = ("torchattacks",) if name in ("ni_fgsm", "vmi_fgsm") else ()
        settings = {"per_step": per_step, "settings": more, "step_size": 0.01}
        yield stepped(name, mine, "linf", 10, 128, trusted, **settings)
    settings = {"settings": {"kernel": 7}, "step_size": 0.005, "eps": Fraction(1, 20), "systems": ("colour",)}
    yield stepped("ti_fgsm", TIFGSM, "linf", 10, 128, ("torchattacks",), **settings)
    for norm in ("linf", "l2", "l1"):
        eps = float(RADII[norm])
        for loss in ("ce", "dlr"):
            yield until_broken(loss, norm, RADII[norm])
            if norm in WIDE:
                yield until_broken(loss, norm, WIDE[norm], title=f" eps {WIDE[norm]}", most=(0.3, 0.7))
        targeted = APGD(steps=20, loss=APGDLoss.dlr_targeted)
        both = ("adversarial_library", "autoattack")
        settings = {"passes": (190.0, 189.0) if norm != "l1" else (208.0, 207.0), "random": True}
        yield Case("APGD-T-20", "apgd_targeted", norm, targeted, Budget(norm, eps, 20), 64, both, **settings)
    for norm in ("linf", "l2"):
        most = (0.25, 0.5) if norm == "linf" else (None, None)
        budget = Budget(norm, float(RADII[norm]), 100)
        settings = {"most": most, "passes": (7811.0, 1910.0), "random": True}
        yield Case("AutoAttack", "autoattack", norm, AutoAttack(), budget, 64, ("autoattack",), **settings)


def minimal() -> Iterator[Case]:
    """Attacks that look for the smallest perturbation; none of them is asked about a radius."""
    library, fb, aa = ("adversarial_library",), ("foolbox",), ("autoattack",)

    def case(
        name: str, attack: str, norm: str, mine: Attack, examples: int, trusted: tuple[str, ...], **more: Any
    ) -> Case:
        words = {key: more.pop(key) for key in ("steps", "searches", "step_size") if key in more}
        settings: dict[str, Any] = {"most": (0.9, 0.9), **more}
        return Case(name, attack, norm, mine, Budget(norm, 1.0, **words), examples, trusted, **settings)

    for norm in ("linf", "l2", "l1"):
        passes, twenty = (40.0, 180.0), FAB(steps=20)
        yield case("FAB-20", "fab", norm, twenty, 128, library + aa, steps=20, passes=passes)
    for norm in ("linf", "l2"):
        passes = (30.0, 270.0)
        yield case("DeepFool-30", "deepfool", norm, DeepFool(steps=30), 128, library + fb, steps=30, passes=passes)
    yield case("SuperDeepFool", "superdeepfool", "l2", SuperDeepFool(), 128, library, steps=50, searches=10)
    searched: dict[str, Any] = {"steps": 50, "searches": 5, "step_size": 0.05}
    carlini = CarliniWagner(steps=50, searches=5, step_size=0.05)
    more: dict[str, Any] = {**searched, "passes": (250.0, 250.0)}
    yield case("CW 5x50", "carlini_wagner", "l2", carlini, 32, (*library, *fb, "cleverhans"), **more)
    yield case("CW", "carlini_wagner", "linf", CarliniWagner(steps=50), 32, library, steps=50, step_size=0.005)
    small = CarliniWagner(steps=50, searches=2)
    yield case("CW", "carlini_wagner", "l0", small, 4, ("art",), steps=50, searches=2, step_size=0.01)
    elastic: dict[str, Any] = {**searched, "passes": (250.0, 250.0), "most": (0.6, 0.6)}
    yield case("EAD 5x50", "ead", "l1", EAD(steps=50, searches=5, step_size=0.05), 32, fb, **elastic)
    yield case("DDN-100", "ddn", "l2", DDN(), 128, library + fb, steps=100, passes=(100.0, 100.0))
    for norm, trusted in (("linf", library + fb), ("l2", ()), ("l1", library + fb), ("l0", library)):
        yield case("FMN-100", "fmn", norm, FMN(), 128, trusted, steps=100, passes=(100.0, 100.0))
    for norm in ("l2", "l1"):
        passes = (200.0, 200.0)
        yield case("ALMA-200", "alma", norm, ALMA(steps=200), 128, library, steps=200, passes=passes)
    for norm in ("linf", "l2", "l1"):
        passes = (200.0, 200.0)
        yield case("PDPGD-200", "pdpgd", norm, PDPGD(steps=200), 128, library, steps=200, passes=passes)
    passes = (200.0, 200.0)
    yield case("sigma-zero-200", "sigma_zero", "l0", SigmaZero(steps=200), 128, library, steps=200, passes=passes)
    yield Case(
        "JSMA",
        "jsma",
        "l0",
        JSMA(gamma=0.145),
        Budget("l0", 0.145),
        32,
        ("torchattacks",),
        most=(0.6, 0.6),
        goal=Goal.next_class,
    )


def black_box() -> Iterator[Case]:
    """Attacks that see scores or labels."""
    for norm in ("linf", "l2"):
        budget = Budget(norm, float(RADII[norm]), 1000)
        settings: dict[str, Any] = {"most": (0.85, 0.85), "passes": (1000.0, 0.0), "random": True}
        trusted: tuple[str, ...] = ("autoattack",)
        yield Case("Square 1000", "square", norm, Square(queries=1000), budget, 128, trusted, **settings)
    estimate: dict[str, Any] = {"steps": 10, "step_size": 0.01}
    budget = Budget("linf", 0.1, **estimate, samples=64)
    fast: dict[str, Any] = {"most": (0.6, 0.6), "random": True}
    mine: Attack = SPSA(**estimate, pairs=64)
    yield Case("SPSA 10x64", "spsa", "linf", mine, budget, 32, ("torchattacks",), passes=(1291.0, 0.0), **fast)
    budget = Budget("l2", 1.0, 100, 0.01, searches=1, samples=32)
    mine = ZOO(steps=100, coordinates=32, search_steps=1)
    settings = {"most": (0.1, 0.1), "passes": (6500.0, 0.0), "random": True}
    yield Case("ZOO 100x32", "zoo", "l2", mine, budget, 32, ("art",), **settings)
    budget, eps = Budget("l2", 1.0, 100, 0.2), Fraction(1)
    mine = SimBA(steps=200)
    yield Case("SimBA 200", "simba", "l2", mine, budget, 32, ("art",), eps=eps, passes=(201.0, 0.0), random=True)
    budget, mine = Budget("l0", 1.0, 20, samples=40), OnePixel(steps=20, population=40)
    yield Case("One-pixel 20x40", "one_pixel", "l0", mine, budget, 32, ("torchattacks",), passes=(800.0, 0.0), **fast)
    mine = Boundary(steps=500)
    yield Case("Boundary 500", "boundary", "l2", mine, Budget("l2", 1.0, 500), 32, ("foolbox",), **fast)
    for norm in ("l2", "linf"):
        mine, budget = HopSkipJump(steps=8), Budget(norm, 1.0, 8, samples=100)
        trusted = ("foolbox", "cleverhans")
        yield Case("HopSkipJump 8", "hop_skip_jump", norm, mine, budget, 16, trusted, **fast)
    mine, budget = GeoDA(probes=1000), Budget("l2", 1.0, samples=1000)
    yield Case("GeoDA 1000", "geoda", "l2", mine, budget, 32, ("art",), random=True)
    mine, budget = SignOPT(steps=20, probes=50), Budget("l2", 1.0, 10, samples=50)
    yield Case("Sign-OPT 1600", "sign_opt", "l2", mine, budget, 16, ("art",), random=True)
    mine, budget = Pointwise(restarts=40), Budget("l0", 1.0)
    yield Case("Pointwise 1000", "pointwise", "l0", mine, budget, 32, ("foolbox",), random=True)
    yield Case("RayS", "rays", "linf", RayS(), Budget("linf", 1.0), 32, ())


def cases() -> list[Case]:
    """All of them."""
    return [*bounded(), *minimal(), *black_box()]


# --- one row ---


@dataclass
class Strength:
    """What the verdict says of an attacker's candidates, run by run; a share of robust examples or a median distance.

    outside: how many candidates were not allowed. missed: how many had no distance, being no success.
    """

    values: list[float] = field(default_factory=list)
    outside: int = 0
    missed: int = 0

    @property
    def value(self) -> float:
        return statistics.mean(self.values) if all(map(math.isfinite, self.values)) else math.inf

    def words(self, *, far: bool) -> str:
        value = f"{self.value:.4f}" if far else f"{self.value:.1%}"
        more = [f"{self.missed} failed"] * bool(self.missed) + [f"{self.outside} outside"] * bool(self.outside)
        return value + (f" ({', '.join(more)})" if more else "")


def strength(subject: Subject, batch: Batch, case: Case, goal: Tensor | None, found: Sequence[Tensor]) -> Strength:
    """Judge the candidates of several runs."""
    far, result = case.mine.supports.minimal, Strength()
    ball = case.threat.around(batch.x, batch.rng)
    for x_adv in found:
        verdict = judge(
            subject.system,
            ball,
            x_adv.detach().to(batch.x),
            batch.y,
            goal,
            batch.rng,
            minimal=far,
            bounded=case.mine.supports.bounded,
        )
        if far:
            result.values.append(float(verdict.distances[case.norm].double().median()))
            result.missed = max(result.missed, int((~verdict.adversarial).sum()))
        else:
            result.values.append(float((~verdict.broken).double().mean()))
        result.outside = max(result.outside, int((~verdict.valid).sum()))
    return result


def one_pass(subject: Subject, batch: Batch, *, backward: bool) -> Callable[[], object]:
    """Bare passes of the model on the whole batch, `ATTEMPT` of them."""
    cotangent = torch.ones_like(subject.system.logits(batch.x, batch.rng))

    def run() -> None:
        for _ in range(ATTEMPT):
            if backward:
                leaf = batch.x.clone().requires_grad_()
                torch.autograd.grad(subject.system(leaf), leaf, cotangent)
            else:
                with torch.no_grad():
                    subject.system(batch.x)

    return run


def row(case: Case, place: int, name: str, subject: Subject, rounds: int, device: str) -> tuple[list[object], bool]:
    """A line of the table, and whether it is as it should be."""
    batch = subject.first(case.examples, correct=True)
    classes = subject.system.spec.classes
    goal = None if case.goal is Goal.untargeted else (batch.y + 1) % classes
    candidates: dict[str, list[Tensor]] = {}
    spent: list[tuple[float, float]] = []
    notes: list[str] = []

    def mine() -> Tensor:
        target = subject.target(batch)
        rng = batch.rng.child("round", len(spent))
        x_adv = case.mine.perturb(target, batch.x, batch.y if goal is None else goal, threat=case.threat, rng=rng)
        ledger = target.ledger
        spent.append((float(ledger.forwards.double().mean()), float(ledger.backwards.double().mean())))
        return x_adv

    def kept(label: str, make: Callable[[], Tensor]) -> Callable[[], object]:
        return lambda: candidates.setdefault(label, []).append(make())

    runs = {"ours": kept("ours", mine)}
    offered: dict[str, Attacker] = {}
    for library, build in offers(case.attack, case.norm).items():
        try:
            offered[library] = build(subject.system, case.budget)
            torch.manual_seed(0)
            offered[library](batch.x[:2].clone(), batch.y[:2].clone())
        except Exception as error:
            notes.append(f"{library} raised {type(error).__name__}")
            offered.pop(library, None)
    for library, attacker in offered.items():
        runs[library] = kept(library, lambda attacker=attacker: attacker(batch.x.clone(), batch.y.clone()))  # type: ignore[misc]
    passes = {"pass": one_pass(subject, batch, backward=False), "both": one_pass(subject, batch, backward=True)}
    seconds = clock(device)
    begun = seconds()
    mine()
    rounds *= OFTEN if seconds() - begun < QUICK else 1
    times = alternate({**runs, **passes}, rounds, device, PATIENCE)
    subject.system.eval()

    far = case.mine.supports.minimal
    found = {label: strength(subject, batch, case, goal, made) for label, made in candidates.items()}
    trusted = [library for library in offered if library in case.trusted]
    others = [library for library in offered if library not in case.trusted]
    best = min((found[library].value for library in trusted), default=math.inf)
    slack = 1 / len(batch.y) * (2 if case.random else 1)
    strong = found["ours"].value <= (best * 1.01 + 1e-9 if far else best + slack + 1e-9)
    forward = statistics.median(times["pass"]) / ATTEMPT
    both = statistics.median(times["both"]) / ATTEMPT
    forwards, backwards = (statistics.mean(values) for values in zip(*spent, strict=True))
    own = statistics.median(times["ours"]) / (forward * (forwards - backwards) + both * backwards)
    if backwards > forwards:
        own = statistics.median(times["ours"]) / (forward * forwards + (both - forward) * backwards)
    fastest = min(trusted, key=lambda library: ratio(times, library, "ours"), default=None)
    against = math.nan if fastest is None else ratio(times, "ours", fastest)
    target = case.most[place]
    good = (
        strong and (target is None or fastest is None or against <= target) and (case.bare is None or own <= case.bare)
    )

    def words(library: str) -> str:
        return f"{library} {found[library].words(far=far)} x{ratio(times, library, 'ours'):.2f}"

    cells: list[object] = [
        f"{case.name} ({len(batch.y)})",
        case.norm,
        name,
        found["ours"].words(far=far),
        ", ".join(map(words, trusted)) or "-",
        ", ".join([*map(words, others), *notes]) or "-",
        "-" if not trusted else "yes" if strong else "NO",
        "-" if fastest is None else f"{against:.2f}",
        "-" if target is None else f"{target:.2f}",
        "-" if target is None or fastest is None else "yes" if against <= target else "NO",
        f"{own:.2f}",
        "-" if case.bare is None else f"{case.bare:.2f}",
        "-" if case.bare is None else "yes" if own <= case.bare else "NO",
        f"{forwards:.0f}+{backwards:.0f}",
        "-" if case.passes is None else f"{case.passes[0]:.0f}+{case.passes[1]:.0f}",
    ]
    return cells, good


# --- query attacks on a network of the usual size ---

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


# --- rows that were measured, in however many parts ---


class Kept:
    """Rows as they were last measured, in a file. A row is a table's name and its own: its cells and verdict."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.rows = self._read()

    def _read(self) -> dict[str, dict[str, Any]]:
        """What is in the file now: another process may measure other rows."""
        rows: dict[str, dict[str, Any]] = json.loads(self._file.read_text("utf-8")) if self._file.is_file() else {}
        return rows

    def add(self, key: str, cells: list[object], good: bool) -> None:
        """Print a row and keep it, with the time."""
        cells = [*cells, datetime.now(UTC).strftime("%Y-%m-%d %H:%M")]
        print(*cells, sep=" | ", flush=True)
        self.rows = self._read()
        self.rows[key] = {"cells": [str(cell) for cell in cells], "good": good}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(self.rows, indent=1), "utf-8")

    def of(self, keys: Sequence[str]) -> list[dict[str, Any]]:
        """Those of these rows that were measured, in this order."""
        return [self.rows[key] for key in keys if key in self.rows]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=Path("results"))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="cases whose name contains one of these")
    parser.add_argument("--missing", action="store_true", help="measure only what the store has no row of")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = Kept(options.store / "benchmarks" / f"attacks_{options.device}.json")

    def wanted(name: str, key: str) -> bool:
        named = not options.only or any(word.lower() in name.lower() for word in options.only)
        return named and not (options.missing and key in kept.rows)

    compared = [(f"{case.name}/{case.norm}/{name}", case, name) for case in cases() for name in case.systems]
    trained = {name: subject(options.store, options.device, *words) for name, words in SYSTEMS.items()}
    for key, case, name in compared:
        if wanted(case.name, key):
            place = 1 if name == "adv" else 0
            kept.add(key, *row(case, place, name, trained[name], options.rounds, options.device))
    todo = (options.store, options.device, lambda name: wanted(name, f"inside/{name}"))
    for name, cells, good in inside_the_model(*todo):
        kept.add(f"inside/{name}", cells, good)
    rows, shares = kept.of([key for key, *_ in compared]), kept.of([f"inside/{name}" for name in queries()])
    write(
        options.out,
        PAGE.format(
            rounds=options.rounds,
            often=options.rounds * OFTEN,
            quick=QUICK,
            patience=PATIENCE,
            few=FEW,
            rows=table(HEAD, [kept_row["cells"] for kept_row in rows]),
            shares=table(SHARES, [kept_row["cells"] for kept_row in shares]),
            machine=machine(options.device),
        ),
    )
    return 0 if all(kept_row["good"] for kept_row in (*rows, *shares)) else 1


PAGE = """# Our attacks and the peers'

`small_cnn` on 8 x 8 digits, undefended (std) and adversarially trained (adv), or on made-up colour images of that size
(colour): same weights, same inputs (the first that the system gets right; their number is in brackets), same budget.
Strength is the harness's own verdict on every candidate: the share that stays right (radius, unless said: linf 1/10,
l2 1/2, l1 2, l0 1), or the median distance where the smallest perturbation is sought, as means over the runs, with
other random numbers in each; candidates outside box or ball count as failures. "as strong": not weaker than the best
trusted peer by more than one example (two where the attack is random), or one percent of the distance. A peer is
trusted where its algorithm is right; others are shown for comparison. "x": its time divided by ours. Times are medians
of {rounds} runs ({often} where ours takes less than {quick} s) that take turns in one process after a warm-up; what
takes longer than {patience:.0f} s is run once. "own passes": as many bare passes of the whole batch as ours made, per
example. "passes": forward + backward, per example; "defined": by the attack's definition, for an example that is never
broken.

{machine}

{rows}

## Query attacks on ResNet-18, 3 x 32 x 32

The share of their time inside the model: batches of 16, random weights, at most {few} queries each, one run.

{shares}"""


if __name__ == "__main__":
    raise SystemExit(main())
