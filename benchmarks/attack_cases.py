"""Pairs of an attack of ours and a peer's, with budget and target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from benchmark_plugins.attacks.alma import ALMA
from benchmark_plugins.attacks.apgd import APGD, APGDLoss
from benchmark_plugins.attacks.autoattack import AutoAttack
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
from benchmark_plugins.attacks.ni_fgsm import NIFGSM
from benchmark_plugins.attacks.one_pixel import OnePixel
from benchmark_plugins.attacks.pdpgd import PDPGD
from benchmark_plugins.attacks.pgd import PGD
from benchmark_plugins.attacks.pointwise import Pointwise
from benchmark_plugins.attacks.rays import RayS
from benchmark_plugins.attacks.si_fgsm import SIFGSM
from benchmark_plugins.attacks.sigma_zero import SigmaZero
from benchmark_plugins.attacks.sign_opt import SignOPT
from benchmark_plugins.attacks.simba import SimBA
from benchmark_plugins.attacks.spsa import SPSA
from benchmark_plugins.attacks.square import Square
from benchmark_plugins.attacks.superdeepfool import SuperDeepFool
from benchmark_plugins.attacks.ti_fgsm import TIFGSM
from benchmark_plugins.attacks.vmi_fgsm import VMIFGSM
from benchmark_plugins.attacks.zoo import ZOO

from benchmark.api import Attack
from benchmark.threat import Goal, Norm, Threat
from benchmarks.peers import Budget
from benchmarks.subjects import STD_AND_ADV

__all__ = ["SYSTEMS", "Case", "cases"]

RADII = {"linf": Fraction(1, 10), "l2": Fraction(1, 2), "l1": Fraction(2), "l0": Fraction(1)}
WIDE = {"linf": Fraction(3, 20), "l2": Fraction(3, 4)}
"""Radii at which most examples of the undefended system break: only there can leaving them alone halve the time."""
SYSTEMS = {name: ("dataset=digits", "model=small_cnn", defense) for name, defense in STD_AND_ADV.items()} | {
    "colour": ("dataset=synthetic", "dataset.shape=[3,8,8]", "model=small_cnn")
}
"""Made-up images of three channels are for peers that take nothing else."""


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
    yield case("CW", "carlini_wagner", "l0", small, 4, (), steps=50, searches=2, step_size=0.01)
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
