"""AutoAttack, the packaged reference code. Croce & Hein, ICML 2020, arXiv:2003.01690."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from benchmark.api import Access, Attack, DataSpec, Norm, Refused, Threat, hookimpl

from ._toolkits.bridge import Bridge, Method, methods_of
from ._toolkits.facade import Facade

NORMS = {Norm.linf: "Linf", Norm.l2: "L2", Norm.l1: "L1"}
VERSIONS = frozenset({"standard", "plus", "rand"})
METHODS = {
    **methods_of("apgd-ce apgd-dlr apgd-t fab fab-t standard plus rand", *NORMS, targeted=False),
    **methods_of("square", *NORMS, access=Access.scores, targeted=False),
}
LEAST_CLASSES = {"apgd-dlr": 3, "apgd-t": 4, "standard": 4, "plus": 4, "rand": 3}
"""Fewest classes per loss: the difference of logits ratio uses the third class, its targeted form the fourth."""


@dataclass(frozen=True)
class PyAutoAttack(Bridge):
    """A version of AutoAttack, or one of its attacks, with the settings of the packaged code.

    `n_iter`, `n_restarts` and `n_queries` can be set, for all of its attacks that have them.

    method, args, project, version: see `attack=foolbox`, whose settings all bridges share.
    """

    package: ClassVar[str] = "pyautoattack"
    distribution: ClassVar[str] = "pyautoattack"
    install: ClassVar[str] = "pip install 'adversarial-benchmark[pyautoattack]'"
    known: ClassVar[dict[str, Method]] = METHODS
    owned: ClassVar[frozenset[str]] = frozenset(
        {"self", "model", "attacks", "device", "eps", "norm", "seed", "version"}
    )

    method: str = "apgd-ce"

    @classmethod
    def has(cls, name: str) -> bool:
        """True for a known method; all versions of the package have the same."""
        return True

    @classmethod
    def signature_of(cls, name: str) -> Callable[..., Any]:
        """Settings that can be set: attributes of the attacks, which have no signature."""
        return _settings

    def check(self, spec: DataSpec, threat: Threat) -> None:
        """Refuse data other than images, and too few classes for a loss over several logits."""
        super().check(spec, threat)
        least = LEAST_CLASSES.get(self.method, 2)
        if len(spec.shape) != 3 or spec.classes < least:
            raise Refused(
                f"pyautoattack's {self.method} needs images of shape (C, H, W) and at least {least} classes, but "
                f"there are {spec.classes} classes of examples of shape {spec.shape}"
            )

    def run(self, facade: Facade, x: Tensor, y: Tensor, *, threat: Threat, seed: int) -> Tensor:
        """Call `run_standard_evaluation` on one example."""
        import pyautoattack

        one = self.method not in VERSIONS
        chosen: dict[str, Any] = {"version": "custom", "attacks": [self.method]} if one else {"version": self.method}
        attack = pyautoattack.AutoAttack(
            facade, eps=threat.radius, norm=NORMS[threat.norm], seed=seed, device=x.device, **chosen
        )
        _fit(attack, facade.classes)
        for part in (attack.apgd, attack.apgd_targeted, attack.fab, attack.square):
            for name, value in self.args.items():
                if hasattr(part, name):
                    setattr(part, name, value)
        found = attack.run_standard_evaluation(x, y, batch_size=1)
        x_adv: Tensor = found[0] if isinstance(found, tuple) else found
        return x_adv


def _settings(n_iter: int, n_restarts: int, n_queries: int) -> None:
    """Signature with the names of the settings."""


def _fit(attack: Any, classes: int) -> None:
    """Limit the target classes to the number of classes, as required by the package's own checks."""
    attack.apgd_targeted.n_target_classes = min(attack.apgd_targeted.n_target_classes, classes - 1)
    attack.fab.n_target_classes = min(attack.fab.n_target_classes, classes - 1)


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return PyAutoAttack
