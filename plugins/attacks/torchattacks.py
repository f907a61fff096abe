"""Torchattacks: any of its attacks by name. Kim, 2020, arXiv:2010.01950."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from benchmark.api import Access, Attack, DataSpec, Norm, Refused, Threat, hookimpl

from .._toolkit import imported
from ._toolkits.bridge import Bridge, Method, methods_of
from ._toolkits.facade import Facade

NORMS = {Norm.linf: "Linf", Norm.l2: "L2", Norm.l1: "L1"}
METHODS = {
    **methods_of(
        "FGSM BIM RFGSM PGD EOTPGD MIFGSM NIFGSM SINIFGSM DIFGSM TIFGSM VMIFGSM VNIFGSM PIFGSMPP Jitter \
        PGDRS",
        Norm.linf,
    ),
    **methods_of("FFGSM UPGD", Norm.linf),
    **methods_of("TPGD PIFGSM", Norm.linf, targeted=False),
    **methods_of("PGDL2 PGDRSL2", Norm.l2),
    **methods_of("APGD APGDT", Norm.linf, Norm.l2, targeted=False),
    **methods_of("AutoAttack", Norm.linf, Norm.l2, targeted=False),
    **methods_of("FAB", Norm.linf, Norm.l2, targeted=False, minimal=True),
    **methods_of("Square", Norm.linf, Norm.l2, access=Access.scores),
    **methods_of("SPSA", Norm.linf, access=Access.scores),
    **methods_of("CW", Norm.l2, minimal=True),
    **methods_of("DeepFool", Norm.l2, minimal=True, targeted=False),
    **methods_of("SparseFool", Norm.l1, minimal=True, targeted=False),
    **methods_of("EADL1 EADEN", Norm.l1, minimal=True),
    **methods_of("JSMA", Norm.l0, minimal=True),
    **methods_of("OnePixel", Norm.l0, access=Access.scores, minimal=True),
    **methods_of("Pixle", Norm.l0, access=Access.scores, minimal=True),
}

LEFT_OUT = {
    "GN": "adds noise of any size; attack=noise keeps to a radius",
    "LGV": "trains models of its own from a data loader, for transfer",
    "MultiAttack": "is a list of attacks; attack=cascade does that here",
    "VANILA": "returns the clean input; attack=none does that here",
}
"""Attacks of Torchattacks that are not offered, with the reason."""

IMAGES = frozenset({"DIFGSM", "TIFGSM", "PIFGSM", "PIFGSMPP", "OnePixel", "Pixle", "Square", "SparseFool", "JSMA"})
"""Methods for images (C, H, W) only."""


@dataclass(frozen=True)
class TorchAttacks(Bridge):
    """An attack of Torchattacks, by the name of its class.

    method, args, project, version: see `attack=foolbox`, whose settings all bridges share.
    """

    package: ClassVar[str] = "torchattacks"
    distribution: ClassVar[str] = "torchattacks"
    install: ClassVar[str] = (
        "pip install --no-deps torchattacks==3.5.1 (it pins an old requests, which it does not need)"
    )
    known: ClassVar[dict[str, Method]] = METHODS
    owned: ClassVar[frozenset[str]] = frozenset({"self", "model", "eps", "max_epsilon", "norm", "n_classes", "verbose"})

    method: str = "FGSM"

    @classmethod
    def has(cls, name: str) -> bool:
        """True if the package has an attack of that name."""
        return hasattr(imported("torchattacks"), name)

    @classmethod
    def signature_of(cls, name: str) -> Callable[..., Any]:
        """Class of the attack; its constructor's parameters are the settings."""
        found: Callable[..., Any] = getattr(imported("torchattacks"), name)
        return found

    def check(self, spec: DataSpec, threat: Threat) -> None:
        """Refuse data other than images for methods that need images."""
        super().check(spec, threat)
        if self.method in IMAGES and len(spec.shape) != 3:
            raise Refused(
                f"torchattacks' {self.method} needs images of shape (C, H, W), but an example has the shape "
                f"{spec.shape}"
            )

    def run(self, facade: Facade, x: Tensor, y: Tensor, *, threat: Threat, seed: int) -> Tensor:
        """Call the attack."""
        named = {
            "eps": threat.radius,
            "max_epsilon": threat.radius,
            "norm": NORMS.get(threat.norm),
            "n_classes": facade.classes,
            "seed": seed,
            "verbose": False,
        }
        made = self.signature_of(self.method)
        taken = inspect.signature(made).parameters
        attack = made(facade, **({name: value for name, value in named.items() if name in taken} | self.args))
        if threat.targeted:
            attack.set_mode_targeted_by_label(quiet=True)
        found: Tensor = attack(x, y)
        return found


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return TorchAttacks
