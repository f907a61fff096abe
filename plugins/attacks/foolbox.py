"""Foolbox: any of its attacks by name. Rauber et al., JOSS 5(53), 2020, arXiv:1707.04131."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from benchmark.api import Access, Attack, Norm, Threat, hookimpl

from .._toolkit import imported
from ._toolkits.bridge import EVERY, Bridge, Method, methods_of
from ._toolkits.facade import Facade

ORDERS = {Norm.linf: float("inf"), Norm.l2: 2, Norm.l1: 1, Norm.l0: 0}
LABELS = {"access": Access.labels, "minimal": True}
ASCENTS = "{0}BasicIterativeAttack {0}ProjectedGradientDescentAttack {0}PGD \
    {0}AdamBasicIterativeAttack {0}AdamProjectedGradientDescentAttack {0}AdamPGD \
    {0}MomentumIterativeFastGradientMethod"

METHODS = {
    **methods_of("LinfFastGradientAttack FGSM", Norm.linf, targeted=False),
    **methods_of("L2FastGradientAttack FGM", Norm.l2, targeted=False),
    **methods_of("L1FastGradientAttack", Norm.l1, targeted=False),
    **methods_of(ASCENTS.format("Linf") + " PGD AdamPGD MIFGSM", Norm.linf),
    **methods_of(ASCENTS.format("L2"), Norm.l2),
    **methods_of(ASCENTS.format("L1") + " SparseL1DescentAttack", Norm.l1),
    **methods_of("VirtualAdversarialAttack", Norm.l2, targeted=False),
    **methods_of("GenAttack", Norm.linf, access=Access.scores, untargeted=False),
    **methods_of("L2DeepFoolAttack NewtonFoolAttack", Norm.l2, minimal=True, targeted=False),
    **methods_of("LinfDeepFoolAttack", Norm.linf, minimal=True, targeted=False),
    **methods_of("L2CarliniWagnerAttack DDNAttack L2FMNAttack L2BrendelBethgeAttack", Norm.l2, minimal=True),
    **methods_of("EADAttack L1FMNAttack L1BrendelBethgeAttack", Norm.l1, minimal=True),
    **methods_of("L0FMNAttack L0BrendelBethgeAttack", Norm.l0, minimal=True),
    **methods_of("LInfFMNAttack LinfinityBrendelBethgeAttack", Norm.linf, minimal=True),
    **methods_of("BoundaryAttack SaltAndPepperNoiseAttack", Norm.l2, **LABELS),
    **methods_of("HopSkipJumpAttack", Norm.l2, Norm.linf, **LABELS),
    **methods_of("PointwiseAttack InversionAttack", *EVERY, **LABELS),
    **methods_of(
        "BinarySearchContrastReductionAttack LinearSearchContrastReductionAttack GaussianBlurAttack \
        LinearSearchBlendedUniformNoiseAttack",
        *EVERY,
        **LABELS,
    ),
    **methods_of(
        "L2AdditiveGaussianNoiseAttack L2AdditiveUniformNoiseAttack L2ClippingAwareAdditiveGaussianNoiseAttack \
        L2ClippingAwareAdditiveUniformNoiseAttack L2ClippingAwareRepeatedAdditiveGaussianNoiseAttack \
        L2ClippingAwareRepeatedAdditiveUniformNoiseAttack L2RepeatedAdditiveGaussianNoiseAttack \
        L2RepeatedAdditiveUniformNoiseAttack L2ContrastReductionAttack",
        Norm.l2,
        access=Access.labels,
    ),
    **methods_of(
        "LinfAdditiveUniformNoiseAttack LinfRepeatedAdditiveUniformNoiseAttack", Norm.linf, access=Access.labels
    ),
}

LEFT_OUT = {
    "BinarizationRefinementAttack": "refines what another attack found against a model that binarises its input",
    "DatasetAttack": "takes its candidates from a data set that it is fed with",
    "SpatialAttack": "rotates and shifts, which has no radius; attack=spatial does that here",
}
"""Attacks of Foolbox that are not offered, with the reason."""


@dataclass(frozen=True)
class Foolbox(Bridge):
    """An attack of Foolbox, by the name of its class, with its own parameters.

    Each example is attacked alone, with the global generators seeded by the cell's seed and the example's id, so that a
    candidate depends on its own example only. Foolbox queries the system through the target: passes are counted, access
    and budget are the threat's, and the core decides about success.

    method: the name of the attack in the toolkit. args: its parameters, by their names there, checked against its
    signature; those given by the threat (eps, norm, bounds, labels) are passed on and cannot be set.
    project: project the toolkit's result into the threat's ball. With false it is judged as returned, so that the core
    counts candidates that left the ball or the box.
    version: of the toolkit; filled in, and part of every key and record. If set, another installed version is refused.
    """

    package: ClassVar[str] = "foolbox"
    distribution: ClassVar[str] = "foolbox"
    install: ClassVar[str] = "pip install 'adversarial-benchmark[foolbox]'"
    known: ClassVar[dict[str, Method]] = METHODS
    owned: ClassVar[frozenset[str]] = frozenset({"self", "distance", "constraint"})

    needs: ClassVar[dict[str, str]] = {name: "numba" for name in METHODS if "BrendelBethge" in name}

    method: str = "FGSM"

    @classmethod
    def has(cls, name: str) -> bool:
        """True if foolbox.attacks has an attack of that name."""
        return hasattr(imported("foolbox.attacks"), name)

    @classmethod
    def signature_of(cls, name: str) -> Callable[..., Any]:
        """Class of the attack."""
        found: Callable[..., Any] = getattr(imported("foolbox.attacks"), name)
        return found

    def gave_up(self, error: Exception) -> bool:
        """True if no adversarial starting point was found."""
        return isinstance(error, ValueError) and "init_attack" in str(error)

    def run(self, facade: Facade, x: Tensor, y: Tensor, *, threat: Threat, seed: int) -> Tensor:
        """Call the attack's `run`, with `epsilon` for attacks at a fixed radius."""
        foolbox = imported("foolbox")
        from foolbox.attacks.base import MinimizationAttack

        made = self.signature_of(self.method)
        set_here: dict[str, Any] = {}
        if "distance" in inspect.signature(made).parameters:
            set_here["distance"] = foolbox.distances.LpDistance(ORDERS[threat.norm])
        if "constraint" in inspect.signature(made).parameters:
            set_here["constraint"] = threat.norm.value
        attack = made(**self.args, **set_here)
        model = foolbox.PyTorchModel(facade, bounds=(0, 1), device=x.device)
        goal = foolbox.criteria.TargetedMisclassification(y) if threat.targeted else foolbox.Misclassification(y)
        if isinstance(attack, MinimizationAttack):
            found: Tensor = attack.run(model, x, goal)
        else:
            found = attack.run(model, x, goal, epsilon=threat.radius)
        return found


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return Foolbox
