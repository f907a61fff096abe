"""Adversarial-library: any of its attacks by name. Rony & Ben Ayed, 2021, doi:10.5281/zenodo.5815063."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from benchmark.api import Attack, DataSpec, Norm, Refused, Threat, hookimpl

from .._toolkit import imported
from ._toolkits.bridge import Bridge, Method, methods_of
from ._toolkits.facade import Facade

ORDERS = {Norm.linf: float("inf"), Norm.l2: 2, Norm.l1: 1, Norm.l0: 0}
METHODS = {
    **methods_of("pgd_linf", Norm.linf),
    **methods_of("apgd", Norm.linf, Norm.l2, Norm.l1),
    **methods_of("apgd_targeted", Norm.linf, Norm.l2, Norm.l1, targeted=False),
    **methods_of("df", Norm.linf, Norm.l2, minimal=True, targeted=False),
    **methods_of("sdf", Norm.l2, minimal=True, targeted=False),
    **methods_of("alma", Norm.l2, Norm.l1, minimal=True),
    **methods_of("carlini_wagner_l2 ddn pdgd", Norm.l2, minimal=True),
    **methods_of("carlini_wagner_linf", Norm.linf, minimal=True),
    **methods_of("fab", Norm.linf, Norm.l2, Norm.l1, minimal=True, targeted=False),
    **methods_of("fmn", Norm.linf, Norm.l2, Norm.l1, minimal=True),  # its l0 fails where eps begins at 0
    **methods_of("pdpgd", *Norm, minimal=True),
    **methods_of("fga vfga", Norm.l0, minimal=True),
    **methods_of("sigma_zero", Norm.l0, minimal=True, targeted=False),  # given a target it returns the clean input
    **methods_of("tr", Norm.linf, Norm.l2, minimal=True, targeted=False),
}

LEFT_OUT = {
    "perc_al": "measures a distance of colours, which is no norm of a threat",
    "str_attack": "measures structured sparsity, which is no norm of a threat",
}
"""Attacks of adversarial-library that are not offered, with the reason."""

UNUSED = ("torchvision", "torchvision.models", "visdom")
"""Packages imported for perceptual distances and plots, which none of these attacks uses."""


@dataclass(frozen=True)
class AdvLib(Bridge):
    """An attack of adversarial-library, by the name of its function.

    method, args, project, version: see `attack=foolbox`, whose settings all bridges share.
    """

    package: ClassVar[str] = "adv_lib"
    distribution: ClassVar[str] = "adv-lib"
    install: ClassVar[str] = "pip install --no-deps adv-lib==0.2.8 (the torchvision and visdom it names are not needed)"
    known: ClassVar[dict[str, Method]] = METHODS
    owned: ClassVar[frozenset[str]] = frozenset(
        {"model", "inputs", "labels", "targeted", "eps", "ε", "norm", "distance", "callback"}
    )

    method: str = "pgd_linf"

    @classmethod
    def has(cls, name: str) -> bool:
        """True if adv_lib.attacks has an attack of that name."""
        return hasattr(_attacks(), name)

    @classmethod
    def signature_of(cls, name: str) -> Callable[..., Any]:
        """Function of the attack."""
        found: Callable[..., Any] = getattr(_attacks(), name)
        return found

    def check(self, spec: DataSpec, threat: Threat) -> None:
        """Refuse too few classes for the difference of logits ratio."""
        super().check(spec, threat)
        loss = self.args.get("loss_function", "dlr" if self.method.startswith("apgd") else "ce")
        if "dlr" in str(loss) and spec.classes < 4:
            raise Refused(f"adv_lib's {self.method} with its loss {loss} needs 4 classes, and there are {spec.classes}")

    def run(self, facade: Facade, x: Tensor, y: Tensor, *, threat: Threat, seed: int) -> Tensor:
        """Call the attack's function."""
        call = self.signature_of(self.method)
        named = {
            "targeted": threat.targeted,
            "eps": threat.radius,
            "ε": threat.radius,
            "norm": ORDERS[threat.norm],
            "distance": threat.norm.value,
        }
        taken = set(inspect.signature(call).parameters)
        if self.supports.minimal:
            taken -= {"eps", "ε"}
        if self.method == "tr":
            named["p"] = ORDERS[threat.norm]
        given = {name: value for name, value in named.items() if name in taken} | self.args
        found: Tensor = call(facade, x, y, **given)
        return found


def _attacks() -> Any:
    with _placeholders():
        return imported("adv_lib.attacks")


@contextlib.contextmanager
def _placeholders() -> Iterator[None]:
    """Insert empty modules for missing packages of :data:`UNUSED` during the import."""
    absent = [
        name for name in UNUSED if name not in sys.modules and importlib.util.find_spec(name.partition(".")[0]) is None
    ]
    for name in absent:
        sys.modules[name] = types.ModuleType(name)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, sys.modules[name])
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return AdvLib
